"""Locate a model: a path, or the file of a repository on the hub that an engine opens. Torch-free."""

from __future__ import annotations

from pathlib import Path

from twincar.core.errors import HubError, UsageError
from twincar.core.hub import Repository, fetch, find_repository
from twincar.core.options import EngineName
from twincar.core.run_files import CONFIG_FILE, HISTORY_FILE, WEIGHTS_FILE

ONNX_FILE = "model.onnx"
"""An exported model, which needs no other file."""
PUBLISHED_FILE = "efficientnetv2_best_model.pth"
"""The third-party weights in `kikogazda/Efficient_NetV2_Edition`, without class names and calibration."""
PUBLISHED_BACKBONE = "efficientnetv2_rw_s"
"""Backbone of these weights."""
MODEL_FILES = (ONNX_FILE, WEIGHTS_FILE, PUBLISHED_FILE)
"""In order of preference: the one with the fewest dependencies first."""
CARD = "README.md"
CLASSES_FILE, CALIBRATION_FILE, EVALUATION_FILE = "classes.json", "calibration.json", "evaluation.json"
TIMM_CONFIG, TIMM_WEIGHTS = "config.json", "model.safetensors"
"""The files that `timm.create_model("hf_hub:owner/name")` downloads."""
PICTURES = ("reliability.png", "most_confused.png")
REPOSITORY_FILES = (
    *(CARD, CONFIG_FILE, HISTORY_FILE),
    *(CLASSES_FILE, CALIBRATION_FILE, EVALUATION_FILE),
    *(TIMM_CONFIG, TIMM_WEIGHTS),
    *PICTURES,
)
"""The files that are published beside the model."""

_OPENED: dict[EngineName, tuple[str, ...]] = {
    "auto": MODEL_FILES,
    "torch": (WEIGHTS_FILE, PUBLISHED_FILE),
    "onnxruntime": (ONNX_FILE,),
    "openvino": (ONNX_FILE,),
}
_TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".tar", ".ckpt")  # of files written by `torch.save`
_WAYS_OUT = "If you meant a path: it does not exist here."


def find_model(model: str | Path, revision: str | None = None, engine: EngineName = "auto") -> Path:
    """The path of a model, given as a path or as a repository on the hub, from which it is downloaded.

    Raises:
        UsageError: a revision is given with a path.
        HubError: the model cannot be downloaded.
    """
    repository = find_repository(model, revision)
    return fetch_model(repository, engine) if repository else Path(model)


def check_weights(path: Path) -> None:
    """Check that a path may be that of a file of weights, before torch is needed to read it.

    Raises:
        UsageError: there is no such file, or one of another kind.
    """
    if not path.is_file():
        raise UsageError(
            f"Expected a model at {path} (a run folder, a model file, or owner/name on the hub), but there is none."
        )
    if path.suffix not in (".safetensors", *_TORCH_SUFFIXES):
        raise UsageError(f"Expected weights (.safetensors, .pth, .pt) or an exported model (.onnx), but found {path}.")


def fetch_model(repository: Repository, engine: EngineName = "auto") -> Path:
    """Download the file of a repository that this engine opens, and no other; returns its path in the hub's cache.

    Raises:
        HubError: the file cannot be downloaded, or the repository has no such file.
    """
    for name in _OPENED[engine]:
        path = fetch(repository, [name], otherwise=_WAYS_OUT) / name
        if path.exists():
            return path
    raise HubError(
        f"Expected a TwinCar model in {repository} ({' or '.join(_OPENED[engine])}), but it holds none. {_WAYS_OUT}"
    )
