"""The `pull` command: download a model and the files published beside it from the hub. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twincar.core.errors import HubError
from twincar.core.hub import Repository, fetch
from twincar.models.engines.onnxruntime_engine import read_onnx_spec
from twincar.models.locate import MODEL_FILES, ONNX_FILE, REPOSITORY_FILES
from twincar.models.spec import ModelSpec


@dataclass(frozen=True)
class Pulled:
    """A downloaded model."""

    repository: str
    """owner/name."""
    commit: str
    folder: Path
    """In the hub's cache."""
    files: dict[str, int]
    """Bytes by name."""
    model: Path
    """The model file."""
    spec: ModelSpec | None
    """The specification of an exported model; None for weights."""

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        spec = self.spec
        return {
            "repository": self.repository,
            "commit": self.commit,
            "folder": str(self.folder),
            "files": self.files,
            "model": str(self.model),
            "backbone": spec.backbone if spec else None,
            "classes": len(spec.classes) if spec else None,
            "height": spec.preprocessing.height if spec else None,
            "width": spec.preprocessing.width if spec else None,
            "calibrated_on": spec.calibration.photos if spec else None,
        }


def pull(name: str) -> Pulled:
    """Download the model `owner/name` or `owner/name@revision` into the hub's cache.

    Args:
        name: the repository; a branch, tag or commit may follow the `@`.

    Returns:
        The path of the model file, the commit, and what else was downloaded.

    Raises:
        UsageError: `name` has another form.
        HubError: it cannot be downloaded, or the repository has no TwinCar model.
        CheckpointError: the model is damaged.
    """
    repository = Repository.parse(name, "model")
    folder = fetch(repository, [*MODEL_FILES, *REPOSITORY_FILES], otherwise="Complete files are kept.")
    files = {path.name: path.stat().st_size for path in sorted(folder.glob("*")) if path.is_file()}
    model = next((folder / file for file in MODEL_FILES if file in files), None)
    if model is None:
        raise HubError(f"Expected a TwinCar model in {repository} ({' or '.join(MODEL_FILES)}), but it holds none.")
    spec = read_onnx_spec(model) if model.name == ONNX_FILE else None
    return Pulled(repository.name, folder.name, folder, files, model, spec)
