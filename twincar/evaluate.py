"""Measures a trained model on a labelled split: every metric, with intervals, tables and pictures.

Shapes: N photos with V views, K classes of the model.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twincar import plots
from twincar.config import TrainConfig, read_yaml
from twincar.data.annotations import Annotation, PreparedData
from twincar.data.loader import labels_of
from twincar.errors import DataError
from twincar.files import RunFolder, write_csv, write_json
from twincar.labels import ClassNames
from twincar.metrics import (
    Interval,
    accuracy_interval,
    classification_metrics,
    confusion_matrix,
    macro_f1_interval,
    most_confused,
    negative_log_likelihood,
    per_class_report,
)
from twincar.modeling.engines import TorchEngine, open_model, softmax
from twincar.preprocess import Preprocessing, iterate_batches

log = logging.getLogger(__name__)

_TOP = 5  # answers a photo in predictions.csv
_SHOWN = 20  # classes or pairs in a picture
_BATCH = 64


@dataclass(frozen=True)
class Evaluation:
    """How good a model is on one split."""

    split: str
    photos: int
    accuracy: Interval
    macro_f1: Interval
    metrics: dict[str, float]
    tta: dict[str, float] | None
    """The same metrics with test-time augmentation, where asked for."""
    folder: Path
    """Where tables and pictures lie."""

    def to_dict(self) -> dict[str, Any]:
        """For `metrics.json` and `--json`."""
        result = asdict(self) | {"folder": str(self.folder)}
        if self.tta is not None:
            result["tta_gain"] = {name: self.tta[name] - self.metrics[name] for name in ("acc", "f1_macro")}
        return result


def evaluate(
    run_path: Path,
    *,
    split: str = "val",
    data_folder: Path | None = None,
    tta: bool = False,
    on_photo: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Evaluate a run and write `reports/<split>/`: metrics, predictions, per-class report, confusion matrix, pictures.

    Args:
        run_path: the run folder.
        split: 'val', 'test' or 'train'.
        data_folder: a prepared data set other than the one the run was trained on; classes are matched by name.
        tta: also average over the mirror image and a wider view of each photo, made before normalisation.
        on_photo: called with photos done and in all, for a progress bar.

    Raises:
        UsageError: no such run.
        DataError: no such split, or one without labels, or photos that cannot be read.
        LabelError: the data has classes the model does not know.
    """
    run = RunFolder.open(run_path)
    network, spec = open_model(run.path)
    data = PreparedData.open(data_folder or Path(TrainConfig.from_values(read_yaml(run.config)).data))
    annotations = data.split(split)
    if any(annotation.label is None for annotation in annotations):
        raise DataError(
            f"Expected labels in the split {split!r} of {data.folder}, and it has none to compare with. "
            "Evaluate another split, or look at the answers with twincar predict."
        )
    to_model = np.array(data.classes.indices_in(spec.classes))
    labels = to_model[labels_of(annotations)]
    paths = [data.path(annotation) for annotation in annotations]
    logits = _logits(TorchEngine(network), spec.preprocessing, paths, tta, on_photo)

    plain = softmax(logits[:, 0])
    averaged = _all_metrics(labels, softmax(logits.mean(axis=1))) if tta else None
    predictions = plain.argmax(axis=1)
    folder = run.reports / split
    evaluation = Evaluation(
        split=split,
        photos=len(labels),
        accuracy=accuracy_interval(labels, predictions),
        macro_f1=macro_f1_interval(labels, predictions),
        metrics=_all_metrics(labels, plain),
        tta=averaged,
        folder=folder,
    )
    _write_tables(folder, evaluation, annotations, spec.classes, labels, plain)
    _draw(run, folder, split, spec.classes, confusion_matrix(labels, predictions, len(spec.classes)))
    return evaluation


def _logits(
    engine: TorchEngine,
    preprocessing: Preprocessing,
    paths: list[Path],
    tta: bool,
    on_photo: Callable[[int, int], None] | None,
) -> NDArray[np.float32]:
    """Logits, N×V×K, in the order of the paths."""
    parts = []
    done = 0
    for batch in iterate_batches(paths, preprocessing, batch_size=_BATCH, tta=tta):
        if batch.failures:
            raise next(iter(batch.failures.values()))
        parts.append(engine.logits(batch.images))
        done += len(batch.positions)
        if on_photo:
            on_photo(done, len(paths))
    return np.concatenate(parts)


