"""Write the report of a model, or of two or three side by side: one HTML file that opens anywhere, offline.

It shows the results that the other verbs have written to `Subject.reports`; where a result is missing, it names the
command that computes it. How a model was trained is known only for a run, and the page says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from scipy import sparse

from twincar.core.errors import Defect
from twincar.core.files import sha256_of_file, write_text
from twincar.core.html import plotly_script, render, script_json
from twincar.core.labels import ClassNames
from twincar.core.local_paths import name_only, shareable_path
from twincar.core.progress import Progress
from twincar.core.run_files import CONFIG_FILE
from twincar.core.runs import best_epoch, ending
from twincar.core.version import __version__
from twincar.core.wording import command, duration
from twincar.data.dataset import MANIFEST, PreparedData
from twincar.evaluation.report import artifacts, figures
from twincar.evaluation.report.cells import MOST_LISTED, photos_by_cell
from twincar.evaluation.report.opened import EvaluatedModel, of_data, of_split
from twincar.evaluation.report.photos import ImageBudget, show_mistakes, show_twins
from twincar.evaluation.report.side_by_side import ModelDifference, render_side_by_side
from twincar.evaluation.results import Evaluation, PhotoPrediction, confusion_of
from twincar.evaluation.subject import Subject
from twincar.metrics.classification import classes_to_show, most_confused
from twincar.models.spec import NOT_VALIDATED

REPORT = "report.html"
MAX_PAGE_BYTES = 15_000_000  # of the page, so that it can be sent by mail
_BYTES_WITHOUT_IMAGES = 6_000_000  # of these, Plotly takes 4.8 million
_BYTES_PER_CLASS = 1_000  # for its row in the table and its entry in the filter
_BYTES_PER_PHOTO = 80  # for its name in its cell of the matrix
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
    differences: tuple[ModelDifference, ...] = ()
    """How the models differ, if there are several: each pair of them, in the order in which they were given."""


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
        """The figure with the indices of its classes, their number, and the number of classes that occur."""
        shown, present = classes_to_show(self.matrix)
        cells, support = self.matrix[shown][:, shown].toarray(), self.matrix.sum(axis=1)[shown]
        figure = figures.confusion(cells, support, [self.classes[index] for index in shown])
        return {**figure, "matrix": shown}, len(shown), present


def report(
    *models: str | Path,
    split: str | None = None,
    data_folder: str | Path | None = None,
    out: str | Path | None = None,
    on_photo: Progress | None = None,
) -> Report:
    """Write the report of an evaluated model, or compare two or three that were evaluated on the same photos.

    Args:
        models: a run folder, a folder of results, or any other model together with the data that it was evaluated on;
            by default the bundled model. Two or three are shown side by side, with tests of whether they differ by more
            than chance.
        split: an evaluated split: 'val', 'test' or 'train'; by default 'test' if it was evaluated, otherwise 'val'.
        data_folder: the data set that the model was evaluated on; by default the one that a run was trained on.
        out: the file; by default `report.html` beside the results, or `report-beside-OTHER.html` beside those of the
            first of several models.
        on_photo: called with the number of finished mistakes and their total, for a progress bar.

    Returns:
        The path of the page, the split it shows, and its size in bytes.

    Raises:
        UsageError: there is no such model, it was not evaluated on that split, or several models were evaluated on
            different photos.
        DataError: a file of the results is damaged.
        CheckpointError: the weights are damaged.
        StorageError: the page cannot be written.
    """
    if len(models) > 1:
        return _report_side_by_side(models, split, data_folder, out)
    opened = EvaluatedModel.open(models[0] if models else None, split=split, data_folder=data_folder)
    path = Path(out) if out else opened.reports / REPORT
    write_text(path, _page_of(opened, on_photo))
    return Report(path, opened.split, path.stat().st_size)


def _report_side_by_side(
    models: Sequence[str | Path], split: str | None, data_folder: str | Path | None, out: str | Path | None
) -> Report:
    path, split, page, differences = render_side_by_side(models, split=split, data_folder=data_folder, out=out)
    write_text(path, page)
    return Report(path, split, path.stat().st_size, tuple(differences))


def _page_of(opened: EvaluatedModel, on_photo: Progress | None) -> str:
    subject, data, reports, metrics = opened.subject, opened.data, opened.reports, opened.metrics
    classes, predictions = opened.classes, opened.predictions
    images = _image_budget(data, len(classes), len(predictions))
    confusion = _Confusion(confusion_of(predictions, subject.spec.classes), subject.spec.classes)
    wrong = [row for row in predictions if not row.correct]
    twins = show_twins(confusion.pairs(_TWINS), predictions, {row.name: row.photos for row in classes}, images)
    mistakes = show_mistakes(wrong, images, subject.engine, subject.spec, on_photo)
    in_gallery = {mistake.prediction.file for mistake in mistakes}
    return render(
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
        cells=script_json(photos_by_cell(predictions, in_gallery, subject.spec.classes, images)),
        comparisons=artifacts.read_comparisons(reports),
        no_data=_NO_DATA if data is None else "",
        unreadable=len(images.missing),
        any_cropped=any(mistake.is_cropped for mistake in mistakes),
        plotly=plotly_script(),
        commands=_commands(subject, reports, opened.split),
        **_described(subject, data),
        **_trained(subject),
        **_measured(subject, reports, metrics, confusion),
    )


def _image_budget(data: PreparedData | None, classes: int, photos: int) -> ImageBudget:
    text = _BYTES_WITHOUT_IMAGES + _BYTES_PER_CLASS * classes + _BYTES_PER_PHOTO * min(photos, MOST_LISTED)
    return ImageBudget(data.photos() if data else {}, MAX_PAGE_BYTES - text)


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
        verdict = "on average, these agree"  # single probabilities may differ, which the calibration error measures
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
        "excluded": data.manifest.get("left_out", {}).get(str(Defect.EXCLUDED))
        if data and subject.is_own_data
        else None,
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
        "trained": _training_time(subject),
        "best_epoch": int(best_epoch(history)["epoch"]),
        "ending": ending(config, history),
        "config_text": config.without_paths().to_yaml(),
    }


def _training_time(subject: Subject) -> str:
    """How long the training of a run took, and on what, as far as that is recorded."""
    seconds = sum(epoch.get("seconds", 0.0) for epoch in subject.history)
    machine = subject.spec.provenance.get("machine")
    took = f"Training took {duration(seconds)}" if seconds else "It was trained" if machine else ""
    return f"{took}{f' on {machine}' if machine else ''}." if took else ""


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
    """The command for each part of the page, to be run where the report was."""
    model = _name_of(subject.path) if Path(subject.path).exists() and not _is_on_hub(subject) else Path(subject.name)
    other = _name_of(subject.data_folder) if subject.data_folder else None
    trained_on = _name_of(Path(subject.config.data)) if subject.config else None
    judged = of_split(model, split, other)
    folder = model / reports.relative_to(subject.path) if reports.is_relative_to(subject.path) else _name_of(reports)
    audited = ["--deep", "--model", model, "--out", folder / "audit"]
    return {
        "train": command("train", trained_on, "--config", model / CONFIG_FILE) if trained_on else "",
        "evaluate": command("evaluate", *judged),
        "corruptions": command("evaluate", *judged, "--corruptions"),
        "open_set": command("evaluate", model, *of_data(other), "--open-set"),
        "scores": command("explain", *judged, "--score"),
        "audit": command("audit", other or trained_on, *audited),
        "compare": command("compare", *judged),
        "report": command("report", *judged),
    }


def _is_on_hub(subject: Subject) -> bool:
    return isinstance(subject.model, str) and not Path(subject.model).exists()


def _name_of(folder: Path) -> Path:
    return Path(shareable_path(folder))
