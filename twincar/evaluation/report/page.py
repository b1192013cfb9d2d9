"""Write the report of a model: one HTML file that opens anywhere, offline, without a server.

It shows the results that the other verbs have written to `Subject.reports`; where a result is missing, it names the
command that computes it. How a model was trained is known only for a run, and the page says so.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

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
from twincar.evaluation.report import artifacts, figures
from twincar.evaluation.report.photos import ImageBudget, show_mistakes, show_twins
from twincar.evaluation.results import METRICS, PREDICTIONS, Evaluation, PhotoPrediction, confusion_of
from twincar.evaluation.subject import Subject
from twincar.metrics.classification import classes_to_show, most_confused
from twincar.models.spec import NOT_VALIDATED

log = logging.getLogger(__name__)

REPORT = "report.html"
MAX_PAGE_BYTES = 15_000_000  # of the page, so that it can be sent by mail
_BYTES_WITHOUT_IMAGES = 6_000_000  # of these, Plotly takes 4.8 million
_BYTES_PER_CLASS = 1_000  # for its row in the table and its entry in the filter
_TWINS = 12  # pairs
_NO_DATA = "The data set is no longer where it was. To show photos, run the report again with --data."
_TOLERANCE = 0.02  # of a difference between mean confidence and accuracy that is not reported


@dataclass(frozen=True)
class Report:
    """The page that was written."""

    path: Path
    split: str
    """The evaluated split."""
    bytes: int
    """Size of the file."""


@dataclass(frozen=True)
class _Confusion:
    """The confusion matrix, K×K, and the names of its classes."""

    matrix: sparse.csr_array
    classes: ClassNames

    def pairs(self, count: int) -> list[tuple[str, str, int, int]]:
        """The most confused pairs: (first, second, first predicted as second, second predicted as first)."""
        names, matrix = self.classes, self.matrix
        return [
            (names[first], names[second], int(matrix[first, second]), int(matrix[second, first]))
            for first, second, _ in most_confused(matrix, count)
        ]

    def figure(self) -> tuple[figures.PlotlyFigure, int, int]:
        """The figure, the number of classes that it shows, and the number of classes that occur."""
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
    """Write the report of an evaluated model.

    Args:
        model: a run folder, a folder of results, or any other model together with the data that it was evaluated on.
        split: an evaluated split: 'val', 'test' or 'train'; by default 'test' if it was evaluated, otherwise 'val'.
        data_folder: the data set that the model was evaluated on; by default the one that a run was trained on.
        out: the file; by default `report.html` beside the results.
        on_photo: called with the number of finished mistakes and their total, for a progress bar.

    Returns:
        The path of the page, the split it shows, and its size in bytes.

    Raises:
        UsageError: there is no such model, or it was not evaluated on that split.
        DataError: a file of the results is damaged.
        CheckpointError: the weights are damaged.
        StorageError: the page cannot be written.
    """
    subject = Subject.open(model, data_folder=data_folder, split=split)
    data = _open_data(subject)
    reports = subject.reports if data else subject.own_reports
    split = _evaluated_split(subject, reports)
    metrics, classes = artifacts.read_metrics(reports / split), artifacts.read_classes(reports / split)
    predictions = artifacts.read_predictions(reports / split / PREDICTIONS)
    images = _image_budget(data, len(classes))
    confusion = _Confusion(confusion_of(predictions, subject.spec.classes), subject.spec.classes)
    wrong = [row for row in predictions if not row.correct]
    twins = show_twins(confusion.pairs(_TWINS), predictions, {row.name: row.photos for row in classes}, images)
    mistakes = show_mistakes(wrong, images, subject.engine, subject.spec, on_photo)
    page = render(
        "report.html.jinja",
        title=f"TwinCar report: {subject.name}",
        classes=classes,
        wrong=len(wrong),
        confidence=(confidence := _mean_confidence(predictions)),
        calibration_verdict=_calibration_verdict(confidence["all"], metrics),
        above_chance=metrics.accuracy.low > metrics.chance.accuracy,
        mistakes=mistakes,
        mistaken=sorted({name for row in mistakes for name in (row.prediction.truth, row.prediction.predicted)}),
        twins=twins,
        comparisons=artifacts.read_comparisons(reports),
        no_data=_NO_DATA if data is None else "",
        unreadable=len(images.missing),
        any_cropped=any(mistake.is_cropped for mistake in mistakes),
        plotly=plotly_script(),
        commands=_commands(subject, reports, split),
        **_described(subject, data),
        **_trained(subject),
        **_measured(subject, reports, metrics, confusion),
    )
    write_text(path := Path(out) if out else reports / REPORT, page)
    return Report(path, split, path.stat().st_size)


def _image_budget(data: PreparedData | None, classes: int) -> ImageBudget:
    return ImageBudget(
        data.photos() if data else {}, MAX_PAGE_BYTES - _BYTES_WITHOUT_IMAGES - _BYTES_PER_CLASS * classes
    )


def _evaluated_split(subject: Subject, reports: Path) -> str:
    evaluated = [split for split in ("test", "val", "train") if (reports / split / METRICS).exists()]
    requested, other = subject.requested_split, subject.data_folder
    if requested is None and evaluated:
        return evaluated[0]
    if requested is None or requested not in evaluated:
        found = f"on {' and '.join(evaluated)} photos only" if evaluated else "on none"
        raise UsageError(
            f"Expected {subject.path} to be evaluated{f' on {requested} photos' if requested else ''}"
            f"{f' of {other}' if other else ''}, but it was evaluated {found}. "
            f"First run: {_command('evaluate', *_of_split(subject.path, requested or 'test', other))}"
        )
    return requested


def _open_data(subject: Subject) -> PreparedData | None:
    """The data set; None if it is missing, and the page then has no photos."""
    try:
        return subject.data
    except TwinCarError as error:
        if subject.run is None and subject.out is None:  # the folder of its results depends on the data
            raise
        log.warning("The page shows no photos. %s", error)
        return None


def _mean_confidence(predictions: Sequence[PhotoPrediction]) -> dict[str, float | None]:
    """Mean confidence of all predictions, of the correct and of the wrong ones; None if there are none."""
    groups = {
        "all": predictions,
        "right": [row for row in predictions if row.correct],
        "wrong": [row for row in predictions if not row.correct],
    }
    return {name: fmean(row.confidence for row in group) if group else None for name, group in groups.items()}


def _calibration_verdict(confidence: float | None, metrics: Evaluation) -> str:
    """Compare a mean confidence with the accuracy, in words."""
    accuracy = metrics.accuracy
    if confidence is None:
        return "there is nothing to compare"
    if abs(confidence - accuracy.value) < _TOLERANCE or accuracy.low <= confidence <= accuracy.high:
        verdict = "these agree"
        return verdict if accuracy.low > metrics.chance.accuracy else f"{verdict}, but the accuracy is that of chance"
    return "the model is overconfident" if confidence > accuracy.value else "the model is underconfident"


def _described(subject: Subject, data: PreparedData | None) -> dict[str, Any]:
    """The description of the model, from the header that any kind of model has."""
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
    """How a run was trained, which is not known of any other model."""
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


def _measured(subject: Subject, reports: Path, metrics: Evaluation, confusion: _Confusion) -> dict[str, Any]:
    """The results of the other verbs, and the figures."""
    folder, history = reports / metrics.split, subject.history
    corruptions = artifacts.read_corruptions(folder)
    matrix, shown, present = confusion.figure()
    drawn = {
        "loss": history and figures.loss_curves(history),
        "quality": history and figures.quality_curves(history),
        "confusion": matrix,
        "reliability": figures.reliability(metrics.calibration),
        "risk": figures.risk_coverage_curve(metrics.risk_coverage),
        "corruptions": corruptions and figures.corruption_dots(corruptions),
    }
    return {
        "metrics": metrics,
        "corruptions": corruptions,
        "in_matrix": {"shown": shown, "present": present},
        "open_set": artifacts.read_open_set_results(reports),
        "scores": artifacts.read_explanation_scores(folder),
        "audit": artifacts.read_audit(reports),
        "figures": script_json({name: figure for name, figure in drawn.items() if figure}),
    }


def _commands(subject: Subject, reports: Path, split: str) -> dict[str, str]:
    """The command for each part of the page, with names in place of the paths of model and data."""
    model = _name_of(subject.path) if Path(subject.path).exists() and not _is_on_hub(subject) else Path(subject.name)
    other = _name_of(subject.data_folder) if subject.data_folder else None
    trained_on = _name_of(Path(subject.config.data)) if subject.config else None
    of_split = _of_split(model, split, other)
    folder = model / reports.relative_to(subject.path) if reports.is_relative_to(subject.path) else _name_of(reports)
    audited = ["--deep", "--model", model, "--out", folder / "audit"]
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


def _name_of(folder: Path) -> Path:
    return Path(name_only(str(folder.resolve())))


def _of_split(model: Path, split: str, data_folder: Path | None) -> list[object]:
    return [model, "--split", split, *_of_data(data_folder)]


def _of_data(data_folder: Path | None) -> list[object]:
    return ["--data", data_folder] if data_folder else []


def _command(*words: object) -> str:
    return shlex.join(["twincar", *map(str, words)])