def _all_metrics(labels: NDArray[np.int64], probabilities: NDArray[np.float32]) -> dict[str, float]:
    return {
        "loss": negative_log_likelihood(labels, probabilities),
        **classification_metrics(labels, probabilities),
    }


def _write_tables(
    folder: Path,
    evaluation: Evaluation,
    annotations: list[Annotation],
    classes: ClassNames,
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float32],
) -> None:
    write_json(folder / "metrics.json", evaluation.to_dict())
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :_TOP]
    rows = []
    for annotation, label, row, best in zip(annotations, labels, probabilities, order, strict=True):
        cells: dict[str, Any] = {"file": annotation.file, "truth": classes[label], "correct": int(best[0] == label)}
        for place, index in enumerate(best, start=1):
            cells |= {f"top{place}": classes[index], f"probability{place}": f"{row[index]:.6f}"}
        rows.append(cells)
    write_csv(folder / "predictions.csv", rows)
    matrix = confusion_matrix(labels, probabilities.argmax(axis=1), len(classes))
    write_csv(folder / "classification_report.csv", _report_rows(matrix, classes, evaluation))
    write_csv(folder / "confusion_matrix.csv", _matrix_rows(matrix, classes))


def _report_rows(matrix: NDArray[np.int64], classes: ClassNames, evaluation: Evaluation) -> list[dict[str, Any]]:
    """Per-class rows, then the averages as scikit-learn's report has them."""
    rows: list[dict[str, Any]] = [dict(row) for row in per_class_report(matrix, classes.names) if row["support"]]
    for average in ("macro", "weighted"):
        values = {name: evaluation.metrics[f"{name}_{average}"] for name in ("precision", "recall", "f1")}
        rows.append({**dict.fromkeys(rows[0], ""), "class_name": f"{average} average", **values})
        rows[-1] |= {"accuracy": evaluation.accuracy.value, "support": evaluation.photos}
    return rows


def _matrix_rows(matrix: NDArray[np.int64], classes: ClassNames) -> list[dict[str, Any]]:
    return [
        {"true \\ predicted": name, **dict(zip(classes.names, row.tolist(), strict=True))}
        for name, row in zip(classes.names, matrix, strict=True)
    ]


def _draw(run: RunFolder, folder: Path, split: str, classes: ClassNames, matrix: NDArray[np.int64]) -> None:
    for name, figure in plots.training_curves(run.read_history()).items():
        plots.save(figure, run.reports / f"{name}.png")
    seen = [row for row in per_class_report(matrix, classes.names) if row["support"]]
    ranked = sorted(seen, key=lambda row: (-float(row["accuracy"]), -int(row["support"])))
    for name, rows, title in (
        ("best_classes", ranked[:_SHOWN], "most accurate"),
        ("worst_classes", ranked[::-1][:_SHOWN], "least accurate"),
    ):
        figure = plots.accuracy_bars(
            [str(row["class_name"]) for row in rows],
            [float(row["accuracy"]) for row in rows],
            [int(row["support"]) for row in rows],
            f"The {len(rows)} {title} classes, {split} photos",
        )
        plots.save(figure, folder / f"{name}.png")
    pairs = [
        (classes[first], classes[second], int(matrix[first, second]), int(matrix[second, first]))
        for first, second, _ in most_confused(matrix, _SHOWN)
    ]
    title = f"The {len(pairs)} pairs of classes most often confused, {split} photos"
    plots.save(plots.confused_bars(pairs, title), folder / "most_confused.png")
    # Classes that occur neither as truth nor as answer would only make the matrix harder to read.
    present = np.flatnonzero(matrix.sum(axis=0) + matrix.sum(axis=1))
    shown = matrix[np.ix_(present, present)]
    names = [classes[index] for index in present.tolist()]
    plots.save(
        plots.confusion_figure(shown, names, f"Confusion matrix, {split} photos"), folder / "confusion_matrix.png"
    )
