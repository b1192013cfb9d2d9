"""Evaluate a model on a labelled split: all metrics with intervals, tables and figures.

Shapes: N photos with V views each, K classes of the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from twincar.core.files import write_csv, write_json
from twincar.core.labels import ClassNames
from twincar.core.options import DetectOptions, Thresholds
from twincar.core.progress import Progress
from twincar.data.dataset import Annotation
from twincar.data.training_record import count_seen
from twincar.evaluation import plots
from twincar.evaluation.results import CLASSES, METRICS, PREDICTIONS, Evaluation, Measured
from twincar.evaluation.split_predictions import (
    labelled_split,
    photo_blocks,
    prediction_rows,
    predictions_of,
)
from twincar.evaluation.subject import Subject
from twincar.metrics.classification import (
    ReportRow,
    chance_level,
    classes_to_show,
    classification_metrics,
    confusion_matrix,
    most_confused,
    per_class_report,
)
from twincar.metrics.intervals import score_intervals
from twincar.metrics.reliability import (
    LevelPredictions,
    calibration_report,
    level_reports,
    rejection,
    risk_coverage,
)
from twincar.models.calibration import softmax
from twincar.models.levels import levels_of
from twincar.models.spec import ModelSpec

_SHOWN = 20  # classes or pairs in a figure
_LARGEST_TABLE = 1000  # classes; with more, confusion_matrix.csv would be mostly zeros, and too wide for any program


def evaluate(
    model: str | Path | None = None,
    *,
    split: str | None = None,
    data_folder: str | Path | None = None,
    out: str | Path | None = None,
    detection: DetectOptions = DetectOptions(),
    tta: bool = False,
    thresholds: Thresholds = Thresholds(),
    on_photo: Progress | None = None,
) -> Evaluation:
    """Evaluate a model and write metrics, predictions, per-class scores, the confusion matrix and figures.

    The results of a run go to its `reports/<split>/`, or, on a data set that it was not trained on, to its
    `evaluations/<data set>/<split>/`; those of any other model go to `results/<model>-on-<data set>/<split>/` in the
    working folder.

    Args:
        model: a run folder, a model file, owner/name on the hub, or a folder of results; by default the bundled model.
        split: 'val', 'test' or 'train'; by default 'val', or 'test' if there are no validation photos.
        data_folder: a prepared data set, class folders, or a CSV file; by default the data that a run was trained on.
            Classes are matched by name.
        out: folder of the results, instead of the default.
        detection: whether the main car of each photo is found and cut out first; by default if the model was trained on
            such cuts, and the photos are not cut already.
        tta: also evaluate with test-time augmentation: averaged over the mirror image and a wider view of each photo.
        thresholds: when a prediction is accepted.
        on_photo: called with the number of finished photos and their total, for a progress bar.

    Returns:
        Every result, as `metrics.json` holds it, and the folder that was written.

    Raises:
        UsageError: there is no such model, data is missing for a model that is not a run, or `out` holds other files.
        DataError: there is no such split, it has no labels, or photos cannot be read.
        LabelError: the data has classes that the model does not know.
    """
    subject = Subject.open(model, data_folder=data_folder, split=split, out=out, detection=detection)
    data, spec = subject.data, subject.spec
    annotations, labels = labelled_split(data, subject.split, spec.classes)
    subject.claim(subject.results)
    photos = [data.photo(annotation) for annotation in annotations]
    started = perf_counter()
    logits, found = subject.compute_logits(photos, tta=tta, on_photo=on_photo)
    measured = Measured.now(perf_counter() - started)
    return report_logits(subject, annotations, labels, logits, thresholds, found, measured)


def report_logits(
    subject: Subject,
    annotations: list[Annotation],
    labels: NDArray[np.int64],
    logits: NDArray[np.float32],
    thresholds: Thresholds = Thresholds(),
    found: NDArray[np.bool_] | None = None,
    measured: Measured | None = None,
) -> Evaluation:
    """Compute metrics and write tables and figures from logits, N×V×K; the first view is the plain photo.

    The photos, N, are all from one split. `found` is whether a car was found in each, N, if that was tried; `measured`
    is how the logits were computed.
    """
    split = annotations[0].split
    spec, run = subject.spec, subject.run
    plain, classes, calibration = logits[:, 0], spec.classes, spec.calibration
    predictions = predictions_of(labels, plain, calibration.probabilities)
    tta = predictions_of(labels, logits.mean(axis=1), calibration.probabilities) if logits.shape[1] > 1 else None
    scores = calibration.in_distribution_score(plain)
    if found is not None:
        scores = np.where(found, scores, -np.inf)  # a photo without a car is always rejected
    intervals = score_intervals(predictions)
    before = predictions if calibration.temperature == 1 else predictions_of(labels, plain, softmax)
    evaluation = Evaluation(
        split=split,
        photos=len(labels),
        data=None if subject.is_own_data else subject.data.name,
        seen=count_seen(run, annotations) if run else None,
        left_out=subject.left_out,
        no_car=None if found is None else int((~found).sum()),
        absent=[classes[index] for index in np.setdiff1d(np.arange(len(classes)), labels)],
        accuracy=intervals["acc"],
        macro_f1=intervals["f1_macro"],
        chance=chance_level(labels, len(classes)),
        metrics=classification_metrics(predictions),
        intervals=intervals,
        tta=classification_metrics(tta) if tta else None,
        calibration=calibration_report(calibration.temperature, before, predictions),
        confidence=thresholds.min_confidence,
        levels=level_reports(_predict_levels(labels, plain, spec), thresholds.min_confidence),
        rejection=rejection(scores, predictions.right, thresholds.false_rejection),
        risk_coverage=risk_coverage(predictions.confidence, predictions.right),
        folder=subject.reports / split,
        measured=measured,
    )
    matrix = confusion_matrix(labels, predictions.predicted, len(classes))
    report = [row for row in per_class_report(matrix, classes.names) if row["support"]]
    write_csv(evaluation.folder / PREDICTIONS, prediction_rows(annotations, classes, predictions))
    write_csv(evaluation.folder / CLASSES, [*report, *_average_rows(report[0], evaluation)])
    _write_matrix(evaluation.folder, matrix, classes)
    if run:
        for name, figure in plots.training_curves(subject.history).items():
            plots.save(figure, run.reports / f"{name}.png")
    _draw_reliability(evaluation)
    _draw_classes(evaluation.folder, split, report)
    _draw_matrix(evaluation.folder, split, matrix, classes)
    write_json(evaluation.folder / METRICS, evaluation.to_dict())  # last: if it is there, everything is
    return evaluation


def _predict_levels(
    labels: NDArray[np.int64], logits: NDArray[np.float32], spec: ModelSpec
) -> dict[str, LevelPredictions]:
    """Predictions at every level, from logits, N×K."""
    levels, probabilities = levels_of(spec.classes), spec.calibration.probabilities
    parts = [
        {name: LevelPredictions.from_probabilities(level, labels[block], shares) for name, level in levels.items()}
        for block in photo_blocks(len(labels))
        for shares in [probabilities(logits[block])]
    ]
    return {name: LevelPredictions.join(part[name] for part in parts) for name in levels}


def _average_rows(first: ReportRow, evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    """The macro and weighted averages, which follow the rows of the classes as in scikit-learn's report."""
    for average in ("macro", "weighted"):
        values = {name: evaluation.metrics[f"{name}_{average}"] for name in ("precision", "recall", "f1")}
        row = {**dict.fromkeys(first, ""), "class_name": f"{average} average", **values}
        yield {**row, "accuracy": evaluation.accuracy.value, "support": evaluation.photos}


