"""What the verbs left in `RUN/reports`, read back for the page: one small function a file.

A file that is not there is None, so that the page can tell which command makes it; a figure that a file lacks is None,
so that a report of an earlier version still opens.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from twincar.errors import DataError
from twincar.files import read_json
from twincar.metrics import Interval

METRICS, PREDICTIONS, CLASSES = "metrics.json", "predictions.csv", "classification_report.csv"
Parsed = TypeVar("Parsed")

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
class Quality:
    """How well probabilities fit; lower is better."""

    ece: float | None
    nll: float | None
    brier: float | None


@dataclass(frozen=True)
class Bin:
    """Photos of similar confidence."""

    confidence: float
    accuracy: float
    photos: int


@dataclass(frozen=True)
class Calibration:
    """Confidence before and after the temperature."""

    temperature: float | None
    before: Quality
    after: Quality
    bins_before: list[Bin]
    bins: list[Bin]


@dataclass(frozen=True)
class Rejection:
    """What comes of turning away photos that do not look like a known car."""

    false_rejection: float | None
    """Asked for on validation photos."""
    accepted: float | None
    accuracy_of_accepted: float | None


@dataclass(frozen=True)
class RiskCoverage:
    """Share of wrong answers, the more photos are answered."""

    coverage: list[float]
    """Share of the photos answered, surest first, rising."""
    risk: list[float]
    """Share of wrong answers among those, for each coverage."""
    area: float | None


@dataclass(frozen=True)
class Level:
    """How good answers are at one level, such as the make."""

    name: str
    accuracy: float | None
    answered: float | None
    """Share of all answers that end there; None where none may."""
    precision: float | None
    """Of those."""


@dataclass(frozen=True)
class Metrics:
    """`metrics.json`."""

    split: str
    photos: int
    accuracy: Interval
    macro_f1: Interval
    values: dict[str, float]
    calibration: Calibration | None
    rejection: Rejection | None
    risk_coverage: RiskCoverage | None
    confidence: float | None
    """How probable an answer had to be to be given."""
    levels: list[Level]


@dataclass(frozen=True)
class UnknownGroup:
    """How well one kind of unknown photos is told from known cars."""

    name: str
    is_car: bool
    photos: int | None
    auroc: float | None
    fpr95: float | None
    oscr: float | None
    rejected: float | None


@dataclass(frozen=True)
class OpenSet:
    """`open_set.json`."""

    accuracy: float | None
    """Among the known classes."""
    rejected: float | None
    """Share of the known photos that is turned away."""
    groups: list[UnknownGroup]


@dataclass(frozen=True)
class Corruption:
    """Accuracy on photos spoilt in one way, at one severity."""

    name: str
    severity: int | None
    """1 to 5; None where the data does not say."""
    accuracy: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Corruptions:
    """`corruptions.json`."""

    clean: float | None
    mean: float | None
    rows: list[Corruption]


@dataclass(frozen=True)
class ExplanationScore:
    """How true one kind of map is by one score."""

    score: str
    map: str
    value: float | None
    low: float | None
    high: float | None
    better: str
    """Which way is better, such as 'higher'."""


@dataclass(frozen=True)
class ExplanationScores:
    """`explanation_scores.json`."""

    photos: int | None
    by_score: dict[str, list[ExplanationScore]]
    """The maps put to each score."""


@dataclass(frozen=True)
class Audit:
    """`audit.json`."""

    photos: int | None
    findings: dict[str, int]
    """How many of each kind."""
    class_issues: list[str]
    to_exclude: int | None
    label_noise: float | None
    """Share of labels that are wrong, by estimate."""


def read_metrics(folder: Path) -> Metrics:
    """The figures of a split, from `reports/<split>/metrics.json`.

    Raises:
        DataError: the file is missing or damaged.
    """
    path = folder / METRICS
    return _parse(path, read_json(path), _metrics)


def read_answers(folder: Path) -> list[Answer]:
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
        raise _damaged(path, error) from None


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
        raise _damaged(path, error) from None


def read_open_set(reports: Path) -> OpenSet | None:
    """How unknown cars are told apart, from `reports/open_set/`.

    Raises:
        DataError: the file is damaged.
    """
    return _read(reports / "open_set" / "open_set.json", _open_set)


def read_corruptions(folder: Path) -> Corruptions | None:
    """Accuracy on spoilt photos, from `reports/<split>/`.

    Raises:
        DataError: the file is damaged.
    """
    return _read(folder / "corruptions.json", _corruptions)


def read_explanation_scores(folder: Path) -> ExplanationScores | None:
    """How true the heat maps are, from `reports/<split>/`.

    Raises:
        DataError: the file is damaged.
    """
    return _read(folder / "explanation_scores.json", _explanation_scores)


def read_audit(reports: Path) -> Audit | None:
    """What is wrong with the data, from `reports/audit/`.

    Raises:
        DataError: the file is damaged.
    """
    return _read(reports / "audit" / "audit.json", _audit)


def read_comparisons(reports: Path) -> dict[frozenset[str], str]:
    """The pages in `reports/compare/` that compare two classes, by the two.

    Raises:
        DataError: the file is damaged.
    """
    return _read(reports / "compare" / "compare.json", _comparisons) or {}


def _read(path: Path, parse: Callable[[Any], Parsed]) -> Parsed | None:
    return _parse(path, read_json(path), parse) if path.exists() else None


def _parse(path: Path, found: Any, parse: Callable[[Any], Parsed]) -> Parsed:
    try:
        return parse(found)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, error) from None


def _read_rows(path: Path) -> Iterator[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            yield from csv.DictReader(file)
    except OSError as error:
        raise DataError(
            f"Expected the table {path}, and it cannot be read ({error.strerror}). Run twincar evaluate again."
        ) from None


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        f"Expected {path} as TwinCar writes it, and it is damaged ({error!r}). Run the command that made it again."
    )


def _metrics(found: Mapping[str, Any]) -> Metrics:
    return Metrics(
        split=str(found["split"]),
        photos=int(found["photos"]),
        accuracy=_interval(found["accuracy"]),
        macro_f1=_interval(found["macro_f1"]),
        values={name: float(value) for name, value in found["metrics"].items()},
        calibration=_calibration(found.get("calibration")),
        rejection=_rejection(found.get("rejection")),
        risk_coverage=_risk_coverage(found.get("risk_coverage")),
        confidence=_number(found, "confidence"),
        levels=[_level(row) for row in found.get("levels") or []],
    )


def _interval(found: Mapping[str, Any]) -> Interval:
    return Interval(float(found["value"]), float(found["low"]), float(found["high"]))


def _calibration(found: Mapping[str, Any] | None) -> Calibration | None:
    if not found:
        return None
    return Calibration(
        temperature=_number(found, "temperature"),
        before=_quality(found.get("before") or {}),
        after=_quality(found.get("after") or {}),
        bins_before=_bins(found.get("bins_before")),
        bins=_bins(found.get("bins")),
    )


def _quality(found: Mapping[str, Any]) -> Quality:
    return Quality(_number(found, "ece"), _number(found, "nll"), _number(found, "brier"))


def _bins(found: list[Mapping[str, Any]] | None) -> list[Bin]:
    """Bins that hold photos."""
    return [
        Bin(float(row["confidence"]), float(row["accuracy"]), int(row["photos"]))
        for row in found or []
        if row["photos"]
    ]


def _rejection(found: Mapping[str, Any] | None) -> Rejection | None:
    if not found:
        return None
    return Rejection(
        false_rejection=_number(found, "false_rejection"),
        accepted=_number(found, "accepted"),
        accuracy_of_accepted=_number(found, "accuracy_of_accepted"),
    )


def _risk_coverage(found: Mapping[str, Any] | None) -> RiskCoverage | None:
    if not found:
        return None
    coverage, risk = ([float(value) for value in found[name]] for name in ("coverage", "risk"))
    return RiskCoverage(coverage, risk, _number(found, "area"))


def _level(row: Mapping[str, Any]) -> Level:
    return Level(str(row["level"]), _number(row, "accuracy"), _number(row, "answered"), _number(row, "precision"))


def _open_set(found: Mapping[str, Any]) -> OpenSet:
    groups = [
        UnknownGroup(
            name=str(row["name"]),
            is_car=bool(row.get("is_car")),
            photos=_count(row, "photos"),
            auroc=_number(row, "auroc"),
            fpr95=_number(row, "fpr95"),
            oscr=_number(row, "oscr"),
            rejected=_number(row, "rejected"),
        )
        for row in found.get("groups") or []
    ]
    return OpenSet(_number(found, "accuracy"), _number(found, "rejected"), groups)


def _corruptions(found: Mapping[str, Any]) -> Corruptions:
    rows = [
        Corruption(
            name=str(row["corruption"]).replace("_", " "),
            severity=_count(row, "severity"),
            accuracy=float(row["accuracy"]),
            low=_number(row, "low"),
            high=_number(row, "high"),
        )
        for row in found.get("corruptions") or []
        if row.get("accuracy") is not None
    ]
    return Corruptions(_number(found.get("clean") or {}, "value"), _number(found, "mean"), rows)


def _explanation_scores(found: Mapping[str, Any]) -> ExplanationScores:
    by_score: dict[str, list[ExplanationScore]] = {}
    for row in found.get("scores") or []:
        score = ExplanationScore(
            score=str(row["score"]),
            map=str(row["map"]),
            value=_number(row, "value"),
            low=_number(row, "low"),
            high=_number(row, "high"),
            better=str(row.get("better") or ""),
        )
        by_score.setdefault(score.score, []).append(score)
    return ExplanationScores(_count(found, "photos"), by_score)


def _audit(found: Mapping[str, Any]) -> Audit:
    counts = {**(found.get("unsound") or {}), **(found.get("findings") or {})}
    return Audit(
        photos=_count(found, "photos"),
        findings={str(kind): int(count) for kind, count in counts.items()},
        class_issues=[f"{issue['reason']}: {issue['detail']}" for issue in found.get("classes") or []],
        to_exclude=_count(found, "to_exclude"),
        label_noise=_number(found, "estimated_label_noise"),
    )


def _comparisons(found: Mapping[str, Any]) -> dict[frozenset[str], str]:
    return {
        frozenset((row["first"], row["second"])): str(row["page"])
        for row in found.get("pairs") or []
        if row.get("page")
    }


def _number(found: Mapping[str, Any], name: str) -> float | None:
    """A figure; None where there is none, or none that is finite."""
    value = float("nan") if found.get(name) is None else float(found[name])
    return value if math.isfinite(value) else None


def _count(found: Mapping[str, Any], name: str) -> int | None:
    value = found.get(name)
    return None if value is None else int(value)
