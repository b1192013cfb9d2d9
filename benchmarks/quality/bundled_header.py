"""Writes into the header of the bundled model what training does not know: its licence, and that its photos were crops.

python -m benchmarks.quality.bundled_header

Run it after replacing the bundled model. Running it again changes nothing, and it never changes the weights.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import twincar
from twincar.models.bundled import MODEL
from twincar.models.engines.onnxruntime_engine import read_onnx_spec
from twincar.models.license import with_license
from twincar.models.onnx_head import ExportedModel

LICENSE = "cc-by-nc-4.0"
"""As `LICENSE` beside the bundled model has it."""
MARGIN = 0.0
"""Its training photos were cut to the box of the car, without a margin."""


def export_as_bundled(run: Path, model: Path) -> Path:
    """Export a run to `model` in the form of the bundled one: with int8 weights, and with this header."""
    draft = model.with_name("draft.onnx")
    draft.unlink(missing_ok=True)
    twincar.export(run, precision="int8-weights", out=draft)
    write_header(draft)
    return draft.replace(model)


def write_header(path: Path) -> None:
    """Write licence and framing into an exported model whose `LICENSE` lies beside the bundled model."""
    notice = MODEL.with_name("LICENSE").read_text(encoding="utf-8")
    spec = with_license(read_onnx_spec(path), LICENSE)
    ExportedModel.read(path).write(path, replace(spec, license_notice=notice, framing="car", margin=MARGIN))


if __name__ == "__main__":
    write_header(MODEL)
    print(f"{MODEL.name}: {LICENSE}, cut to the car with a margin of {MARGIN}")
