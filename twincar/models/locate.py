"""What a model's repository on the hub holds, and which of its files an engine opens. Torch-free."""

from __future__ import annotations

from pathlib import Path

from twincar.core.errors import HubError
from twincar.core.hub import Repository, fetch, find_repository
from twincar.core.options import EngineName

ONNX_FILE = "model.onnx"
"""An exported model; all that answering needs is in it."""
WEIGHTS_FILE = "best.safetensors"
"""The weights as a run keeps them, for torch."""
PUBLISHED_FILE = "efficientnetv2_best_model.pth"
"""Weights as `kikogazda/Efficient_NetV2_Edition` has them: no class names, no calibration."""
PUBLISHED_BACKBONE = "efficientnetv2_rw_s"
"""Of these weights."""
MODEL_FILES = (ONNX_FILE, WEIGHTS_FILE, PUBLISHED_FILE)
"""In the order they are looked for: what needs the least comes first."""
CARD, CONFIG_FILE, HISTORY_FILE = "README.md", "config.yaml", "metrics.csv"
CLASSES_FILE, CALIBRATION_FILE, EVALUATION_FILE = "classes.json", "calibration.json", "evaluation.json"
TIMM_CONFIG, TIMM_WEIGHTS = "config.json", "model.safetensors"
"""As `timm.create_model("hf_hub:owner/name")` asks for them."""
PICTURES = ("reliability.png", "most_confused.png")
REPOSITORY_FILES = (
    *(CARD, CONFIG_FILE, HISTORY_FILE),
    *(CLASSES_FILE, CALIBRATION_FILE, EVALUATION_FILE),
    *(TIMM_CONFIG, TIMM_WEIGHTS),
    *PICTURES,
)
"""What is published beside the model."""

_OPENED: dict[EngineName, tuple[str, ...]] = {
    "auto": MODEL_FILES,
    "torch": (WEIGHTS_FILE, PUBLISHED_FILE),
    "onnxruntime": (ONNX_FILE,),
    "openvino": (ONNX_FILE,),
}
_WAYS_OUT = "If a path was meant: there is none of that name here."


def find_model(model: str | Path, revision: str | None = None, engine: EngineName = "auto") -> Path:
    """The path of a model that is named as a path, or as one on the hub, from where it is then fetched.

    Raises:
        UsageError: a revision of a path.
        HubError: the hub does not give it.
    """
    repository = find_repository(model, revision)
    return fetch_model(repository, engine) if repository else Path(model)


def fetch_model(repository: Repository, engine: EngineName = "auto") -> Path:
    """The file of a repository that this engine opens, in the hub's cache; no other is fetched.

    Raises:
        HubError: the hub does not give it, or the repository holds no such file.
    """
    for name in _OPENED[engine]:
        path = fetch(repository, [name], otherwise=_WAYS_OUT) / name
        if path.exists():
            return path
    raise HubError(
        f"Expected a TwinCar model in {repository} ({' or '.join(_OPENED[engine])}), but it holds none. {_WAYS_OUT}"
    )