def _write_matrix(folder: Path, matrix: sparse.csr_array, classes: ClassNames) -> None:
    """Write `confusion_matrix.csv`, or for many classes `confusion_cells.csv`, one row per cell that is not 0."""
    if len(classes) <= _LARGEST_TABLE:
        write_csv(folder / "confusion_matrix.csv", _matrix_rows(matrix.toarray(), classes))
    else:
        write_csv(folder / "confusion_cells.csv", _cell_rows(matrix.tocoo(), classes))


def _matrix_rows(matrix: NDArray[np.int64], classes: ClassNames) -> Iterator[dict[str, Any]]:
    for name, row in zip(classes.names, matrix, strict=True):
        yield {"true \\ predicted": name, **dict(zip(classes.names, row.tolist(), strict=True))}


def _cell_rows(cells: sparse.coo_array, classes: ClassNames) -> Iterator[dict[str, Any]]:
    for truth, predicted, photos in zip(cells.row, cells.col, cells.data, strict=True):
        yield {"truth": classes[truth], "predicted": classes[predicted], "photos": int(photos)}


def _draw_reliability(evaluation: Evaluation) -> None:
    calibration, split = evaluation.calibration, evaluation.split
    figure = plots.reliability_figure(
        {
            f"{when} calibration: ECE {figures['ece']:.3f}": [(b.confidence, b.accuracy, b.photos) for b in bins]
            for when, figures, bins in (
                ("before", calibration.before, calibration.bins_before),
                ("after", calibration.after, calibration.bins),
            )
        },
        f"Accuracy by confidence (reliability diagram), {split} photos",
    )
    plots.save(figure, evaluation.folder / "reliability.png")
    curve = evaluation.risk_coverage
    title = f"Error rate of the most confident predictions, {split} photos"
    plots.save(plots.risk_coverage_figure(curve.coverage, curve.risk, title), evaluation.folder / "risk_coverage.png")


