"""Write the folder of a Hugging Face space that serves the demo: app, requirements, card, licence, model, examples.

All of it is public. So examples are written as pixels, without the camera's metadata, and the licence is the model's
own. The space contains the package as it is installed here, because the name of an unreleased package is free on an
index: an attacker could register it, and run code in every space that installs it.
"""

from __future__ import annotations

import shutil
from importlib import metadata, resources
from pathlib import Path
from string import Template

from twincar.core.errors import UsageError
from twincar.core.extras import requirements_of
from twincar.core.files import is_free, read_asset, working_folder, write_bytes, write_text
from twincar.core.hub import find_repository
from twincar.core.portable import rename_folder
from twincar.deploy.examples import find_examples, pixels_only
from twincar.detection.detector import BUNDLED
from twincar.inference.classifier import Classifier
from twincar.models.license import License
from twincar.models.spec import ModelSpec

_MODEL, _EXAMPLES, _LICENSE, _PACKAGE = "model.onnx", "examples", "LICENSE", "twincar"
_SOURCES = frozenset((".css", ".html", ".jinja", ".js", ".py", ".template", ".txt", ".typed"))
"""Suffixes of the package's files that are copied, and the bundled detector; the bundled model and other files of a
checkout are not."""


def write_space(model: str, folder: Path, *, examples: Path | None = None) -> Path:
    """Write the files of a space to `folder`; returns it.

    Args:
        model: an exported `.onnx` file, which is copied, or owner/name on the hub, from which the space downloads it.
        folder: a new or an empty folder.
        examples: a folder of example photos, which are copied.

    Raises:
        UsageError: `folder` is not empty, `model` is neither, there are no example photos, or the package is not
            installed.
        PhotoError: an example cannot be read.
        CheckpointError: the model is damaged, or was not exported by TwinCar.
        StorageError: it cannot be written; no files remain.
    """
    if not is_free(folder):
        raise UsageError(f"Expected a new or an empty folder for the space, but {folder} is not empty.")
    repository = _repository(model)
    spec = Classifier.load(model).spec  # a model that opens here opens in the space
    photos = find_examples(examples) if examples else []
    values = {
        **_terms(spec),
        "requirements": _requirements(),
        "gradio": metadata.version("gradio"),
        "model": repr(model) if repository else f'str(folder / "{_MODEL}")',
        "examples": f'folder / "{_EXAMPLES}"' if photos else None,
        "models": f"\nmodels:\n- {repository}" if repository else "",
        "classes": "one car" if len(spec.classes) == 1 else f"{len(spec.classes)} cars",
        "origin": f"[{repository}](https://huggingface.co/{repository})" if repository else f"`{_MODEL}` in this space",
    }
    with working_folder(folder) as scratch:
        if not repository:
            shutil.copyfile(model, scratch / _MODEL)
        for number, photo in enumerate(photos, start=1):
            write_bytes(scratch / _EXAMPLES / f"{number:02d}.jpg", pixels_only(photo))
        _write_package(scratch / _PACKAGE)
        for name in ("gitattributes", "requirements.txt", "README.md", "app.py", _LICENSE):
            target = scratch / (f".{name}" if name == "gitattributes" else name)
            write_text(target, Template(read_asset(f"space/{name}.template")).substitute(values))
        rename_folder(scratch, folder)
    return folder


def _terms(spec: ModelSpec) -> dict[str, str]:
    """The model's licence, for the card and the licence file."""
    license = License.of(spec)
    names = {"license": license.id, "license_name": license.name}
    return {
        "license": "".join(f"\n{name}: {value}" for name, value in names.items() if value),
        "weights": license.weights,
        "data": license.data,
        "notice": spec.license_notice.strip() or f"Its weights: {license.weights}",
    }


def _requirements() -> str:
    found = requirements_of("demo")
    if not found:
        raise UsageError(
            "Expected twincar to be installed, so that its metadata lists what a space needs, but it has none. In the "
            "checkout: pip install '.[demo]'"
        )
    return "\n".join(found)


def _write_package(target: Path) -> None:
    """Copy the package itself, with its license."""
    source = Path(str(resources.files("twincar")))
    for path in source.rglob("*"):
        name = path.relative_to(source)
        wanted = path.suffix in _SOURCES or path.is_relative_to(BUNDLED.parent)
        if wanted and path.is_file() and not any(part.startswith(".") for part in name.parts):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / name)
    write_text(target / _LICENSE, metadata.distribution(_PACKAGE).read_text("licenses/LICENSE") or "")


def _repository(model: str) -> str:
    """The repository on the hub of a model; empty for an exported file.

    Raises:
        UsageError: it is neither.
    """
    path = Path(model)
    if path.suffix == ".onnx" and path.is_file():
        return ""
    on_hub = find_repository(model)
    if on_hub is None:
        raise UsageError(
            "Expected an exported .onnx file, or owner/name on the hub, for a space without torch, but found "
            f"{model}. Make one: twincar export RUN"
        )
    return on_hub.name
