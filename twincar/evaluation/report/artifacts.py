"""Read results back from `RUN/reports` for the page: one function per file.

A missing file is None, so that the page can name the command that writes it. Entries that the page does not show are
ignored.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from twincar.core.errors import DataError
from twincar.core.files import read_json
from twincar.evaluation.results import (
    AUDIT,
    CLASSES,
    COMPARISONS,
    CORRUPTIONS,
    EXPLANATION_SCORES,
    METRICS,
    OPEN_SET,
    AuditSummary,
    ClassScores,
    ComparedPair,
    Evaluation,
    ExplanationScores,
    OpenSetEvaluation,
    PhotoPrediction,
    Robustness,
)

Kind = TypeVar("Kind")

_AVERAGES = ("macro average", "weighted average")
_AGAIN = "Run the command that writes it again."


@dataclass(frozen=True)
class _PairList:
    pairs: list[ComparedPair]


def read_metrics(folder: Path) -> Evaluation:
    """The metrics of a split, from `reports/<split>/`.

    Raises:
        DataError: the file is missing or damaged.
    """
    found = _read(folder / METRICS, Evaluation)
    if found is None:
        raise DataError(f"Expected the metrics of an evaluation in {folder / METRICS}, but there is no such file.")
    return found


def read_predictions(table: Path) -> list[PhotoPrediction]:
    """The prediction for each photo, from a `predictions.csv`.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        return [PhotoPrediction.from_row(row) for row in _read_rows(table)]
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(table, str(error)) from None


def read_classes(folder: Path) -> list[ClassScores]:
    """The scores of the classes of a split, from `reports/<split>/classification_report.csv`.

    Raises:
        DataError: the file is missing or damaged.
    """
    path = folder / CLASSES
    try:
        rows = list(_read_rows(path))
        if [row["class_name"] for row in rows[-2:]] == list(_AVERAGES):  # a class may have such a name too
            rows = rows[:-2]
        return [
            ClassScores(
                name=row["class_name"],
                precision=float(row["precision"]),
                recall=float(row["recall"]),
                f1=float(row["f1"]),
                photos=int(row["support"]),
                most_confused_with=row["most_confused_with"],
            )
            for row in rows
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, str(error)) from None


def read_open_set_results(reports: Path) -> OpenSetEvaluation | None:
    """How well unknown photos are rejected, from `reports/open_set/`.

    Raises:
        DataError: the file is damaged.
    """
    return _read(reports / OPEN_SET, OpenSetEvaluation)


def read_corruptions(folder: Path) -> Robustness | None:
    """The accuracy on corrupted photos, from `reports/<split>/`.

    Raises:
        DataError: the file is damaged.
    """
    return _read(folder / CORRUPTIONS, Robustness)


def read_explanation_scores(folder: Path) -> ExplanationScores | None:
    """How faithful the heat maps are, from `reports/<split>/`.

    Raises:
        DataError: the file is damaged.
    """
    return _read(folder / EXPLANATION_SCORES, ExplanationScores)


def read_audit(reports: Path) -> AuditSummary | None:
    """The findings of the deep audit of the data, from `reports/audit/`.

    Raises:
        DataError: the file is damaged.
    """
    return _read(reports / AUDIT, AuditSummary)


def read_comparisons(reports: Path) -> dict[frozenset[str], str]:
    """The file names of the pages in `reports/compare/`, by the two classes that they compare.

    Raises:
        DataError: the file is damaged.
    """
    found = _read(reports / COMPARISONS, _PairList)
    return {frozenset((pair.first, pair.second)): pair.page for pair in found.pairs} if found else {}


def _read(path: Path, kind: type[Kind]) -> Kind | None:
    """A JSON file as a dataclass with the same names; its folder is the one that it is in now."""
    if not path.exists():
        return None
    try:
        found = read_json(path)
    except DataError as error:
        raise DataError(f"{error} {_AGAIN}") from None
    if isinstance(found, dict):
        found |= {"folder": path.parent}
    try:
        return TypeAdapter(kind).validate_python(found)
    except ValidationError as error:
        first = error.errors()[0]
        raise _damaged(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _read_rows(path: Path) -> Iterator[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            yield from csv.DictReader(file)
    except csv.Error as error:
        raise _damaged(path, str(error)) from None
    except OSError as error:
        raise DataError(
            f"Expected the table {path}, but it cannot be read ({error.strerror}). Run twincar evaluate again."
        ) from None


def _damaged(path: Path, found: str) -> DataError:
    return DataError(f"Expected {path} as TwinCar writes it, but it is damaged ({found}). {_AGAIN}")
