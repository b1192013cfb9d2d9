"""Whether two models differ by more than chance on the same photos.

Shapes: N photos, R resamples. `labels` are the truth, N; `first` and `second` are what two models predict, N.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from twincar.metrics.classification import Interval, Labels

SIGNIFICANCE = 0.05
_RESAMPLES = 2000


@dataclass(frozen=True)
class PairedDifference:
    """What the second model scores more than the first, with its 95% interval and p-value."""

    difference: Interval
    p: float
    """Probability of a difference at least this large if the two were equally good."""

    @property
    def is_significant(self) -> bool:
        """Whether it is more than chance, at the level of 5%."""
        return self.p < SIGNIFICANCE


@dataclass(frozen=True)
class PairedTests:
    """Two models on the same photos."""

    both: int
    """Photos that both predict correctly."""
    only_first: int
    only_second: int
    neither: int
    accuracy: PairedDifference
    """Its p-value is of McNemar's exact test."""
    macro_f1: PairedDifference
    """Its p-value is of the paired bootstrap."""


def compare_predictions(labels: Labels, first: Labels, second: Labels, seed: int = 0) -> PairedTests:
    """Compare the predictions of two models for the same photos, N ≥ 1.

    The intervals are percentiles of the bootstrap: 2,000 resamples of photos, drawn with replacement within each class,
    so that no class is lost, the same ones for both models.
    """
    right_first, right_second = labels == first, labels == second
    only_first, only_second = int((right_first & ~right_second).sum()), int((right_second & ~right_first).sum())
    shifts = _bootstrap(labels, first, second, np.random.default_rng(seed))
    accuracy = (only_second - only_first) / len(labels)
    macro_f1 = float(_macro_f1(labels, second) - _macro_f1(labels, first))
    return PairedTests(
        both=int((right_first & right_second).sum()),
        only_first=only_first,
        only_second=only_second,
        neither=int((~right_first & ~right_second).sum()),
        accuracy=PairedDifference(_percentiles(accuracy, shifts[0]), mcnemar(only_first, only_second)),
        macro_f1=PairedDifference(_percentiles(macro_f1, shifts[1]), bootstrap_p(shifts[1])),
    )


def mcnemar(only_first: int, only_second: int) -> float:
    """The p-value of McNemar's test, two-sided and exact, from the photos that only one of two models gets right.

    If both are equally good, each of these photos falls to either with probability 1/2 (McNemar, 1947,
    https://doi.org/10.1007/BF02295996; for classifiers: Dietterich, 1998, https://doi.org/10.1162/089976698300017197).
    """
    photos = only_first + only_second
    return float(binomtest(only_first, photos).pvalue) if photos else 1.0


def bootstrap_p(differences: NDArray[np.float64]) -> float:
    """The two-sided p-value of a difference from its values on R paired resamples (Koehn, 2004, for translation).

    Twice the share of resamples on the other side of 0, or at 0, with one more counted there, so that it is never 0
    (Davison and Hinkley, 1997, section 4.2); at most 1.
    """
    below, above = ((1 + (side <= 0).sum()) / (1 + len(differences)) for side in (differences, -differences))
    return min(1.0, 2 * float(min(below, above)))


def holm(p_values: list[float]) -> list[float]:
    """The p-values of several tests, so adjusted that one below 0.05 is wrong in 5% of all cases (Holm, 1979)."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values).tolist()):
        highest = max(highest, (len(p_values) - rank) * p_values[index])
        adjusted[index] = min(1.0, highest)
    return adjusted


def _bootstrap(
    labels: Labels, first: Labels, second: Labels, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Differences of accuracy and of macro-F1, R each, on resamples within each class."""
    order = np.argsort(labels, kind="stable")
    labels, first, second = labels[order], first[order], second[order]
    starts, counts = np.searchsorted(labels, labels), np.bincount(labels)[labels]
    accuracy, macro_f1 = np.empty(_RESAMPLES), np.empty(_RESAMPLES)
    for index in range(_RESAMPLES):
        drawn = starts + (rng.random(len(labels)) * counts).astype(np.int64)
        one, other = first[drawn], second[drawn]  # the labels stay: each is replaced by one of its class
        accuracy[index] = ((other == labels).sum() - (one == labels).sum()) / len(labels)
        macro_f1[index] = _macro_f1(labels, other) - _macro_f1(labels, one)
    return accuracy, macro_f1


def _macro_f1(labels: Labels, predictions: Labels) -> np.float64:
    """Macro-F1 over the classes that have photos; much faster than scikit-learn's."""
    classes = int(max(labels.max(), predictions.max())) + 1
    photos_of = np.bincount(labels, minlength=classes)
    total = photos_of + np.bincount(predictions, minlength=classes)
    hits = np.bincount(labels[labels == predictions], minlength=classes)
    present = photos_of > 0
    return np.float64((2 * hits[present] / total[present]).mean())


def _percentiles(value: float, shifts: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(shifts, [0.025, 0.975])
    return Interval(value, float(low), float(high))
