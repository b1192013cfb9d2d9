"""Fit rows of a classification head for new classes, from a few photos and the statistics of the known classes.

The direction of a row is that of ridge regression on the known classes, whose photos are replaced by their statistics:

    d = (F'F + diag(d) + vI + B)⁻¹ (m - c)

with the shared covariance, its mean variance v as the ridge, the covariance B of the class means, the mean m of the new
photos and the center c. Without B it is linear discriminant analysis (Mensink et al., 2013; Hayes and Kanan, 2020); the
mean alone is weight imprinting (Qi et al., 2018, https://arxiv.org/abs/1712.07136). `benchmarks.quality.teaching`
compares them.

Scale and bias of the row, a and b, are two numbers, fitted as in Platt (1999) against the rows that are there; the log
of the sum of the exponentials of their logits is e(x). The logistic loss of a·d'(x - c) + b - e(x) is minimised over
features of the known classes, drawn from their statistics, and over each new photo with the direction of the others
(leave-one-out). Each class has the same weight, so K known ones count K times as much as the new one. All is at the
calibrated temperature, so that probabilities stay calibrated. The rows of the known classes are not changed.

Shapes: N photos, K classes, C penultimate features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twincar.models.class_statistics import ClassStatistics

Floats = NDArray[np.float32]

FEW = 3
"""Fewest photos whose leave-one-out scores can be fitted to; fewer are compared with imagined ones."""

_DRAWN = 4  # features drawn for each known class
_KNOWN_SPREAD = 2.0  # of these, times the covariance: the worst photos of a class are farther away than a Gaussian's
_NEW_SPREAD = 3.0  # of a new class, times the covariance: the network was not trained to hold it together
_IMAGINED = 128  # photos of a class that has too few
_ROUNDS = 2  # the second fits each new class against all other new ones
_PENALTY = 1e-6  # of the squared scale, so that separable scores have a finite one
_SEED = 0


@dataclass(frozen=True, eq=False)
class NewClass:
    """Photos of one class that is to be taught."""

    features: Floats
    """Penultimate features of the photos, N×C."""
    earlier_mean: Floats | None = None
    """Mean feature of the photos by which it was taught before, C."""
    earlier_count: int = 0

    @property
    def count(self) -> int:
        """The number of photos, with the earlier ones."""
        return len(self.features) + self.earlier_count

    @property
    def mean(self) -> Floats:
        """The mean feature, C, with the earlier photos."""
        mean: Floats = self._sum / np.float32(self.count)
        return mean

    @property
    def means_of_others(self) -> Floats:
        """For each photo the mean feature of all other photos, N×C."""
        others: Floats = (self._sum - self.features) / np.float32(self.count - 1)
        return others

    @property
    def _sum(self) -> Floats:
        total: Floats = self.features.sum(axis=0)
        return total if self.earlier_mean is None else total + self.earlier_mean * np.float32(self.earlier_count)


@dataclass(frozen=True, eq=False)
class FittedRow:
    """The row of one new class."""

    weight: Floats
    """C."""
    bias: float
    named: float | None
    """The share of its photos that are named right by the row of the others; None for fewer than `FEW` photos."""


class Whitening:
    """Multiplies by the inverse of the covariance within and between the known classes, and a ridge."""

    def __init__(self, statistics: ClassStatistics) -> None:
        differences = statistics.means[statistics.known] - statistics.center
        between = differences / np.float32(np.sqrt(len(differences)))
        # Woodbury: the inverse of diag(D) + U'U needs that of a matrix of the number of rows of U only.
        self._diagonal = statistics.diagonal + np.float32(max(statistics.within, 1e-12))
        self._rows = np.concatenate([statistics.factor, between])
        scaled = self._rows / self._diagonal
        self._inner = np.linalg.inv(np.eye(len(scaled), dtype=np.float32) + scaled @ self._rows.T)

    def __call__(self, features: Floats) -> Floats:
        """Directions, N×C, of differences of features from the center, N×C."""
        scaled = features / self._diagonal
        directions: Floats = scaled - ((scaled @ self._rows.T) @ self._inner) @ (self._rows / self._diagonal)
        return directions.astype(np.float32)


def fit_rows(
    new: Sequence[NewClass], weight: Floats, bias: Floats, statistics: ClassStatistics, temperature: float
) -> list[FittedRow]:
    """Fit a row for each new class.

    Args:
        new: the classes to teach.
        weight: the rows that are there, K×C.
        bias: their biases, K.
        statistics: of the classes of these rows, K.
        temperature: of the calibration.
    """
    whiten = Whitening(statistics)
    weights, biases = weight / np.float32(temperature), bias / np.float32(temperature)
    fitted: dict[int, FittedRow] = {}
    for _ in range(_ROUNDS if len(new) > 1 else 1):
        for number, taught in enumerate(new):
            others = [row for index, row in fitted.items() if index != number]
            known = statistics
            for index in fitted:
                if index != number:
                    known = known.with_class(new[index].mean, new[index].count)
            rows = np.concatenate([weights, *(row.weight[None] for row in others)])
            offsets = np.concatenate([biases, np.array([row.bias for row in others], np.float32)])
            fitted[number] = fit_row(taught, rows, offsets, known, whiten, statistics.center)
    scale = np.float32(temperature)
    return [
        FittedRow(row.weight * scale, row.bias * temperature, row.named)
        for row in (fitted[number] for number in range(len(new)))
    ]


def fit_row(
    taught: NewClass,
    rows: Floats,
    offsets: Floats,
    known: ClassStatistics,
    directions: Callable[[Floats], Floats],
    center: Floats,
) -> FittedRow:
    """Fit the row of one class against the K others, at a temperature of 1.

    Args:
        taught: the class.
        rows: weights of the others, K×C.
        offsets: their biases, K.
        known: their statistics.
        directions: gives the direction of a row, N×C, for the difference of a mean from the center, N×C.
        center: of the features.
    """
    direction = directions((taught.mean - center)[None])[0]
    drawn = known.draw(_DRAWN, _KNOWN_SPREAD, _SEED)
    few = taught.count < FEW
    if few:  # the mean of so few photos is drawn to the center, by what is known of classes
        share = known.between / max(known.between + _NEW_SPREAD * known.within / taught.count, 1e-12)
        expected = center + np.float32(share) * (taught.mean - center)
        own = expected + known.noise(_IMAGINED, _NEW_SPREAD, _SEED + 1)
        own_scores = (own - center) @ direction
    else:
        own = taught.features
        own_scores = ((own - center) * directions(taught.means_of_others - center)).sum(axis=1)
    rival_of_own = log_sum_exp(own @ rows.T + offsets)
    slope, offset = fit_scale_and_bias(
        ((drawn - center) @ direction, log_sum_exp(drawn @ rows.T + offsets), float(len(known.known))),
        (own_scores, rival_of_own, 1.0),
    )
    named = None if few else float((slope * own_scores + offset > (own @ rows.T + offsets).max(axis=1)).mean())
    weight = (np.float32(slope) * direction).astype(np.float32)
    return FittedRow(weight, offset - float(weight @ center), named)


def fit_scale_and_bias(others: tuple[Floats, Floats, float], own: tuple[Floats, Floats, float]) -> tuple[float, float]:
    """The scale a, not below 0, and the bias b of scores s that minimise the logistic loss of z = a s + b - e.

    It is the weighted sum of the mean of log(1 + exp(z)) over the photos of others and of log(1 + exp(-z)) over the own
    ones, with a small penalty on a; convex, and solved by Newton's method with step halving.

    Args:
        others: the scores s of photos of other classes, N, the log e of the sum of their exponentiated logits, N, and
            the weight of all of them.
        own: the same for photos of the class.
    """
    middle, end = float(others[0].mean()), float(own[0].mean())
    unit = max(abs(end - middle), float(others[0].std()), 1e-12)
    scores = np.concatenate([others[0], own[0]]).astype(np.float64)
    scores = (scores - middle) / unit
    rivals = np.concatenate([others[1], own[1]]).astype(np.float64)
    signs = np.repeat([1.0, -1.0], [len(others[0]), len(own[0])])
    weights = np.repeat([others[2] / len(others[0]), own[2] / len(own[0])], [len(others[0]), len(own[0])])
    design = np.stack([scores, np.ones_like(scores)], axis=1)
    penalty = np.array([_PENALTY, 1e-9])

    def loss(at: NDArray[np.float64]) -> float:
        return float((weights * np.logaddexp(0, signs * (design @ at - rivals))).sum() + (penalty * at**2).sum() / 2)

    at = np.array([1.0, float(rivals.mean())])
    for _ in range(200):
        chances = 0.5 * (1 + np.tanh(0.5 * signs * (design @ at - rivals)))
        gradient = design.T @ (weights * signs * chances) + penalty * at
        curvature = (design * (weights * chances * (1 - chances))[:, None]).T @ design + np.diag(penalty + 1e-9)
        step = np.linalg.solve(curvature, gradient)
        length, before = 1.0, loss(at)
        while loss(at - length * step) > before - 1e-4 * length * float(gradient @ step) and length > 1e-8:
            length /= 2
        at = at - length * step
        if abs(length * step).max() < 1e-7:
            break
    slope = max(float(at[0]), 0.0) / unit
    return slope, float(at[1]) - slope * middle


def log_sum_exp(logits: Floats) -> Floats:
    """The log of the sum of exponentials, N, of logits, N×K."""
    highest = logits.max(axis=1, keepdims=True)
    total: Floats = highest[:, 0] + np.log(np.exp(logits - highest).sum(axis=1))
    return total
