"""The results of judging a model: each verb returns one of these and writes it, and the report reads it back.

They are separate from the functions that compute them, so that reading them imports neither torch nor matplotlib. Those
of `explain --score`, `compare` and `audit` are here too, because the report, which is below those verbs, shows them.

Shapes: N photos, K classes of the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from twincar.core.labels import ClassNames
from twincar.core.machine import describe_cpu
from twincar.core.wording import duration
from twincar.data.class_issues import ClassIssue
from twincar.data.training_record import Seen, describe
from twincar.metrics.classification import Chance, Interval, confusion_matrix
from twincar.metrics.reliability import CalibrationReport, LevelReport, Rejection, RiskCoverage, UnknownGroup
from twincar.metrics.saliency import Score

METRICS, PREDICTIONS, CLASSES = "metrics.json", "predictions.csv", "classification_report.csv"
CORRUPTIONS, OPEN_SET = "corruptions.json", "open_set/open_set.json"
EXPLANATION_SCORES, COMPARISONS, AUDIT = "explanation_scores.json", "compare/compare.json", "audit/audit.json"


@dataclass(frozen=True)
class PhotoPrediction:
    """The prediction for one photo of a split: a row of `predictions.csv`."""

    file: str
    """Path of the photo below the data set's folder of photos."""
    truth: str
    """The true class, as the model spells it."""
    predicted: str
    """The most likely class."""
    confidence: float
    """Probability of that class, to six digits."""
    second: str = ""
    """The second most likely class; empty if the model has only one."""

    @classmethod
    def from_row(cls, row: Mapping[str, str]) -> PhotoPrediction:
        """From a row of `predictions.csv`; columns that are not needed are ignored.

        Raises:
            KeyError: a column is missing.
            ValueError: the confidence is not a number.
        """
        return cls(row["file"], row["truth"], row["top1"], float(row["probability1"]), row.get("top2") or "")

    @property
    def correct(self) -> bool:
        """Whether the most likely class is the true one."""
        return self.predicted == self.truth


def confusion_of(predictions: Sequence[PhotoPrediction], classes: ClassNames) -> sparse.csr_array:
    """The confusion matrix, K×K, of the predictions for N photos.

    Raises:
        LabelError: a prediction names a class that the model does not know.
    """
    truth, predicted = (
        np.array([classes.index(name) for name in names], np.int64)
        for names in ([row.truth for row in predictions], [row.predicted for row in predictions])
    )
    return confusion_matrix(truth, predicted, len(classes))


@dataclass(frozen=True)
class ClassScores:
    """The scores of one class that occurs in the split: a row of `classification_report.csv`."""

    name: str
    precision: float
    recall: float
    f1: float
    photos: int
    most_confused_with: str
    """The class most often predicted in its place; empty if it is always right."""


@dataclass(frozen=True)
class Measured:
    """When, on what and for how long a model was evaluated."""

    date: str
    """ISO 8601, UTC."""
    machine: str
    """The processor, whichever device the model ran on."""
    seconds: float
    """From reading the first photo to the last logits."""

    @classmethod
    def now(cls, seconds: float) -> Measured:
        """Measured today on this machine."""
        return cls(datetime.now(UTC).date().isoformat(), str(describe_cpu()), round(seconds, 2))

    def __str__(self) -> str:
        day = date.fromisoformat(self.date)
        return f"{day.day} {day:%B %Y}, in {duration(self.seconds)}, on {self.machine}"


@dataclass(frozen=True)
class Evaluation:
    """The metrics of a model on one split: `metrics.json`."""

    split: str
    photos: int
    data: str | None
    """Name of the data set; None if the model was trained on it."""
    seen: Seen | None
    """How many of the photos the model has seen in training; None if there is no record of that."""
    left_out: dict[str, int]
    """How many photos of a data set that was not prepared could not be used, by reason."""
    no_car: int | None
    """How many photos were taken whole, and rejected, because no car was found; None if cars were not looked for."""
    absent: list[str]
    """Classes of the model without photos in the split; macro averages leave them out."""
    accuracy: Interval
    macro_f1: Interval
    chance: Chance
    metrics: dict[str, float]
    """The metrics of the calibrated probabilities, by name."""
    intervals: dict[str, Interval]
    """95% intervals of these metrics, by name; loss, Brier, kappa and Matthews have none."""
    tta: dict[str, float] | None
    """The same metrics with test-time augmentation, if it was requested."""
    calibration: CalibrationReport
    """Before and after the temperature that was fitted on the validation photos."""
    confidence: float
    """Least probability of an answer."""
    levels: list[LevelReport]
    """The accuracy at each level, and how many answers are given at it."""
    rejection: Rejection
    risk_coverage: RiskCoverage
    folder: Path
    """The folder of the tables and figures."""
    measured: Measured | None = None
    """None if the logits were given."""

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


