"""Evaluate the predictions in a folder that `predict --out` has written.

Its rows contain the most likely classes only, not all probabilities, so there are no likelihood and no calibration. A
photo in which no car was found has none: its prediction counts as wrong, with a probability of 0. In memory each photo
needs 15 bytes, and its name until its row is read.

Shapes: N photos.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as sk

from twincar.core.errors import DataError
from twincar.core.files import write_csv, write_json
from twincar.core.user_files import text_name
from twincar.core.wording import command
from twincar.data.dataset import PreparedData
from twincar.inference.batch import read_rows
from twincar.metrics.classification import (
    Interval,
    accuracy_interval,
    confusion_matrix,
    expected_calibration_error,
    per_class_report,
)

_ROW = np.dtype(
    [
        ("label", "i4"),
        ("predicted", "i4"),
        ("probability", "f4"),
        ("rank", "u1"),
        ("candidates", "u1"),
        ("answer", "u1"),
    ]
)
"""What is kept of the prediction for each photo, so that memory holds the predictions of a large split."""
_NO_CAR = ""  # as a predicted class
_NO_ANSWER, _RIGHT_CLASS, _WRONG_CLASS, _COARSER_LEVEL = range(4)  # values of `answer`


@dataclass(frozen=True)
class BatchEvaluation:
    """The metrics of a batch of predictions on one split."""

    split: str
    photos: int
    failed: int
    """Number of photos that could not be read; no other field counts them."""
    accuracy: Interval
    metrics: dict[str, float]
    """Macro averages are over the classes that have photos; `top3` and `top5` are there if the rows have as many
    candidates. `answered` is the share of photos with an answer, `acc_answered` the accuracy of the classes
    given as answers."""
    folder: Path
    """The folder of `metrics.json` and `classification_report.csv`."""

    def to_dict(self) -> dict[str, Any]:
        """For `metrics.json` and `--json`."""
        return asdict(self) | {"folder": str(self.folder)}


def evaluate_batch(results: Path, data: PreparedData, split: str) -> BatchEvaluation:
    """Compare the predictions in a folder with the labels of a split, and write `_reports/<split>/` in it.

    Raises:
        DataError: there is no such split, it has no labels, or photos of it have no row.
        StorageError: the predictions cannot be read, or the reports cannot be written.
    """
    root = data.photo_root.resolve()
    truth = {text_name(str(root / photo.file)): photo.label for photo in data.labelled_split(split)}
    # Predicted classes that the data does not have are appended.
    classes = {name: index for index, name in enumerate(data.classes.names)}
    found = np.zeros(len(truth), _ROW)
    count = failed = 0
    for row in read_rows(str(results)):
        label = truth.pop(row["photo"], None)
        if label is None:
            continue
        if row["error"]:
            failed += 1
            continue
        found[count] = _encode(row, label, data.classes.names[label], classes)
        count += 1
    if truth:
        raise DataError(
            f"Expected a row in {results} for each photo of the split '{split}' of {data.folder}, but {len(truth)} "
            f"have none, such as {next(iter(truth))}. Predict them all: "
            f"{command('predict', data.photo_root, '--out', 'FOLDER')}"
        )
    if not count:
        raise DataError(f"Expected predictions in {results}, but none of the {failed} photos could be read.")
    found = found[:count]
    evaluation = BatchEvaluation(
        split,
        count,
        failed,
        accuracy_interval(found["label"], found["predicted"]),
        _metrics(found),
        results / "_reports" / split,
    )
    matrix = confusion_matrix(found["label"], found["predicted"], len(classes))
    report = [row for row in per_class_report(matrix, tuple(classes)) if row["support"]]
    write_csv(evaluation.folder / "classification_report.csv", report)
    write_json(evaluation.folder / "metrics.json", evaluation.to_dict())
    return evaluation


def _encode(row: dict[str, Any], label: int, name: str, classes: dict[str, int]) -> tuple[float, ...]:
    """The fields of `_ROW`; a true class that is not among the candidates ranks behind them."""
    names = [value for column, value in row.items() if column.startswith("class_")]  # most likely first
    predicted = classes.setdefault(names[0] or _NO_CAR, len(classes))
    rank = names.index(name) if name in names else len(names)
    answer = _COARSER_LEVEL if row["answer"] else _NO_ANSWER
    if row["level"] == "class":
        answer = _RIGHT_CLASS if row["answer"] == name else _WRONG_CLASS
    return label, predicted, row["probability_1"] or 0.0, rank, len(names), answer


def _metrics(found: NDArray[Any]) -> dict[str, float]:
    labels, predicted = found["label"], found["predicted"]
    precision, recall, f1, _ = sk.precision_recall_fscore_support(
        labels, predicted, labels=np.unique(labels), average="macro", zero_division=0
    )
    candidates = int(found["candidates"].min())
    right_class, wrong_class = ((found["answer"] == answer).sum() for answer in (_RIGHT_CLASS, _WRONG_CLASS))
    result = {"acc": float((labels == predicted).mean())}
    result |= {f"top{k}": float((found["rank"] < k).mean()) for k in (3, 5) if k <= candidates}
    result |= {"precision_macro": float(precision), "recall_macro": float(recall), "f1_macro": float(f1)}
    result |= {
        "ece": expected_calibration_error(found["probability"], labels == predicted),
        "answered": float((found["answer"] != _NO_ANSWER).mean()),
    }
    if right_class + wrong_class:
        result["acc_answered"] = float(right_class / (right_class + wrong_class))
    return result
