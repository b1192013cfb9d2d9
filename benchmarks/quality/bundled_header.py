"""Writes the licence of the bundled model into its header, as its `LICENSE` has it.

python -m benchmarks.quality.bundled_header

Run it after replacing the bundled model. Running it again changes nothing.
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


def write_license(path: Path) -> None:
    """Write it into an exported model whose `LICENSE` lies beside the bundled model."""
    model = onnx.load(path)
    header = next(entry.value for entry in model.metadata_props if entry.key == HEADER_KEY)
    notice = MODEL.with_name("LICENSE").read_text(encoding="utf-8")
    spec = replace(with_license(ModelSpec.from_header(header, str(path)), LICENSE), license_notice=notice)
    onnx.helper.set_model_props(model, {HEADER_KEY: spec.to_header()})
    write_bytes(path, model.SerializeToString())


if __name__ == "__main__":
    write_license(MODEL)
    print(f"{MODEL.name}: {LICENSE}")
