"""How good the answers in a folder of results are, which `predict --out` wrote: what their rows allow to be measured.

Of each photo 15 bytes are kept, and its name meanwhile; no probabilities of all classes, so that there is neither a
likelihood nor a new calibration. Shapes: N photos.
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
from twincar.data.dataset import PreparedData
from twincar.inference.batch import read_rows
from twincar.metrics.classification import (
    Interval,
    accuracy_interval,
    confusion_matrix,
    expected_calibration_error,
    per_class_report,
)


@dataclass(frozen=True)
class BatchEvaluation:
    """How good the answers for one split are."""

    split: str
    photos: int
    failed: int
    """Photos that could not be read; they are in no other figure."""
    accuracy: Interval
    metrics: dict[str, float]
    """Macro averages over the classes that have photos; `top3` and so on are as many candidates as the rows hold;
    `answered` is the share of photos that got an answer, and `acc_answered` how many of the answers at the level of
    classes are right."""
    folder: Path
    """Where `metrics.json` and `classification_report.csv` lie."""

    def to_dict(self) -> dict[str, Any]:
        """For `metrics.json` and `--json`."""
        return asdict(self) | {"folder": str(self.folder)}


def evaluate_batch(results: Path, data: PreparedData, split: str) -> BatchEvaluation:
    """Compare the rows of a folder of results with the labels of a split, and write `_reports/<split>/` in it.

    Raises:
        DataError: no such split, or one without labels, or photos of it that have no row.
        StorageError: the results cannot be read, or the reports not be written.
    """
    root = data.photo_root.resolve()
    truth = {text_name(str(root / photo.file)): photo.label for photo in data.labelled_split(split)}
    classes = {name: index for index, name in enumerate(data.classes.names)}  # others follow, as they are answered
    found = np.zeros(len(truth), _ROW)
    count = failed = 0
    for row in read_rows(str(results)):
        label = truth.pop(row["photo"], None)
        if label is None:
            continue
        if row["error"]:
            failed += 1
            continue
        found[count] = _judged(row, label, data.classes.names[label], classes)
        count += 1
    if truth:
        raise DataError(
            f"Expected a row in {results} for each photo of the split '{split}' of {data.folder}, and {len(truth)} "
            f"have none, such as {next(iter(truth))}. Answer for all: twincar predict {data.photo_root} --out FOLDER"
        )
    if not count:
        raise DataError(f"Expected answers in {results}, and none of the {failed} photos could be read.")
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


_ROW = np.dtype(
    [("label", "i4"), ("predicted", "i4"), ("confidence", "f4"), ("rank", "u1"), ("candidates", "u1"), ("said", "u1")]
)
_NOTHING, _RIGHT_CLASS, _WRONG_CLASS, _COARSER = range(4)  # what was said


def _judged(row: dict[str, Any], label: int, name: str, classes: dict[str, int]) -> tuple[float, ...]:
    """One row: truth, answer, how sure, the place of the truth among the candidates (or beyond), what was said."""
    names = [value for column, value in row.items() if column.startswith("class_name")]  # the likeliest comes first
    predicted = classes.setdefault(names[0], len(classes))
    rank = names.index(name) if name in names else len(names)
    said = _NOTHING if not row["answer"] else _COARSER
    if row["level"] == "class":
        said = _RIGHT_CLASS if row["answer"] == name else _WRONG_CLASS
    return label, predicted, row["confidence"], rank, len(names), said


def _metrics(found: NDArray[Any]) -> dict[str, float]:
    labels, predicted = found["label"], found["predicted"]
    precision, recall, f1, _ = sk.precision_recall_fscore_support(
        labels, predicted, labels=np.unique(labels), average="macro", zero_division=0
    )
    candidates = int(found["candidates"].min())
    right_class, wrong_class = ((found["said"] == said).sum() for said in (_RIGHT_CLASS, _WRONG_CLASS))
    result = {"acc": float((labels == predicted).mean())}
    result |= {f"top{k}": float((found["rank"] < k).mean()) for k in (3, 5) if k <= candidates}
    result |= {"precision_macro": float(precision), "recall_macro": float(recall), "f1_macro": float(f1)}
    result |= {
        "ece": expected_calibration_error(found["confidence"], labels == predicted),
        "answered": float((found["said"] != _NOTHING).mean()),
    }
    if right_class + wrong_class:
        result["acc_answered"] = float(right_class / (right_class + wrong_class))
    return result
