"""What the verbs left in `RUN/reports`, read back for the page: one small function a file.

A file that is not there is None, so that the page can tell which command makes it. Of a file is read what the page
shows; its other entries are ignored.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from twincar.core.errors import DataError
from twincar.data.class_issues import ClassIssue
from twincar.data.training_record import Seen, describe
from twincar.metrics.classification import Chance, Interval
from twincar.metrics.reliability import CalibrationReport, LevelReport, Rejection, RiskCoverage, UnknownGroup
from twincar.metrics.saliency import Score

METRICS, PREDICTIONS, CLASSES = "metrics.json", "predictions.csv", "classification_report.csv"
CORRUPTIONS, OPEN_SET = "corruptions.json", "open_set/open_set.json"
Kind = TypeVar("Kind")

_AVERAGES = ("macro average", "weighted average")


@dataclass(frozen=True)
class Answer:
    """One photo of the split."""

    file: str
    truth: str
    answer: str
    confidence: float
    second: str
    """The next likeliest class; empty where there is only one."""

    @property
    def correct(self) -> bool:
        """Whether the answer is the truth."""
        return self.answer == self.truth


@dataclass(frozen=True)
class ClassRow:
    """One class that occurs in the split."""

    name: str
    precision: float
    recall: float
    f1: float
    photos: int
    taken_for: str
    """The class it is most often taken for; empty where it never is."""


@dataclass(frozen=True)
class Metrics:
    """`metrics.json`."""

    split: str
    photos: int
    accuracy: Interval
    macro_f1: Interval
    chance: Chance
    metrics: dict[str, float]
    calibration: CalibrationReport
    rejection: Rejection
    risk_coverage: RiskCoverage
    confidence: float
    """How probable an answer had to be to be given."""
    levels: list[LevelReport]
    intervals: dict[str, Interval] = field(default_factory=dict)
    """95% intervals of `metrics`, by name."""
    data: str | None = None
    """Name of the data set, if it is another one than the model was trained on."""
    seen: Seen | None = None
    """How many of the photos the model has seen in training; None where that was not checked."""
    absent: tuple[str, ...] = ()
    """Classes of the model without a photo in the split; macro averages leave them out."""

    @property
    def described(self) -> str:
        """The photos in words, and whether the model has seen them."""
        return describe(self.split, self.data, self.seen)


@dataclass(frozen=True)
class OpenSet:
    """`open_set.json`."""

    accuracy: float
    """Among the known classes."""
    rejected: float
    """Share of the known photos that is turned away."""
    groups: list[UnknownGroup]


@dataclass(frozen=True)
class Corruption:
    """Accuracy on photos spoilt in one way, at one severity."""

    corruption: str
    severity: int | None
    """1 to 5; None where the data does not say."""
    accuracy: float
    low: float
    high: float

    @property
    def name(self) -> str:
        """As people write it."""
        return self.corruption.replace("_", " ")


@dataclass(frozen=True)
class Corruptions:
    """`corruptions.json`."""

    clean: Interval
    mean: float
    corruptions: list[Corruption]


@dataclass(frozen=True)
class ExplanationScores:
    """`explanation_scores.json`."""

    photos: int
    scores: list[Score]

    def by_score(self) -> dict[str, list[Score]]:
        """The maps put to each score."""
        found: dict[str, list[Score]] = {}
        for score in self.scores:
            found.setdefault(score.score, []).append(score)
        return found


@dataclass(frozen=True)
class Audit:
    """`audit.json`."""

    photos: int
    unsound: dict[str, int]
    """Photos that cannot be used, by defect."""
    findings: dict[str, int]
    """Other findings, by reason."""
    classes: list[ClassIssue]
    to_exclude: int
    estimated_label_noise: float | None
    """Share of wrong labels; None if labels were not judged."""

    def counts(self) -> dict[str, int]:
        """Photos by what is wrong with them."""
        return {**self.unsound, **self.findings}


@dataclass(frozen=True)
class _Pair:
    first: str
    second: str
    page: str


@dataclass(frozen=True)
class _Comparisons:
    pairs: list[_Pair]


def read_metrics(folder: Path) -> Metrics:
    """The figures of a split, from `reports/<split>/`.

    Raises:
        DataError: the file is missing or damaged.
    """
    found = _read(folder / METRICS, Metrics)
    if found is None:
        raise DataError(f"Expected the figures of an evaluation in {folder / METRICS}, and there is no such file.")
    return found


def read_predictions(folder: Path) -> list[Answer]:
    """The answer to each photo, from `reports/<split>/predictions.csv`.

    Raises:
        DataError: the file is missing or damaged.
    """
    path = folder / PREDICTIONS
    try:
        return [
            Answer(row["file"], row["truth"], row["top1"], float(row["probability1"]), row.get("top2") or "")
            for row in _read_rows(path)
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, str(error)) from None


def read_classes(folder: Path) -> list[ClassRow]:
    """The classes of the split, from `reports/<split>/classification_report.csv`.

    Raises:
        DataError: the file is missing or damaged.
    """
    path = folder / CLASSES
    try:
        rows = list(_read_rows(path))
        if [row["class_name"] for row in rows[-2:]] == list(_AVERAGES):  # a class may be called so too
            rows = rows[:-2]
        return [
            ClassRow(
                name=row["class_name"],
                precision=float(row["precision"]),
                recall=float(row["recall"]),
                f1=float(row["f1"]),
                photos=int(row["support"]),
                taken_for=row["most_confused_with"],
            )
            for row in rows
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, str(error)) from None


def read_open_set(reports: Path) -> OpenSet | None:
    """How unknown cars are told apart, from `reports/open_set/`.

    Raises:
        DataError: the file is damaged.
    """
    return _read(reports / OPEN_SET, OpenSet)


def read_corruptions(folder: Path) -> Corruptions | None:
    """Accuracy on spoilt photos, from `reports/<split>/`.

    Raises:
        DataError: the file is damaged.
    """
    return _read(folder / CORRUPTIONS, Corruptions)


def read_explanation_scores(folder: Path) -> ExplanationScores | None:
    """How true the heat maps are, from `reports/<split>/`.

    Raises:
        DataError: the file is damaged.
    """
    return _read(folder / "explanation_scores.json", ExplanationScores)


def read_audit(reports: Path) -> Audit | None:
    """What is wrong with the data, from `reports/audit/`.

    Raises:
        DataError: the file is damaged.
    """
    return _read(reports / "audit" / "audit.json", Audit)


def read_comparisons(reports: Path) -> dict[frozenset[str], str]:
    """The pages in `reports/compare/` that compare two classes, by the two.

    Raises:
        DataError: the file is damaged.
    """
    found = _read(reports / "compare" / "compare.json", _Comparisons)
    return {frozenset((pair.first, pair.second)): pair.page for pair in found.pairs} if found else {}


def _read(path: Path, kind: type[Kind]) -> Kind | None:
    """A JSON file as a dataclass whose fields are named as its entries."""
    if not path.exists():
        return None
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        raise _damaged(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except OSError as error:
        raise _damaged(path, error.strerror or "") from None


def _read_rows(path: Path) -> Iterator[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            yield from csv.DictReader(file)
    except csv.Error as error:
        raise _damaged(path, str(error)) from None
    except OSError as error:
        raise DataError(
            f"Expected the table {path}, and it cannot be read ({error.strerror}). Run twincar evaluate again."
        ) from None


def _damaged(path: Path, found: str) -> DataError:
    return DataError(
        f"Expected {path} as TwinCar writes it, and it is damaged ({found}). Run the command that made it again."
    )
