"""The folder of a Hugging Face space that serves the demo: app, requirements, card, model, examples."""

from __future__ import annotations

import shutil
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from string import Template

from twincar.demo import find_examples
from twincar.errors import UsageError
from twincar.files import working_folder, write_text
from twincar.hub import find_repository
from twincar.predict import Classifier
from twincar.version import __version__

_MODEL, _EXAMPLES = "model.onnx", "examples"


def write_space(model: str, folder: Path, *, examples: Path | None = None) -> Path:
    """Write what a space needs to `folder`; returns it.

    Args:
        model: an exported `.onnx` file, which is copied, or owner/name on the hub, from where the space fetches it.
        folder: a new or an empty one.
        examples: a folder of photos to click, which are copied.

    Raises:
        UsageError: `folder` holds something, `model` is neither, or no photo is among the examples.
        PhotoError: an example cannot be read.
        CheckpointError: the model is damaged, or none of ours.
        StorageError: it cannot be written; nothing is left of it.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"Expected a new or an empty folder for the space, and {folder} holds something.")
    repository = _repository(model)
    classes = len(Classifier.load(model).class_names)  # what opens here opens there
    photos = find_examples(examples) if examples else []
    values = {
        "version": __version__,
        "gradio": version("gradio"),
        "model": repr(model) if repository else f'str(folder / "{_MODEL}")',
        "examples": f'folder / "{_EXAMPLES}"' if photos else None,
        "models": f"\nmodels:\n- {repository}" if repository else "",
        "classes": "one car" if classes == 1 else f"{classes} cars",
        "origin": f"[{repository}](https://huggingface.co/{repository})" if repository else f"`{_MODEL}` in this space",
    }
    with working_folder(folder) as scratch:
        if not repository:
            shutil.copyfile(model, scratch / _MODEL)
        if photos:
            (scratch / _EXAMPLES).mkdir()
        for place, photo in enumerate(photos, start=1):
            shutil.copyfile(photo, scratch / _EXAMPLES / f"{place:02d}{Path(photo).suffix.lower()}")
        for name in ("gitattributes", "requirements.txt", "README.md", "app.py"):
            target = scratch / (f".{name}" if name == "gitattributes" else name)
            write_text(target, Template(_asset(name)).substitute(values))
        scratch.replace(folder)
    return folder


def _repository(model: str) -> str:
    """The repository on the hub that a model is named by; empty for an exported file.

    Raises:
        UsageError: it is neither.
    """
    path = Path(model)
    if path.suffix == ".onnx" and path.is_file():
        return ""
    on_hub = find_repository(model)
    if on_hub is None:
        raise UsageError(
            "Expected an exported .onnx file, or owner/name on the hub, for a space without torch, and found "
            f"{model}. Make one: twincar export RUN"
        )
    return on_hub.name


def _asset(name: str) -> str:
    return resources.files("twincar").joinpath(f"assets/space/{name}.template").read_text(encoding="utf-8")
