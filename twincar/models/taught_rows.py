"""Fit rows of a classification head for new classes, from a few photos and the statistics of the known classes.

The direction of a row is that of linear discriminant analysis (Mensink et al., 2013; Hayes and Kanan, 2020), with the
statistics of the known classes in place of their photos:

    d = (F'F + diag(d) + vI)⁻¹ (m - c)

with the shared covariance, its mean variance v as a ridge, the mean m of the new photos and the center c. With the
covariance of the class means added it is ridge regression; the mean alone is weight imprinting (Qi et al., 2018,
https://arxiv.org/abs/1712.07136). `benchmarks.quality.teaching` compares them.

Scale and bias of each row, a and b, are fitted together as in Platt (1999) against the rows that are there; the log of
the sum of the exponentials of their logits is e(x). The logistic loss of a·d'(x - c) + b - e(x) is minimised over
features of the known classes, drawn from their statistics, and over each new photo with the direction of the others of
its class (leave-one-out). Each class has the same weight. All is at the
calibrated temperature, so that probabilities stay calibrated. The rows of the known classes are not changed.

Shapes: N photos, K classes, C penultimate features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twincar.models.class_statistics import ClassStatistics

Floats = NDArray[np.float32]
Directions = Callable[[Floats], Floats]
"""Gives the direction of a row, N×C, for the difference of a mean from the center, N×C."""

FEW = 3
"""Fewest photos whose leave-one-out scores can be fitted to; fewer are compared with imagined ones."""

_DRAWN = 4  # features drawn for each known class
_KNOWN_SPREAD = 2.0  # of these, times the covariance: the worst photos of a class are farther away than a Gaussian's
_NEW_SPREAD = 3.0  # of a new class, times the covariance: the network was not trained to hold it together
_IMAGINED = 32  # photos of a class that has too few
_STEPS = 200  # most steps of the minimisation; it takes about twenty
_ALIKE = 1.0  # penalty of half the squared difference of a scale from the mean scale
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

    def imagine(self, statistics: ClassStatistics, seed: int) -> Floats:
        """Features of imagined photos, where there are few, from what is known of classes.

        Their mean is drawn to the center, and as uncertain as so few photos leave it.
        """
        share = statistics.between / max(statistics.between + _NEW_SPREAD * statistics.within / self.count, 1e-12)
        expected = statistics.center + np.float32(share) * (self.mean - statistics.center)
        around = statistics.noise(_IMAGINED, _NEW_SPREAD, seed)
        imagined: Floats = expected + around + np.float32(np.sqrt(1 - share)) * statistics.means_noise(_IMAGINED, seed)
        return imagined

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
    """Multiplies by the inverse of the covariance within the known classes, and a ridge."""

    def __init__(self, statistics: ClassStatistics, between: float = 0.0) -> None:
        """`between` is the factor of the covariance of the class means; with 1 it is ridge regression."""
        rows = np.concatenate([statistics.factor, np.float32(np.sqrt(between)) * statistics.spread_of_means])
        # Woodbury: the inverse of diag(D) + U'U needs that of a matrix of the number of rows of U only.
        self._diagonal = statistics.diagonal + np.float32(max(statistics.within, 1e-12))
        self._rows = rows
        scaled = self._rows / self._diagonal
        self._inner = np.linalg.inv(np.eye(len(scaled), dtype=np.float32) + scaled @ self._rows.T)

    def __call__(self, features: Floats) -> Floats:
        """Directions, N×C, of differences of features from the center, N×C."""
        scaled = features / self._diagonal
        directions: Floats = scaled - ((scaled @ self._rows.T) @ self._inner) @ (self._rows / self._diagonal)
        return directions.astype(np.float32)


@dataclass(frozen=True, eq=False)
class TaughtHead:
    """The last layer with rows for new classes, in the last places."""

    weight: Floats
    bias: Floats
    statistics: ClassStatistics
    rows: list[FittedRow]
    """Of the new classes."""


def add_classes(
    new: Sequence[NewClass],
    weight: Floats,
    bias: Floats,
    statistics: ClassStatistics,
    temperature: float,
    directions: Directions | None = None,
) -> TaughtHead:
    """Add a row for each new class to a last layer.

    Args:
        new: the classes to teach.
        weight: the rows that are there, K×C.
        bias: their biases, K.
        statistics: of the classes of these rows, K.
        temperature: of the calibration.
        directions: gives the directions of rows, by default those of linear discriminant analysis.
    """
    scale = np.float32(temperature)
    rows = [
        FittedRow(row.weight * scale, row.bias * temperature, row.named)
        for row in fit_rows(new, weight / scale, bias / scale, statistics, directions or Whitening(statistics))
    ]
    for taught in new:
        statistics = statistics.with_class(taught.mean, taught.count)
    return TaughtHead(
        np.concatenate([weight, *(row.weight[None] for row in rows)]),
        np.concatenate([bias, np.array([row.bias for row in rows], np.float32)]),
        statistics,
        rows,
    )


def fit_rows(
    new: Sequence[NewClass], weight: Floats, bias: Floats, statistics: ClassStatistics, directions: Directions
) -> list[FittedRow]:
    """Fit a row for each new class to a last layer at a temperature of 1; arguments as for `add_classes`."""
    center = statistics.center
    towards = directions(np.stack([taught.mean for taught in new]) - center)
    samples = _Samples.gather(new, statistics, directions, towards)
    known = samples.features @ weight.T + bias
    slopes, offsets = fit_scales_and_biases(
        samples.scores, log_sum_exp(known).astype(np.float64), samples.labels, samples.weights
    )
    logits = np.concatenate([known, samples.scores * slopes + offsets], axis=1)
    named = logits.argmax(axis=1) == len(bias) + samples.labels
    rows = []
    for number, (slope, offset) in enumerate(zip(slopes, offsets, strict=True)):
        row = (np.float32(slope) * towards[number]).astype(np.float32)
        share = float(named[samples.labels == number].mean()) if new[number].count >= FEW else None
        rows.append(FittedRow(row, float(offset) - float(row @ center), share))
    return rows


@dataclass(frozen=True, eq=False)
class _Samples:
    """Features, N×C, to which the rows of M new classes are fitted."""

    features: Floats
    labels: NDArray[np.int64]
    """The number of the new class, N; -1 for a known one."""
    weights: NDArray[np.float64]
    """N; those of each class add up to 1."""
    scores: NDArray[np.float64]
    """Products with the directions of the new classes, from the center, N×M; that of each photo with its own class is
    with the direction of the other photos."""

    @classmethod
    def gather(
        cls, new: Sequence[NewClass], statistics: ClassStatistics, directions: Directions, towards: Floats
    ) -> _Samples:
        """Drawn features of the known classes, and the photos of the new ones, or imagined ones where they are few."""
        center = statistics.center
        parts, own_scores = [statistics.draw(_DRAWN, _KNOWN_SPREAD, _SEED)], []
        for number, taught in enumerate(new):
            if taught.count < FEW:
                parts.append(taught.imagine(statistics, _SEED + 1 + number))
                own_scores.append((parts[-1] - center) @ towards[number])
            else:
                parts.append(taught.features)
                own_scores.append(((parts[-1] - center) * directions(taught.means_of_others - center)).sum(axis=1))
        features, sizes = np.concatenate(parts), [len(part) for part in parts]
        labels = np.repeat(np.arange(-1, len(new)), sizes)
        weights = np.repeat([len(statistics.known) / sizes[0], *(1 / size for size in sizes[1:])], sizes)
        scores = ((features - center) @ towards.T).astype(np.float64)
        for number, own in enumerate(own_scores):
            scores[labels == number, number] = own
        return cls(features, labels, weights, scores)


def fit_scales_and_biases(
    scores: NDArray[np.float64],
    rivals: NDArray[np.float64],
    labels: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The scales a, not below 0, and the biases b of M rows, both M, that minimise the cross entropy of the samples.

    The logits are a s + b, beside those of the known classes, which count as one class. Scales are penalised for
    differing from their mean, because each class has few samples, and a little for their size. The problem is convex,
    and solved by Newton's method with step halving.

    Args:
        scores: s of each sample and row, N×M.
        rivals: the log of the sum of the exponentiated logits of the known classes, N.
        labels: the row of the sample's class, N; -1 for a known one.
        weights: N.
    """
    samples, rows = scores.shape
    own = labels[:, None] == np.arange(rows)
    middle, unit = scores.mean(axis=0), max(float(scores.std(axis=0).mean()), 1e-12)
    design = (scores - middle) / unit
    penalty = 1e-9 * np.eye(2 * rows)
    penalty[:rows, :rows] += _PENALTY * np.eye(rows) + _ALIKE * (np.eye(rows) - 1 / rows)

    def evaluate(at: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """The loss, and the probability of each row, N×M."""
        logits = design * at[:rows] + at[rows:]
        total = np.logaddexp(rivals, log_sum_exp(logits))
        truth = np.where(labels < 0, rivals, logits[np.arange(samples), labels])
        return float(weights @ (total - truth) + at @ penalty @ at / 2), np.exp(logits - total[:, None])

    at = np.repeat([1.0, float(rivals.mean())], rows)
    loss, shares = evaluate(at)
    for _ in range(_STEPS):
        errors = weights[:, None] * (shares - own)
        gradient = np.concatenate([(errors * design).sum(axis=0), errors.sum(axis=0)]) + penalty @ at
        step = np.linalg.solve(penalty + _curvature(design, shares, weights), gradient)
        length, before = 1.0, loss
        loss, shares = evaluate(at - step)
        while loss > before - 1e-4 * length * float(gradient @ step) and length > 1e-8:
            length /= 2
            loss, shares = evaluate(at - length * step)
        at = at - length * step
        if abs(length * step).max() < 1e-6:
            break
    slopes = np.maximum(at[:rows], 0) / unit
    return slopes, at[rows:] - slopes * middle


def _curvature(
    design: NDArray[np.float64], shares: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The second derivatives of the cross entropy by M scales and M biases, 2M×2M."""
    weighted, parts = weights[:, None] * shares, np.concatenate([shares * design, shares], axis=1)
    mixed = np.diag((weighted * design).sum(axis=0))
    own = np.block([[np.diag((weighted * design**2).sum(axis=0)), mixed], [mixed, np.diag(weighted.sum(axis=0))]])
    curvature: NDArray[np.float64] = own - parts.T @ (weights[:, None] * parts)
    return curvature


def log_sum_exp(logits: NDArray[Any]) -> NDArray[Any]:
    """The log of the sum of exponentials, N, of logits, N×K; that of none is -inf."""
    highest = logits.max(axis=1, keepdims=True, initial=np.finfo(logits.dtype).min)
    with np.errstate(divide="ignore"):
        total: NDArray[Any] = highest[:, 0] + np.log(np.exp(logits - highest).sum(axis=1))
    return total
