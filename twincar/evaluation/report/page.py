"""Writes one page that tells all of a model: one HTML file that opens anywhere, offline, without a server.

It shows what the other verbs left where `Subject.reports` says; a part whose file is not there yet says which command
makes it. Of a model without a run folder it is not known how it was trained, and the page says so.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from scipy import sparse

from twincar.core.errors import TwinCarError, UsageError
from twincar.core.files import sha256_of_file, write_text
from twincar.core.html import plotly_script, render, script_json
from twincar.core.labels import ClassNames
from twincar.core.local_paths import name_only
from twincar.core.progress import Progress
from twincar.core.runs import best_epoch, ending
from twincar.core.version import __version__
from twincar.data.dataset import MANIFEST, PreparedData
from twincar.evaluation.report import artifacts as files
from twincar.evaluation.report import figures
from twincar.evaluation.report.artifacts import Answer
from twincar.evaluation.report.photos import Album, show_mistakes, show_twins
from twincar.evaluation.subject import Subject
from twincar.metrics.classification import classes_to_show, confusion_matrix, most_confused
from twincar.models.spec import NOT_VALIDATED

log = logging.getLogger(__name__)

REPORT = "report.html"
LARGEST = 15_000_000  # bytes of a page, so that it can be sent by mail
_WITHOUT_PICTURES = 6_000_000  # bytes of it for all else; Plotly takes 4.8 million
_A_CLASS = 1_000  # bytes of it for a class's row and choice
_TWINS = 12  # pairs
_NO_DATA = "The data set was not where it was before. To show photos, report again with --data."
_FITS = 0.02  # between mean confidence and accuracy


@dataclass(frozen=True)
class Report:
    """The page."""

    path: Path
    split: str
    """Whose photos it is about."""
    bytes: int


@dataclass(frozen=True)
class _Confusion:
    """Which classes are taken for which; K×K cells, truth by answer."""

    matrix: sparse.csr_array
    classes: ClassNames

    @classmethod
    def of(cls, answers: Sequence[Answer], classes: ClassNames) -> _Confusion:
        truth, predicted = (
            np.array([classes.index(name) for name in names], np.int64)
            for names in ([answer.truth for answer in answers], [answer.answer for answer in answers])
        )
        return cls(confusion_matrix(truth, predicted, len(classes)), classes)

    def pairs(self, count: int) -> list[tuple[str, str, int, int]]:
        """The twins: (first, second, first taken for second, second for first), most often first."""
        names, matrix = self.classes, self.matrix
        return [
            (names[first], names[second], int(matrix[first, second]), int(matrix[second, first]))
            for first, second, _ in most_confused(matrix, count)
        ]

    def figure(self) -> tuple[figures.Figure, int, int]:
        """The figure, how many classes it shows, and of how many."""
        shown, present = classes_to_show(self.matrix)
        cells, support = self.matrix[shown][:, shown].toarray(), self.matrix.sum(axis=1)[shown]
        return figures.confusion(cells, support, [self.classes[index] for index in shown]), len(shown), present


def report(
    model: str | Path | None = None,
    *,
    split: str | None = None,
    data_folder: str | Path | None = None,
    out: str | Path | None = None,
    on_photo: Progress | None = None,
) -> Report:
    """Write the page of an evaluated model.

    Args:
        model: a run folder, a folder of results, or any other model with the data that it was evaluated on.
        split: an evaluated split, 'val', 'test' or 'train'; the test photos where evaluated, else those of validation.
        data_folder: the data set that it was evaluated on, if it is not the one that a run was trained on.
        out: the file; `report.html` beside the results unless given.
        on_photo: called with mistakes shown and in all, for a progress bar.

    Returns:
        The path of the page, the split it shows, and its size in bytes.

    Raises:
        UsageError: no such model, or it was not evaluated on that split.
        DataError: a file of the results is damaged.
        CheckpointError: the weights are damaged.
        StorageError: the page cannot be written.
    """
    subject = Subject.open(model, data_folder=data_folder, split=split)
    data = _open_data(subject)
    reports = subject.reports if data else subject.own_reports
    split = _evaluated_split(subject, reports)
    spec = subject.spec
    metrics = files.read_metrics(reports / split)
    answers, classes = files.read_predictions(reports / split), files.read_classes(reports / split)
    room = LARGEST - _WITHOUT_PICTURES - _A_CLASS * len(classes)
    album = Album(data.photo_root if data else None, room)
    confusion = _Confusion.of(answers, spec.classes)
    wrong = [answer for answer in answers if not answer.correct]
    twins = show_twins(confusion.pairs(_TWINS), answers, {row.name: row.photos for row in classes}, album)
    mistakes = show_mistakes(wrong, album, subject.engine, spec, on_photo)
    page = render(
        "report.html.jinja",
        title=f"TwinCar report: {subject.name}",
        classes=classes,
        wrong=len(wrong),
        surety=(surety := _surety(answers)),
        surety_verdict=_surety_verdict(surety["all"], metrics),
        above_chance=metrics.accuracy.low > metrics.chance.accuracy,
        mistakes=mistakes,
        mistaken=sorted({name for mistake in mistakes for name in (mistake.answer.truth, mistake.answer.answer)}),
        twins=twins,
        comparisons=files.read_comparisons(reports),
        no_data=_NO_DATA if data is None else "",
        unreadable=len(album.missing),
        partly_seen=any(mistake.partly_seen for mistake in mistakes),
        plotly=plotly_script(),
        commands=_commands(subject, reports, split),
        **_described(subject, data),
        **_trained(subject),
        **_measured(subject, reports, metrics, confusion),
    )
    path = Path(out) if out else reports / REPORT
    write_text(path, page)
    return Report(path, split, path.stat().st_size)


def _evaluated_split(subject: Subject, reports: Path) -> str:
    evaluated = [split for split in ("test", "val", "train") if (reports / split / files.METRICS).exists()]
    wanted, other = subject.wanted_split, subject.data_folder
    if wanted is None and evaluated:
        return evaluated[0]
    if wanted is None or wanted not in evaluated:
        found = f"on {' and '.join(evaluated)} photos only" if evaluated else "on none"
        raise UsageError(
            f"Expected {subject.path} to be evaluated{f' on {wanted} photos' if wanted else ''}"
            f"{f' of {other}' if other else ''}, and it was {found}. "
            f"First run: {_command('evaluate', *_of_split(subject.path, wanted or 'test', other))}"
        )
    return wanted


def _open_data(subject: Subject) -> PreparedData | None:
    """The data set; None where it has gone: the page is then made without photos."""
    try:
        return subject.data
    except TwinCarError as error:
        if subject.run is None and subject.out is None:  # where its results are hangs on the data
            raise
        log.warning("The page shows no photos. %s", error)
        return None


def _surety(answers: Sequence[Answer]) -> dict[str, float | None]:
    """Mean confidence of all answers, of the right and of the wrong ones."""
    groups = {
        "all": answers,
        "right": [answer for answer in answers if answer.correct],
        "wrong": [answer for answer in answers if not answer.correct],
    }
    return {name: fmean(answer.confidence for answer in group) if group else None for name, group in groups.items()}


def _surety_verdict(surety: float | None, metrics: files.Metrics) -> str:
    """What a mean confidence is worth beside the accuracy it foretells."""
    found = metrics.accuracy
    if surety is None:
        return "there is nothing to compare"
    if abs(surety - found.value) < _FITS or found.low <= surety <= found.high:
        known = "that fits"
        return known if found.low > metrics.chance.accuracy else f"{known}, but it is no more than chance"
    return "too sure of itself" if surety > found.value else "more cautious than it need be"


def _described(subject: Subject, data: PreparedData | None) -> dict[str, Any]:
    """What the model is, as far as any kind of model tells."""
    spec = subject.spec
    provenance = spec.provenance
    hashes = {subject.weights.name: sha256_of_file(subject.weights)}
    if data and (data.folder / MANIFEST).is_file():
        hashes["manifest.json of the data"] = sha256_of_file(data.folder / MANIFEST)
    return {
        "backbone": spec.backbone,
        "width": spec.preprocessing.width,
        "height": spec.preprocessing.height,
        "model_classes": len(spec.classes),
        "not_validated": provenance.get(NOT_VALIDATED) or [],
        "calibrated_on": spec.calibration.photos,
        "training_photos": data.manifest["photos"].get("train") if data and subject.is_own_data else None,
        "source": (provenance.get("data") or {}).get("source")
        or (name_only(subject.config.data) if subject.config else ""),
        "versions": {**(provenance.get("versions") or {}), "report by twincar": __version__},
        "hashes": hashes,
    }


def _trained(subject: Subject) -> dict[str, Any]:
    """How a run was trained; of any other model that is not known."""
    config, history = subject.config, subject.history
    if config is None:
        return {"is_run": False}
    return {
        "is_run": True,
        "epochs": len(history),
        "best_epoch": int(best_epoch(history)["epoch"]),
        "ending": ending(history, epochs=config.epochs, patience=config.patience),
        "config_text": config.without_paths().to_yaml(),
    }


def _measured(subject: Subject, reports: Path, metrics: files.Metrics, confusion: _Confusion) -> dict[str, Any]:
    """What the verbs measured, and the figures of it."""
    folder, history = reports / metrics.split, subject.history
    corruptions = files.read_corruptions(folder)
    matrix, shown, present = confusion.figure()
    drawn = {
        "loss": history and figures.loss_curves(history),
        "quality": history and figures.quality_curves(history),
        "confusion": matrix,
        "reliability": figures.reliability(metrics.calibration),
        "risk": figures.risk_coverage(metrics.risk_coverage),
        "corruptions": corruptions and figures.corruption_dots(corruptions),
    }
    return {
        "metrics": metrics,
        "corruptions": corruptions,
        "in_matrix": {"shown": shown, "present": present},
        "open_set": files.read_open_set(reports),
        "scores": files.read_explanation_scores(folder),
        "audit": files.read_audit(reports),
        "figures": script_json({name: figure for name, figure in drawn.items() if figure}),
    }


def _commands(subject: Subject, reports: Path, split: str) -> dict[str, str]:
    """What to type for each part of the page, with the names of the model and of the data's folder for their paths."""
    model = _named(subject.path) if Path(subject.path).exists() and not _is_on_hub(subject) else Path(subject.name)
    other = _named(subject.data_folder) if subject.data_folder else None
    trained_on = _named(Path(subject.config.data)) if subject.config else None
    of_split = _of_split(model, split, other)
    place = model / reports.relative_to(subject.path) if reports.is_relative_to(subject.path) else _named(reports)
    audited = ["--deep", "--model", model, "--out", place / "audit"]
    return {
        "train": _command("train", trained_on, "--config", model / "config.yaml") if trained_on else "",
        "evaluate": _command("evaluate", *of_split),
        "corruptions": _command("evaluate", *of_split, "--corruptions"),
        "open_set": _command("evaluate", model, *_of_data(other), "--open-set"),
        "scores": _command("explain", *of_split, "--score"),
        "audit": _command("audit", other or trained_on, *audited),
        "compare": _command("compare", *of_split),
        "report": _command("report", *of_split),
    }


def _is_on_hub(subject: Subject) -> bool:
    return isinstance(subject.model, str) and not Path(subject.model).exists()


def _named(folder: Path) -> Path:
    return Path(name_only(str(folder.resolve())))


def _of_split(model: Path, split: str, data_folder: Path | None) -> list[object]:
    return [model, "--split", split, *_of_data(data_folder)]


def _of_data(data_folder: Path | None) -> list[object]:
    return ["--data", data_folder] if data_folder else []


def _command(*words: object) -> str:
    return shlex.join(["twincar", *map(str, words)])
