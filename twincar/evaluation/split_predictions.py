"""The predictions of a model on a labelled split: computed, or read back from `predictions.csv`.

Shapes: N photos, K classes of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twincar.core.errors import DataError, LabelError
from twincar.core.labels import ClassNames
from twincar.core.progress import Progress
from twincar.data.dataset import Annotation, PreparedData
from twincar.data.loading.loader import labels_of
from twincar.evaluation.report.artifacts import read_predictions
from twincar.evaluation.results import PREDICTIONS, PhotoPrediction
from twincar.evaluation.subject import Subject
from twincar.metrics.classification import Predictions

_BLOCK = 256


def labelled_split(data: PreparedData, split: str, classes: ClassNames) -> tuple[list[Annotation], NDArray[np.int64]]:
    """The photos of a split, and for each the model's index of its class, N.

    Raises:
        DataError: there is no such split, or it has no labels.
        LabelError: the data has classes that the model does not know.
    """
    annotations = data.labelled_split(split)
    to_model = np.array(data.classes.indices_in(classes))
    return annotations, to_model[labels_of(annotations)]


def predictions_of(
    labels: NDArray[np.int64],
    logits: NDArray[np.float32],
    probabilities: Callable[[NDArray[np.float32]], NDArray[np.float32]],
) -> Predictions:
    """Summarise the predictions for logits, N×K."""
    return Predictions.join(
        Predictions.from_probabilities(labels[block], probabilities(logits[block]))
        for block in photo_blocks(len(labels))
    )


def photo_blocks(photos: int) -> list[slice]:
    """Slices of a few photos each; the probabilities of all at once would need as much memory as the logits."""
    return [slice(start, start + _BLOCK) for start in range(0, photos, _BLOCK)]


def prediction_rows(
    annotations: Sequence[Annotation], classes: ClassNames, predictions: Predictions
) -> Iterator[dict[str, Any]]:
    """The rows of `predictions.csv`: file, truth, correct, and the most likely classes with their probabilities."""
    rows = zip(annotations, predictions.labels, predictions.best, predictions.probabilities, strict=True)
    for annotation, label, best, probabilities in rows:
        cells: dict[str, Any] = {"file": annotation.file, "truth": classes[label], "correct": int(best[0] == label)}
        for rank, (index, probability) in enumerate(zip(best, probabilities, strict=True), start=1):
            cells |= {f"top{rank}": classes[index], f"probability{rank}": f"{probability:.6f}"}
        yield cells


def predict_split(subject: Subject, on_photo: Progress | None = None) -> list[PhotoPrediction]:
    """The predictions for a split: from its `predictions.csv` if it is of these photos and weights, else computed.

    Raises:
        DataError: there is no such split, or it has no labels, or photos cannot be read.
        LabelError: the data has classes that the model does not know.
    """
    data, spec = subject.data, subject.spec
    annotations, labels = labelled_split(data, subject.split, spec.classes)
    table = subject.results / PREDICTIONS
    if table.is_file() and table.stat().st_mtime >= subject.weights.stat().st_mtime:
        with suppress(DataError, LabelError):  # damaged, or of another model: the predictions are computed again
            rows = read_predictions(table)
            predicted = [spec.classes[spec.classes.index(row.predicted)] for row in rows]
            if [row.file for row in rows] == [annotation.file for annotation in annotations]:
                return [
                    replace(row, truth=spec.classes[label], predicted=name)
                    for row, label, name in zip(rows, labels, predicted, strict=True)
                ]
    photos = [data.photo(annotation) for annotation in annotations]
    logits, _ = subject.compute_logits(photos, on_photo=on_photo)
    predictions = predictions_of(labels, logits[:, 0], spec.calibration.probabilities)
    return [PhotoPrediction.from_row(row) for row in prediction_rows(annotations, spec.classes, predictions)]
