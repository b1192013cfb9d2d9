"""Writes into the header of the bundled model what training does not know: its licence, and that its photos were crops.

python -m benchmarks.quality.bundled_header

Run it after replacing the bundled model. Running it again changes nothing, and it never changes the weights.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx

from twincar.core.files import write_bytes
from twincar.models.bundled import MODEL
from twincar.models.license import with_license
from twincar.models.spec import HEADER_KEY, ModelSpec

LICENSE = "cc-by-nc-4.0"
"""As `LICENSE` beside the bundled model has it."""
MARGIN = 0.0
"""Its training photos were cut to the box of the car, without a margin."""


def write_header(path: Path) -> None:
    """Write both into an exported model whose `LICENSE` lies beside the bundled model."""
    model = onnx.load(path)
    header = next(entry.value for entry in model.metadata_props if entry.key == HEADER_KEY)
    notice = MODEL.with_name("LICENSE").read_text(encoding="utf-8")
    spec = with_license(ModelSpec.from_header(header, str(path)), LICENSE)
    spec = replace(spec, license_notice=notice, framing="car", margin=MARGIN)
    onnx.helper.set_model_props(model, {HEADER_KEY: spec.to_header()})
    write_bytes(path, model.SerializeToString())


if __name__ == "__main__":
    write_header(MODEL)
    print(f"{MODEL.name}: {LICENSE}, cut to the car with a margin of {MARGIN}")
