"""What a model answers on a labelled split: computed, as the rows of `predictions.csv`, and read back from them.

Shapes: N photos, K classes of the model.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twincar.core.errors import LabelError
from twincar.core.labels import ClassNames
from twincar.core.progress import Progress
from twincar.data.dataset import Annotation, PreparedData
from twincar.data.loading.loader import labels_of
from twincar.evaluation.subject import Subject
from twincar.metrics.classification import Predictions
from twincar.models.engines.open import compute_logits

_BLOCK = 256


@dataclass(frozen=True)
class PhotoPrediction:
    """One photo of a split and the answer for it; classes are the model's indices."""

    photo: Path
    truth: int
    predicted: int
    confidence: float
    """Probability of that answer, to six digits."""


def labelled_split(data: PreparedData, split: str, classes: ClassNames) -> tuple[list[Annotation], NDArray[np.int64]]:
    """The photos of a split, and of each its class among the model's, N.

    Raises:
        DataError: no such split, or one without labels.
        LabelError: the data has classes the model does not know.
    """
    annotations = data.labelled_split(split)
    to_model = np.array(data.classes.indices_in(classes))
    return annotations, to_model[labels_of(annotations)]


def predictions_of(
    labels: NDArray[np.int64],
    logits: NDArray[np.float32],
    probabilities: Callable[[NDArray[np.float32]], NDArray[np.float32]],
) -> Predictions:
    """Predictions of logits, N×K."""
    return Predictions.join(
        Predictions.from_probabilities(labels[block], probabilities(logits[block]))
        for block in photo_blocks(len(labels))
    )


def photo_blocks(photos: int) -> list[slice]:
    """Photos a few at a time: the probabilities of all would fill as much memory as the logits again."""
    return [slice(start, start + _BLOCK) for start in range(0, photos, _BLOCK)]


def prediction_rows(
    annotations: Sequence[Annotation], classes: ClassNames, answers: Predictions
) -> Iterator[dict[str, Any]]:
    """The rows of `predictions.csv`: file, truth, correct, and the likeliest classes with their probabilities."""
    rows = zip(annotations, answers.labels, answers.best, answers.probabilities, strict=True)
    for annotation, label, best, probabilities in rows:
        cells: dict[str, Any] = {"file": annotation.file, "truth": classes[label], "correct": int(best[0] == label)}
        for place, (index, probability) in enumerate(zip(best, probabilities, strict=True), start=1):
            cells |= {f"top{place}": classes[index], f"probability{place}": f"{probability:.6f}"}
        yield cells


def predict_split(subject: Subject, on_photo: Progress | None = None) -> list[PhotoPrediction]:
    """The answers for the split: from its `predictions.csv` where that is of these photos and weights, else computed.

    Raises:
        DataError: no such split, or one without labels, or photos that cannot be read.
        LabelError: the data has classes the model does not know.
    """
    data, spec = subject.data, subject.spec
    annotations, labels = labelled_split(data, subject.split, spec.classes)
    paths = [data.path(annotation) for annotation in annotations]
    table = subject.results / "predictions.csv"
    if table.is_file() and table.stat().st_mtime >= subject.weights.stat().st_mtime:
        with suppress(csv.Error, LookupError, TypeError, ValueError, LabelError):  # damaged: it is computed again
            rows = _read_rows(table)
            if [row["file"] for row in rows] == [annotation.file for annotation in annotations]:
                index = spec.classes.index
                return [
                    PhotoPrediction(path, int(label), index(row["top1"]), float(row["probability1"]))
                    for path, label, row in zip(paths, labels, rows, strict=True)
                ]
    logits = compute_logits(subject.engine, spec.preprocessing, paths, on_photo=on_photo)
    answers = predictions_of(labels, logits[:, 0], spec.calibration.probabilities)
    columns = zip(paths, labels, answers.predictions, answers.probabilities[:, 0], strict=True)
    return [PhotoPrediction(path, int(label), int(best), round(float(sure), 6)) for path, label, best, sure in columns]


def _read_rows(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))
