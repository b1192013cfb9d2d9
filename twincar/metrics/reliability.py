"""How far answers can be trusted: calibration, what is gained by turning photos away, coarser answers, unknown cars.

Shapes: N photos, K classes, M photos of unknown cars. `right` says of each photo whether its answer is, N.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as sk

from twincar.metrics.classification import Labels, Predictions, Probabilities, bin_of, expected_calibration_error
from twincar.models.levels import ANSWERED, Level, most_specific

Scores = NDArray[np.float32]
Right = NDArray[np.bool_]

_POINTS = 200  # of a curve, at most


@dataclass(frozen=True)
class ReliabilityBin:
    """Photos of about the same confidence."""

    confidence: float
    """Their mean."""
    accuracy: float
    photos: int


def reliability_bins(answers: Predictions) -> list[ReliabilityBin]:
    """The bins of `expected_calibration_error` that hold photos."""
    confidence, right = answers.confidence, answers.right
    bins = bin_of(confidence)
    return [
        ReliabilityBin(float(confidence[bins == b].mean()), float(right[bins == b].mean()), int((bins == b).sum()))
        for b in np.unique(bins)
    ]


@dataclass(frozen=True)
class CalibrationReport:
    """Probabilities before and after the temperature."""

    temperature: float
    before: dict[str, float]
    """ece, nll (nats) and brier."""
    after: dict[str, float]
    bins_before: list[ReliabilityBin]
    bins: list[ReliabilityBin]
    """After."""


def calibration_report(temperature: float, before: Predictions, after: Predictions) -> CalibrationReport:
    """Of the answers of the network as it is, and of the calibrated ones."""
    return CalibrationReport(
        temperature, _figures(before), _figures(after), reliability_bins(before), reliability_bins(after)
    )


def _figures(answers: Predictions) -> dict[str, float]:
    metrics = {"ece": expected_calibration_error(answers.confidence, answers.right)}
    return {**metrics, "nll": answers.loss, "brier": answers.brier}


@dataclass(frozen=True)
class RiskCoverage:
    """How the share of wrong answers falls as the least sure ones are turned away (Geifman and El-Yaniv, 2017)."""

    coverage: list[float]
    """Share of the photos that are answered, rising."""
    risk: list[float]
    """Share of wrong ones among these answers."""
    area: float
    """Mean of the risk over all coverages: the lower, the better confidence tells right from wrong."""


def risk_coverage(confidence: Scores, right: Right) -> RiskCoverage:
    """Of the confidence in each answer, N, and whether it is right, N; photos equally sure are turned away together."""
    order = np.argsort(-confidence, kind="stable")
    ends = np.flatnonzero(np.diff(confidence[order], append=-np.inf)) + 1  # answered so far, after each group of equals
    risks = np.cumsum(~right[order])[ends - 1] / ends
    area = float(np.average(risks, weights=np.diff(ends, prepend=0)))
    shown = np.unique(np.linspace(0, len(ends) - 1, _POINTS).round().astype(int))
    return RiskCoverage((ends[shown] / len(right)).tolist(), risks[shown].tolist(), area)


@dataclass(frozen=True)
class Rejection:
    """What comes of turning away photos that do not look like a known car; all photos here are of known ones."""

    false_rejection: float
    """Share of the validation photos that is turned away, as asked for."""
    accepted: float
    """Share of the photos here that is not."""
    accuracy_of_accepted: float
    accuracy_of_rejected: float | None
    """None if there are none."""


def rejection(scores: Scores, right: Right, false_rejection: float) -> Rejection:
    """Of the in-distribution score of each photo, N: see `models/calibration.py`."""
    accepted = scores >= false_rejection
    return Rejection(
        false_rejection=false_rejection,
        accepted=float(accepted.mean()),
        accuracy_of_accepted=float(right[accepted].mean()) if accepted.any() else 0.0,
        accuracy_of_rejected=None if accepted.all() else float(right[~accepted].mean()),
    )


@dataclass(frozen=True)
class LevelPredictions:
    """The likeliest group of each photo at one level, such as its make."""

    told: Right
    """Whether the name of the true class tells this level, N."""
    right: Right
    """Whether the group is the true one, N."""
    probability: Probabilities
    """Of that group, N."""

    @classmethod
    def from_probabilities(cls, level: Level, labels: Labels, probabilities: Probabilities) -> LevelPredictions:
        """Of calibrated probabilities of the classes, N×K."""
        groups, shares = level.most_likely(probabilities)
        truth = level.group_of[labels]
        told = np.array([bool(name) for name in level.groups])[truth]
        return cls(told, (groups == truth) & told, shares)

    @classmethod
    def join(cls, parts: Iterable[LevelPredictions]) -> LevelPredictions:
        """The answers for some photos, then those for more."""
        columns = zip(*((part.told, part.right, part.probability) for part in parts), strict=True)
        return cls(*(np.concatenate(column) for column in columns))


@dataclass(frozen=True)
class LevelReport:
    """How good answers are at one level."""

    level: str
    photos: int
    """Whose class names tell this level."""
    accuracy: float
    ece: float
    """Expected calibration error of the summed probabilities."""
    answered: float | None
    """Share of all photos whose answer ends at this level; None at a level at which none may end."""
    precision: float | None
    """Share of these answers that are right; None if there are none."""


def level_reports(levels: Mapping[str, LevelPredictions], minimum: float) -> list[LevelReport]:
    """One report a level that any class name tells.

    Args:
        levels: the answers at each.
        minimum: how probable an answer has to be to be given.
    """
    places = most_specific({name: levels[name].probability for name in ANSWERED}, minimum)
    reports = []
    for name, found in levels.items():
        if not found.told.any():
            continue
        ends = places == ANSWERED.index(name) if name in ANSWERED else None
        reports.append(
            LevelReport(
                level=name,
                photos=int(found.told.sum()),
                accuracy=float(found.right[found.told].mean()),
                ece=expected_calibration_error(found.probability[found.told], found.right[found.told]),
                answered=None if ends is None else float(ends.mean()),
                precision=None if ends is None or not ends.any() else float(found.right[ends].mean()),
            )
        )
    return reports


@dataclass(frozen=True)
class OpenSet:
    """How well a score tells photos of known cars from others."""

    auroc: float
    """Probability that a known one scores higher than an unknown one."""
    fpr95: float
    """Share of the unknown that pass the threshold which 95% of the known pass."""
    oscr: float
    """Area under the share of known photos that pass and are right, over the share of unknown ones that pass (Dhamija
    et al., 2018)."""


@dataclass(frozen=True)
class UnknownGroup:
    """How well one kind of unknown photos is told from the known ones, by the known score."""

    name: str
    """Difficulty of unseen classes, or kind of picture that is no car."""
    is_car: bool
    photos: int
    auroc: float
    fpr95: float
    oscr: float
    rejected: float
    """Share that is turned away."""
    auroc_by_others: dict[str, float]
    """AUROC of other scores."""


def open_set(known: Scores, right: Right, unknown: Scores) -> OpenSet:
    """Of the scores of known photos, N, whether their answers are right, N, and the scores of unknown ones, M."""
    is_known = np.concatenate([np.ones(len(known)), np.zeros(len(unknown))])
    scores = np.concatenate([known, unknown])
    false, true, _ = sk.roc_curve(is_known, scores, drop_intermediate=False)
    return OpenSet(
        auroc=float(sk.roc_auc_score(is_known, scores)),
        fpr95=float(false[np.argmax(true >= 0.95)]),
        oscr=_oscr(known, right, unknown),
    )


def _oscr(known: Scores, right: Right, unknown: Scores) -> float:
    """By trapezoids over every threshold that occurs, as of an ROC curve."""
    thresholds = np.unique(np.concatenate([known, unknown]))[::-1]
    correct = np.sort(known[right])
    passing_right = (len(correct) - np.searchsorted(correct, thresholds)) / len(known)
    passing_unknown = (len(unknown) - np.searchsorted(np.sort(unknown), thresholds)) / len(unknown)
    return float(np.trapezoid(np.append(0, passing_right), np.append(0, passing_unknown)))
