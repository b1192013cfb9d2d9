"""Reliability metrics: calibration, risk and coverage, taxonomy levels, and detection of unknown cars.

Shapes: N photos, K classes, M photos of unknown cars. `right` is whether the prediction for each photo is right, N.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as sk

from twincar.metrics.classification import (
    Interval,
    Labels,
    Predictions,
    Probabilities,
    bin_of,
    expected_calibration_error,
)
from twincar.metrics.intervals import ece_interval, share_interval
from twincar.models.levels import ANSWERED, Level, most_specific

Scores = NDArray[np.float32]
Right = NDArray[np.bool_]

_POINTS = 200  # most points of a curve


@dataclass(frozen=True)
class ReliabilityBin:
    """A bin of photos with similar confidence."""

    confidence: float
    """Mean confidence."""
    accuracy: float
    photos: int


def reliability_bins(predictions: Predictions) -> list[ReliabilityBin]:
    """The bins of `expected_calibration_error` that hold photos."""
    confidence, right = predictions.confidence, predictions.right
    bins = bin_of(confidence)
    return [
        ReliabilityBin(float(confidence[bins == b].mean()), float(right[bins == b].mean()), int((bins == b).sum()))
        for b in np.unique(bins)
    ]


@dataclass(frozen=True)
class CalibrationReport:
    """Calibration before and after temperature scaling."""

    temperature: float
    before: dict[str, float]
    """ece, nll (nats) and brier."""
    after: dict[str, float]
    bins_before: list[ReliabilityBin]
    bins: list[ReliabilityBin]
    """The bins after scaling."""


def calibration_report(temperature: float, before: Predictions, after: Predictions) -> CalibrationReport:
    """From the predictions of the network without and with the temperature."""
    return CalibrationReport(
        temperature, _figures(before), _figures(after), reliability_bins(before), reliability_bins(after)
    )


def _figures(predictions: Predictions) -> dict[str, float]:
    error = expected_calibration_error(predictions.confidence, predictions.right)
    return {"ece": error, "nll": predictions.loss, "brier": predictions.brier}


@dataclass(frozen=True)
class RiskCoverage:
    """The risk-coverage curve: the error rate when the least confident predictions are rejected (Geifman and El-Yaniv,
    2017)."""

    coverage: list[float]
    """Share of the photos that are accepted, rising."""
    risk: list[float]
    """Share of wrong predictions among them."""
    area: float
    """Mean risk over all coverages; the lower, the better confidence separates right from wrong predictions."""


def risk_coverage(confidence: Scores, right: Right) -> RiskCoverage:
    """From the confidence of each prediction, N, and whether it is right, N; ties are rejected together."""
    order = np.argsort(-confidence, kind="stable")
    ends = np.flatnonzero(np.diff(confidence[order], append=-np.inf)) + 1  # accepted so far, after each tie
    risks = np.cumsum(~right[order])[ends - 1] / ends
    area = float(np.average(risks, weights=np.diff(ends, prepend=0)))
    shown = np.unique(np.linspace(0, len(ends) - 1, _POINTS).round().astype(int))
    return RiskCoverage((ends[shown] / len(right)).tolist(), risks[shown].tolist(), area)


@dataclass(frozen=True)
class Rejection:
    """The effect of rejecting photos that do not look like a known car, measured on photos of known cars."""

    false_rejection: float
    """The requested share of validation photos that are rejected."""
    accepted: float
    """Share of these photos that are accepted."""
    accuracy_of_accepted: float
    accuracy_of_rejected: float | None
    """None if there are none."""


def rejection(scores: Scores, right: Right, false_rejection: float) -> Rejection:
    """From the in-distribution score of each photo, N; see `models/calibration.py`."""
    accepted = scores >= false_rejection
    return Rejection(
        false_rejection=false_rejection,
        accepted=float(accepted.mean()),
        accuracy_of_accepted=float(right[accepted].mean()) if accepted.any() else 0.0,
        accuracy_of_rejected=None if accepted.all() else float(right[~accepted].mean()),
    )


@dataclass(frozen=True)
class LevelPredictions:
    """The most likely group of each photo at one level, such as its make."""

    named: Right
    """Whether the name of the true class contains this level, N."""
    right: Right
    """Whether the group is the true one, N."""
    probability: Probabilities
    """Probability of the group, N."""

    @classmethod
    def from_probabilities(cls, level: Level, labels: Labels, probabilities: Probabilities) -> LevelPredictions:
        """From calibrated probabilities of the classes, N×K."""
        groups, shares = level.most_likely(probabilities)
        truth = level.group_of[labels]
        named = np.array([bool(name) for name in level.groups])[truth]
        return cls(named, (groups == truth) & named, shares)

    @classmethod
    def join(cls, parts: Iterable[LevelPredictions]) -> LevelPredictions:
        """Concatenate the predictions for several groups of photos."""
        columns = zip(*((part.named, part.right, part.probability) for part in parts), strict=True)
        return cls(*(np.concatenate(column) for column in columns))


@dataclass(frozen=True)
class LevelReport:
    """Metrics at one level."""

    level: str
    photos: int
    """Number of photos whose class names contain this level."""
    accuracy: float
    ece: float
    """Expected calibration error of the summed probabilities."""
    answered: float | None
    """Share of all photos with an answer at this level; None for a level that answers never have."""
    precision: float | None
    """Share of these answers that are right; None if there are none."""
    intervals: dict[str, Interval] = field(default_factory=dict)
    """95% intervals of the figures above, by name."""


def level_reports(levels: Mapping[str, LevelPredictions], minimum: float) -> list[LevelReport]:
    """One report for each level that any class name contains.

    Args:
        levels: the predictions at each level.
        minimum: least probability of an answer.
    """
    chosen = most_specific({name: levels[name].probability for name in ANSWERED}, minimum)
    reports = []
    for name, found in levels.items():
        if not found.named.any():
            continue
        given = chosen == ANSWERED.index(name) if name in ANSWERED else None
        right, error = found.right[found.named], ece_interval(found.probability[found.named], found.right[found.named])
        intervals = {
            "accuracy": share_interval(right),
            "ece": error,
            "answered": None if given is None else share_interval(given),
            "precision": None if given is None else share_interval(found.right[given]),
        }
        known = {name: interval for name, interval in intervals.items() if interval}
        reports.append(
            LevelReport(
                level=name,
                photos=int(found.named.sum()),
                accuracy=known["accuracy"].value,
                ece=error.value,
                answered=known["answered"].value if "answered" in known else None,
                precision=known["precision"].value if "precision" in known else None,
                intervals=known,
            )
        )
    return reports


@dataclass(frozen=True)
class OpenSetMetrics:
    """How well a score separates photos of known cars from others."""

    auroc: float
    """Probability that a known photo scores higher than an unknown one."""
    fpr95: float
    """Share of the unknown photos that pass the threshold which 95% of the known ones pass."""
    oscr: float
    """Area under the share of known photos that pass and are right, over the share of unknown ones that pass (Dhamija
    et al., 2018)."""


@dataclass(frozen=True)
class UnknownGroup:
    """How well one group of unknown photos is separated from the known ones by the in-distribution score."""

    name: str
    """Difficulty of unseen classes, or kind of far-OOD image."""
    is_car: bool
    photos: int
    auroc: float
    fpr95: float
    oscr: float
    rejected: float
    """Share of the photos that are rejected."""
    auroc_by_others: dict[str, float]
    """AUROC of other scores."""


def open_set(known: Scores, right: Right, unknown: Scores) -> OpenSetMetrics:
    """From the scores of known photos, N, whether their predictions are right, N, and scores of unknown photos, M."""
    is_known = np.concatenate([np.ones(len(known)), np.zeros(len(unknown))])
    scores = np.concatenate([known, unknown])
    false, true, _ = sk.roc_curve(is_known, scores, drop_intermediate=False)
    return OpenSetMetrics(
        auroc=float(sk.roc_auc_score(is_known, scores)),
        fpr95=float(false[np.argmax(true >= 0.95)]),
        oscr=_oscr(known, right, unknown),
    )


def _oscr(known: Scores, right: Right, unknown: Scores) -> float:
    """By the trapezoidal rule over every threshold that occurs, as for an ROC curve."""
    thresholds = np.unique(np.concatenate([known, unknown]))[::-1]
    correct = np.sort(known[right])
    passing_right = (len(correct) - np.searchsorted(correct, thresholds)) / len(known)
    passing_unknown = (len(unknown) - np.searchsorted(np.sort(unknown), thresholds)) / len(unknown)
    return float(np.trapezoid(np.append(0, passing_right), np.append(0, passing_unknown)))
