"""Read weights files without running code in them, and load them into a network with clear errors.

`.safetensors` holds tensors only. A `.pth` is a pickle, which can contain any program; it is opened with torch's
`weights_only=True`, which refuses everything except tensors and plain containers.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from twincar.core.errors import CheckpointError, reason
from twincar.core.labels import shorten
from twincar.models.locate import check_weights

# Keys under which training scripts store the weights in a larger dictionary.
_NESTED = ("state_dict", "model_state_dict", "model")


def read_state_dict(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a weights file by name, and its metadata (empty for a `.pth`).

    Raises:
        UsageError: there is no such file.
        CheckpointError: it is damaged, or holds other objects than weights.
    """
    check_weights(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _plain_state(read_torch_file(path), path), {}


def read_torch_file(path: Path) -> Any:
    """The contents of a file written by `torch.save`, tensors and plain containers only.

    Raises:
        CheckpointError: it is damaged, or would run code when opened.
    """
    try:
        if _unpacked_bytes(path) > path.stat().st_size:
            raise ValueError("it is compressed, which files of torch.save never are")
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"Expected only weights in {path}, but it holds other objects or is not a torch file. It was not opened, "
            "because such a file can run any program; ask for a .safetensors file, or for the plain state_dict."
        ) from None
    except Exception as error:  # torch's readers raise almost anything for a damaged file
        raise CheckpointError(
            f"Expected a whole torch file in {path}, but it cannot be read: {reason(error)}."
        ) from None


def fit_weights(module: nn.Module, state: Mapping[str, Tensor], *, what: str, source: str) -> None:
    """Copy `state` into `module`, which must have exactly these names and shapes.

    Raises:
        CheckpointError: a name or shape differs, or a weight is not a finite number; `module` is unchanged.
    """
    own = module.state_dict()
    missing = [name for name in own if name not in state]
    extra = [name for name in state if name not in own]
    if missing or extra:
        raise CheckpointError(
            f"Expected the weights of {what} in {source}, but found another architecture: "
            f"{len(missing)} weights are missing ({shorten(missing, 2) or 'none'}), "
            f"{len(extra)} are unknown ({shorten(extra, 2) or 'none'}). Name the architecture of the file."
        )
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            raise CheckpointError(
                f"Expected {name} in {source} to have the shape {tuple(own[name].shape)} of {what}, but found "
                f"{tuple(tensor.shape)}. Name the architecture and the class names of the file."
            )
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_complex():
            raise CheckpointError(
                f"Expected plain real numbers in {source}, but {name} holds others ({tensor.type()}). Save the weights "
                "of the network as they are in training, neither quantised nor sparse."
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(
                f"Expected finite numbers in {source}, but {name} has others; the file cannot be used."
            )
    module.load_state_dict(dict(state))


def _unpacked_bytes(path: Path) -> int:
    """The unpacked size of an archive; torch writes archives without compression, but would unpack compressed ones."""
    if not zipfile.is_zipfile(path):
        return 0
    with zipfile.ZipFile(path) as archive:
        return sum(part.file_size for part in archive.infolist())


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except Exception as error:  # the library's own, the system's, and torch's for an unknown data type
        raise CheckpointError(f"Expected a whole safetensors file in {path}, but it cannot be read: {error}") from None


def _plain_state(content: object, path: Path) -> dict[str, Tensor]:
    """Find the weights in the result of `torch.load`, and strip the prefixes that wrappers of a model add."""
    if isinstance(content, dict):
        content = next((content[key] for key in _NESTED if isinstance(content.get(key), dict)), content)
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointError(f"Expected a dictionary of weights (a state_dict) in {path}, but found something else.")
    state = {str(name): tensor for name, tensor in content.items()}
    for prefix in ("module.", "_orig_mod."):
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state