@dataclass(frozen=True)
class OpenSetEvaluation:
    """How well a model separates known cars from unknown photos: `open_set.json`."""

    split: str
    """The split of the photos of known cars."""
    photos: int
    """Number of photos of known cars."""
    accuracy: float
    """On these photos."""
    false_rejection: float
    """The requested share of validation photos that are rejected."""
    rejected: float
    """Share of the photos of known cars that are rejected."""
    groups: list[UnknownGroup]
    folder: Path

    @property
    def gap(self) -> str:
        """A sentence on what was not measured; empty if photos of unknown cars were."""
        if any(group.is_car for group in self.groups):
            return ""
        return (
            "No unknown cars were measured, because no class of the data set is held out of training: these images "
            "show no car at all, and are the easier ones to reject. To measure unknown cars, prepare with --open-set, "
            "which holds out the classes that a JSON file lists, train on that, and evaluate it."
        )

    def to_dict(self) -> dict[str, Any]:
        """For `open_set.json` and `--json`."""
        return asdict(self) | {"folder": str(self.folder)}


@dataclass(frozen=True)
class CorruptionScore:
    """The accuracy under one corruption at one severity, with its 95% interval: a row of `corruptions.csv`."""

    corruption: str
    severity: int | None
    """1 to 5; None for the corrupted photos of a data set that does not state it."""
    accuracy: float
    low: float
    high: float
    photos: int

    @property
    def name(self) -> str:
        """The corruption in words."""
        return self.corruption.replace("_", " ")

    @property
    def interval(self) -> Interval:
        """The accuracy with its interval."""
        return Interval(self.accuracy, self.low, self.high)


@dataclass(frozen=True)
class Robustness:
    """The accuracy of a model on corrupted photos of one split: `corruptions.json`."""

    split: str
    photos: int
    generated: bool
    """Whether the photos were corrupted by TwinCar; otherwise the data set contains them as splits."""
    clean: Interval
    """Accuracy on the same photos without corruption."""
    corruptions: tuple[CorruptionScore, ...]
    folder: Path
    """The folder of the table and the figure."""

    @property
    def means(self) -> dict[str, float]:
        """Accuracy under each corruption, averaged over its severities."""
        return {name: float(np.mean([a.value for a in found])) for name, found in self.by_corruption().items()}

    @property
    def mean(self) -> float:
        """Accuracy averaged over the corruptions."""
        return float(np.mean(list(self.means.values())))

    @property
    def relative(self) -> float:
        """`mean` as a share of the accuracy on clean photos; 0 if that is 0."""
        return self.mean / self.clean.value if self.clean.value else 0.0

    def by_corruption(self) -> dict[str, list[Interval]]:
        """Accuracy under each corruption, by rising severity."""
        names = dict.fromkeys(score.corruption for score in self.corruptions)
        return {name: [score.interval for score in self.corruptions if score.corruption == name] for name in names}

    def to_dict(self) -> dict[str, Any]:
        """For `corruptions.json` and `--json`."""
        return {
            "split": self.split,
            "photos": self.photos,
            "generated": self.generated,
            "clean": asdict(self.clean),
            "corruptions": [asdict(score) for score in self.corruptions],
            "means": self.means,
            "mean": self.mean,
            "relative": self.relative,
            "folder": str(self.folder),
        }


@dataclass(frozen=True)
class ExplanationScores:
    """How faithful the heat maps are: `explanation_scores.json`."""

    split: str
    photos: int
    scores: list[Score]
    folder: Path
    """The folder of the tables and the figure."""

    def by_score(self) -> dict[str, list[Score]]:
        """The scores of all maps, by the name of the score."""
        found: dict[str, list[Score]] = {}
        for score in self.scores:
            found.setdefault(score.score, []).append(score)
        return found

    def to_dict(self) -> dict[str, Any]:
        """For `explanation_scores.json` and `--json`."""
        return {"split": self.split, "photos": self.photos, "scores": [score.to_dict() for score in self.scores]}


@dataclass(frozen=True, kw_only=True)
class ComparedPair:
    """Two classes on one split, and how often each is predicted as the other: an entry of `compare.json`."""

    first: str
    second: str
    split: str
    photos_first: int
    """Number of photos of the first class."""
    photos_second: int
    right_first: int
    """How many of these photos are predicted correctly."""
    right_second: int
    first_as_second: int
    """How many photos of the first class are predicted as the second."""
    second_as_first: int
    confidence_first_as_second: float | None
    """Mean confidence of these predictions; None if there are none."""
    confidence_second_as_first: float | None
    page: str
    """File name of the page in `compare/`."""
    pngs: list[str]
    """File names of the figures beside it."""


@dataclass(frozen=True)
class AuditSummary:
    """The counts of a deep audit: `audit.json`."""

    photos: int
    invalid: dict[str, int]
    """Number of photos that cannot be used, by defect."""
    findings: dict[str, int]
    """Number of other findings, by reason."""
    classes: list[ClassIssue]
    to_exclude: int
    """Number of photos that should be excluded."""
    estimated_label_noise: float | None
    """Estimated share of wrong labels; None if the labels were not reviewed."""

    def counts(self) -> dict[str, int]:
        """Number of findings of each kind."""
        return {**self.invalid, **self.findings}