def _draw_classes(folder: Path, split: str, report: list[ReportRow]) -> None:
    """Draw the classes of best and of worst accuracy: one without a correct prediction is never among the best, and one
    without a mistake never among the worst."""
    ranked = sorted(report, key=lambda row: (-float(row["accuracy"]), -int(row["support"])))
    for name, rows, title in (
        ("best_classes", [row for row in ranked if float(row["accuracy"]) > 0], "best"),
        ("worst_classes", [row for row in ranked[::-1] if float(row["accuracy"]) < 1], "worst"),
    ):
        shown = rows[:_SHOWN]
        figure = plots.accuracy_bars(
            [str(row["class_name"]) for row in shown],
            [float(row["accuracy"]) for row in shown],
            [int(row["support"]) for row in shown],
            f"Classes of {title} accuracy: {len(shown)} of {len(report)}, {split} photos",
        )
        plots.save(figure, folder / f"{name}.png")


def _draw_matrix(folder: Path, split: str, matrix: sparse.csr_array, classes: ClassNames) -> None:
    pairs = [
        (classes[first], classes[second], int(matrix[first, second]), int(matrix[second, first]))
        for first, second, _ in most_confused(matrix, _SHOWN)
    ]
    title = f"Pairs of classes most often confused: {len(pairs)}, {split} photos"
    plots.save(plots.confused_bars(pairs, title), folder / "most_confused.png")
    shown, title = _classes_to_draw(matrix, f"Confusion matrix, {split} photos")
    cells, support = matrix[shown][:, shown].toarray(), matrix.sum(axis=1)[shown]
    figure = plots.confusion_figure(cells, support, [classes[index] for index in shown], title)
    plots.save(figure, folder / "confusion_matrix.png")


def _classes_to_draw(matrix: sparse.csr_array, title: str) -> tuple[list[int], str]:
    """The classes to draw in the confusion matrix (all that occur, or the most confused), and the title."""
    shown, present = classes_to_show(matrix)
    is_part = len(shown) < present
    return shown, f"{title}: the {len(shown)} of {present:,} classes most often confused" if is_part else title
