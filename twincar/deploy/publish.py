"""Publish a model on the hub: a run with its weights and results, or an exported model with what its header holds.

Nothing of the data is published: no photo, and no path of this computer.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from twincar.core.errors import UsageError
from twincar.core.files import working_folder, write_text
from twincar.core.hub import Repository, check_publishing, page_of, publish
from twincar.core.portable import rename_folder
from twincar.core.progress import Progress
from twincar.core.run_files import WEIGHTS_FILE
from twincar.core.wording import counted
from twincar.deploy.model_card import ModelCard
from twincar.deploy.published_files import write_model_files, write_run_files
from twincar.evaluation.subject import Subject
from twincar.models.locate import CARD, ONNX_FILE, REPOSITORY_FILES

log = logging.getLogger(__name__)


_OWN_FILES = (ONNX_FILE, WEIGHTS_FILE, *REPOSITORY_FILES)


@dataclass(frozen=True)
class Pushed:
    """The result of publishing a model, or of writing its files."""

    repository: str
    """owner/name."""
    files: dict[str, int]
    """Bytes by name."""
    split: str | None
    """The split that the results on the card are about; None if it has none, because the model is not a run."""
    accuracy: float | None
    loads_in_timm: bool
    folder: Path | None
    """The folder of the files, if they were not published."""
    commit: str | None
    """None if they were not published."""
    page: str | None

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self) | {"folder": str(self.folder) if self.folder else None}


def push(
    model: str | Path | None,
    name: str,
    *,
    private: bool = False,
    license: str | None = None,
    data_folder: str | Path | None = None,
    out: str | Path | None = None,
    on_photo: Progress | None = None,
) -> Pushed:
    """Publish a model as `owner/name` on the hub, on its main branch, in one commit.

    Of a run, the results on the card are those on the test photos, or on the validation photos if no test photo has a
    label. They are read from the reports of the run; if they are missing or older than the weights, it is evaluated. Of
    any other model, the card holds what the header of the file holds, and states what is not known.

    Args:
        model: a run folder, an exported `.onnx` file, a `.safetensors` file of a run, or a model on the hub; None is
            the bundled model.
        name: owner/name on the hub.
        private: visible to its owner only.
        license: of the weights, by its identifier on the hub; by default the one in the header of the model, or the one
            that follows from its data.
        data_folder: where the data set of a run is now, if it was moved.
        out: a new folder to write the files to, instead of publishing them.
        on_photo: called with photos done and in all, for a progress bar.

    Returns:
        The repository, its files with their sizes in bytes, and the commit, or the folder that was written.

    Raises:
        UsageError: there is no such model, it cannot be published, its header has another licence, `name` has another
            form, something is at `out`, or the data set is not that of the run.
        HubError: there is no token, it may not write there, or the hub cannot be reached or refuses.
        TwinCarError: the run cannot be evaluated or exported; nothing is published.
    """
    repository = _repository(name)
    data_folder, out = (Path(path) if path else None for path in (data_folder, out))
    if out is None:
        check_publishing(repository, private=private)
    elif out.exists():
        raise UsageError(f"Expected a new folder for --out, and {out} exists. Delete it, or choose another.")
    subject = Subject.open(model, data_folder=data_folder)
    with _folder(out) as folder:
        if subject.run:
            card = write_run_files(folder, subject, repository.name, license, on_photo)
        else:
            card = write_model_files(folder, subject, repository.name, license)
        write_text(folder / CARD, card.to_markdown())
        sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
        log.info("%s, %.1f MB.", counted(len(sizes), "file"), sum(sizes.values()) / 1e6)
        message = _message(card)
        commit = None if out else publish(folder, repository, private=private, message=message, own_files=_OWN_FILES)
    return _pushed(repository, card, sizes, out, commit)


def _pushed(
    repository: Repository, card: ModelCard, sizes: dict[str, int], out: Path | None, commit: str | None
) -> Pushed:
    metrics = card.run.metrics if card.run else None
    return Pushed(
        repository=repository.name,
        files=sizes,
        split=metrics.split if metrics else None,
        accuracy=metrics.accuracy.value if metrics else None,
        loads_in_timm=card.loads_in_timm,
        folder=out,
        commit=commit,
        page=page_of(repository) if commit else None,
    )


def _repository(name: str) -> Repository:
    repository = Repository.parse(name, "model")
    if repository.revision is not None:
        raise UsageError(
            f"Expected owner/name, and found {name!r}: a model is published on the main branch, whose commit pins it."
        )
    return repository


def _message(card: ModelCard) -> str:
    """The message of the commit."""
    what = f"A {card.spec.backbone} of {len(card.spec.classes)} classes"
    return f"{what}, accuracy {card.run.metrics.accuracy.value:.3f}" if card.run else what


@contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    """A folder to write to, which becomes `out` when it is complete, or is deleted after publishing."""
    with working_folder(out or Path(tempfile.gettempdir(), "twincar-push")) as folder:
        yield folder
        if out:
            rename_folder(folder, out)
