"""The files of a model, and their hash, by which results know the model that made them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from twincar.core.errors import UsageError
from twincar.core.files import sha256_of_file
from twincar.core.run_files import WEIGHTS_FILE
from twincar.models.engines.base import OPENVINO_HEADER, OPENVINO_MODEL


def model_files(model: Path) -> dict[str, Path]:
    """The files of a model, by the names under which they are kept with its results.

    Raises:
        UsageError: it is neither an exported model nor one of a run.
    """
    if (model / OPENVINO_MODEL).is_file():
        names = (OPENVINO_MODEL, "model.bin", OPENVINO_HEADER)
        return {name: model / name for name in names}
    if (model / WEIGHTS_FILE).is_file():
        return {WEIGHTS_FILE: model / WEIGHTS_FILE}
    if model.suffix in (".onnx", ".safetensors"):
        return {f"model{model.suffix}": model}
    raise UsageError(
        f"Expected an exported model, a run folder or a .safetensors file of a run, but found {model}. "
        "Third-party weights have to be exported first (twincar export)."
    )


def sha256_of_files(files: Mapping[str, Path]) -> str:
    """One SHA-256 of files and their names."""
    digest = hashlib.sha256()
    for name, path in files.items():
        digest.update(f"{name} {sha256_of_file(path)}\n".encode())
    return digest.hexdigest()
