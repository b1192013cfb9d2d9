"""Replace the header of an exported `.onnx` file; needs the onnx package."""

from __future__ import annotations

from pathlib import Path

import onnx

from twincar.core.files import write_bytes
from twincar.models.spec import HEADER_KEY, ModelSpec


def copy_with_header(source: Path, target: Path, spec: ModelSpec) -> None:
    """Write a copy of the file `source` to `target` with the header of `spec`; its other metadata is kept.

    Raises:
        StorageError: it cannot be written.
    """
    model = onnx.load(source, load_external_data=False)
    others = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, {**others, HEADER_KEY: spec.to_header()})
    write_bytes(target, model.SerializeToString())
