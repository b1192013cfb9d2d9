"""Measures a trained model on a labelled split: every metric, with intervals, tables and pictures.

Shapes: N photos with V views, K classes of the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from twincar.core.files import write_csv, write_json
from twincar.core.labels import ClassNames
from twincar.core.options import CONFIDENCE, FALSE_REJECTION
from twincar.core.progress import Progress
from twincar.data.dataset import Annotation
from twincar.data.training_record import Seen, count_seen, describe
from twincar.evaluation import plots
from twincar.evaluation.split_predictions import (
    labelled_split,
    photo_blocks,
    prediction_rows,
    predictions_of,
)
from twincar.evaluation.subject import Subject
from twincar.metrics.classification import (
    Chance,
    Interval,
    ReportRow,
    accuracy_interval,
    chance_level,
    classes_to_show,
    classification_metrics,
    confusion_matrix,
    macro_f1_interval,
    most_confused,
    per_class_report,
)
from twincar.metrics.intervals import score_intervals
from twincar.metrics.reliability import (
    CalibrationReport,
    LevelPredictions,
    LevelReport,
    Rejection,
    RiskCoverage,
    calibration_report,
    level_reports,
    rejection,
    risk_coverage,
)
from twincar.models.calibration import softmax
from twincar.models.engines.open import compute_logits
from twincar.models.levels import levels_of
from twincar.models.spec import ModelSpec

_SHOWN = 20  # classes or pairs in a picture
_LARGEST_TABLE = 1000  # classes; with more, confusion_matrix.csv would be mostly zeros and too wide for any reader


@dataclass(frozen=True)
class Evaluation:
    """How good a model is on one split."""

    split: str
    photos: int
    data: str | None
    """Name of the data set, if it is another one than the model was trained on."""
    seen: Seen | None
    """How many of the photos the model has seen in training; None where there is no record of that."""
    left_out: dict[str, int]
    """Photos of a data set that was not prepared which could not be used, by reason."""
    absent: list[str]
    """Classes of the model without a photo in the split; macro averages leave them out."""
    accuracy: Interval
    macro_f1: Interval
    chance: Chance
    metrics: dict[str, float]
    """Of calibrated probabilities."""
    intervals: dict[str, Interval]
    """95% intervals of these, by name; of loss, Brier, kappa and Matthews there are none."""
    tta: dict[str, float] | None
    """The same metrics with test-time augmentation, where asked for."""
    calibration: CalibrationReport
    """Before and after the temperature that was fitted on validation photos."""
    confidence: float
    """How probable an answer had to be to be given."""
    levels: list[LevelReport]
    """Accuracy at each level, and how many answers end there."""
    rejection: Rejection
    risk_coverage: RiskCoverage
    folder: Path
    """Where tables and pictures lie."""

    @property
    def described(self) -> str:
        """The photos in words, and whether the model has seen them."""
        return describe(self.split, self.data, self.seen)

    def to_dict(self) -> dict[str, Any]:
        """For `metrics.json` and `--json`."""
        result = asdict(self) | {"folder": str(self.folder)}
        if self.tta is not None:
            result["tta_gain"] = {name: self.tta[name] - self.metrics[name] for name in ("acc", "f1_macro")}
        return result


def evaluate(
    model: str | Path | None = None,
    *,
    split: str | None = None,
    data_folder: str | Path | None = None,
    out: str | Path | None = None,
    tta: bool = False,
    confidence: float = CONFIDENCE,
    false_rejection: float = FALSE_REJECTION,
    on_photo: Progress | None = None,
) -> Evaluation:
    """Evaluate a model and write metrics, predictions, per-class report, confusion matrix and pictures.

    Of a run they go to its `reports/<split>/`, or for another data set than its own to
    `evaluations/<data set>/<split>/`; of any other model to `results/<model>-on-<data set>/<split>/`, below the working
    folder.

    Args:
        model: a run folder, a model file, owner/name on the hub, or earlier results; the bundled model unless given.
        split: 'val', 'test' or 'train'; validation photos unless given, or test photos where there are none.
        data_folder: a prepared data set, class folders, or a CSV; only a run knows its own.
            Classes are matched by name.
        out: where results go in place of the default.
        tta: also average over the mirror image and a wider view of each photo, made before normalisation.
        confidence: how probable an answer has to be to be given.
        false_rejection: share of the photos of known cars that may be turned away as unknown.
        on_photo: called with photos done and in all, for a progress bar.

    Returns:
        Every result, as `metrics.json` holds it, and the folder that was written.

    Raises:
        UsageError: no such model, no data named for one that knows none, or `out` holds something else.
        DataError: no such split, or one without labels, or photos that cannot be read.
        LabelError: the data has classes the model does not know.
    """
    subject = Subject.open(model, data_folder=data_folder, split=split, out=out)
    data, spec = subject.data, subject.spec
    annotations, labels = labelled_split(data, subject.split, spec.classes)
    subject.claim(subject.results)
    paths = [data.path(annotation) for annotation in annotations]
    logits = compute_logits(subject.engine, spec.preprocessing, paths, tta=tta, on_photo=on_photo)
    return report_logits(subject, annotations, labels, logits, confidence, false_rejection)


def report_logits(
    subject: Subject,
    annotations: list[Annotation],
    labels: NDArray[np.int64],
    logits: NDArray[np.float32],
    confidence: float = CONFIDENCE,
    false_rejection: float = FALSE_REJECTION,
) -> Evaluation:
    """What follows the network: metrics, tables and pictures of logits, N×V×K; the first view is the plain photo.

    The photos, N, are all of one split.
    """
    split = annotations[0].split
    spec, run = subject.spec, subject.run
    plain, classes, calibration = logits[:, 0], spec.classes, spec.calibration
    answers = predictions_of(labels, plain, calibration.probabilities)
    tta = predictions_of(labels, logits.mean(axis=1), calibration.probabilities) if logits.shape[1] > 1 else None
    before = answers if calibration.temperature == 1 else predictions_of(labels, plain, softmax)
    evaluation = Evaluation(
        split=split,
        photos=len(labels),
        data=None if subject.is_own_data else subject.data.name,
        seen=count_seen(run, annotations) if run else None,
        left_out=subject.left_out,
        absent=[classes[index] for index in np.setdiff1d(np.arange(len(classes)), labels)],
        accuracy=accuracy_interval(labels, answers.predictions),
        macro_f1=macro_f1_interval(labels, answers.predictions),
        chance=chance_level(labels, len(classes)),
        metrics=classification_metrics(answers),
        intervals=score_intervals(answers),
        tta=classification_metrics(tta) if tta else None,
        calibration=calibration_report(calibration.temperature, before, answers),
        confidence=confidence,
        levels=level_reports(_read_levels(labels, plain, spec), confidence),
        rejection=rejection(calibration.in_distribution_score(plain), answers.right, false_rejection),
        risk_coverage=risk_coverage(answers.confidence, answers.right),
        folder=subject.reports / split,
    )
    matrix = confusion_matrix(labels, answers.predictions, len(classes))
    report = [row for row in per_class_report(matrix, classes.names) if row["support"]]
    write_csv(evaluation.folder / "predictions.csv", prediction_rows(annotations, classes, answers))
    write_csv(evaluation.folder / "classification_report.csv", [*report, *_average_rows(report[0], evaluation)])
    _write_matrix(evaluation.folder, matrix, classes)
    if run:
        for name, figure in plots.training_curves(subject.history).items():
            plots.save(figure, run.reports / f"{name}.png")
    _draw_reliability(evaluation)
    _draw_classes(evaluation.folder, split, report)
    _draw_matrix(evaluation.folder, split, matrix, classes)
    write_json(evaluation.folder / "metrics.json", evaluation.to_dict())  # last: where it is new, all is
    return evaluation


def _read_levels(
    labels: NDArray[np.int64], logits: NDArray[np.float32], spec: ModelSpec
) -> dict[str, LevelPredictions]:
    """Predictions at every level of logits, N×K."""
    levels, probabilities = levels_of(spec.classes), spec.calibration.probabilities
    parts = [
        {name: LevelPredictions.from_probabilities(level, labels[block], shares) for name, level in levels.items()}
        for block in photo_blocks(len(labels))
        for shares in [probabilities(logits[block])]
    ]
    return {name: LevelPredictions.join(part[name] for part in parts) for name in levels}


def _average_rows(first: ReportRow, evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    """The averages as scikit-learn's report has them, below the rows of the classes."""
    for average in ("macro", "weighted"):
        values = {name: evaluation.metrics[f"{name}_{average}"] for name in ("precision", "recall", "f1")}
        row = {**dict.fromkeys(first, ""), "class_name": f"{average} average", **values}
        yield {**row, "accuracy": evaluation.accuracy.value, "support": evaluation.photos}


def _write_matrix(folder: Path, matrix: sparse.csr_array, classes: ClassNames) -> None:
    """`confusion_matrix.csv`, or with very many classes `confusion_cells.csv`: a row for each cell that is not 0."""
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
        f"How often an answer is right that is so sure, {split} photos",
    )
    plots.save(figure, evaluation.folder / "reliability.png")
    curve = evaluation.risk_coverage
    title = f"Wrong answers if only the surest are given, {split} photos"
    plots.save(plots.risk_coverage_figure(curve.coverage, curve.risk, title), evaluation.folder / "risk_coverage.png")


def _draw_classes(folder: Path, split: str, report: list[ReportRow]) -> None:
    """The classes of best and of worst accuracy: one without a hit is never among the best, nor one without a mistake
    among the worst."""
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
    """The classes in the picture of the matrix, in their order: all that occur, or a part of them; and its title."""
    shown, present = classes_to_show(matrix)
    part = len(shown) < present
    return shown, f"{title}: the {len(shown)} of {present:,} classes most often confused" if part else title
