"""Fit rows of a classification head for new classes, from a few photos and the statistics of the known classes.

The direction of a row is that of linear discriminant analysis (Mensink et al., 2013; Hayes and Kanan, 2020), with the
statistics of the known classes in place of their photos:

    d = (F'F + diag(d) + vI)⁻¹ (m - c)

with the shared covariance, its mean variance v as a ridge, the mean m of the new photos and the center c. The photos of
the other new classes are pooled into that covariance, because a network holds classes less together that it was not
trained on; those of its own would shrink what is left of them in leave-one-out scores, which would then be too high.
With the covariance of the class means added it is ridge regression; the mean alone is weight imprinting (Qi et al.,
2018, https://arxiv.org/abs/1712.07136). `benchmarks.quality.teaching` compares them.

Scale and bias of each row, a and b, are fitted together as in Platt (1999) against the rows that are there; the log of
the sum of the exponentials of their logits is e(x). The logistic loss of a·d'(x - c) + b - e(x) is minimised over
features of the known classes, drawn from their statistics, and over each new photo with the direction of the others of
its class (leave-one-out). Each new class has the same weight, and the known ones together that of all classes, because
drawn features are easier than photos: the more classes are taught, the more known photos would be lost to them. All is
at the calibrated temperature, so that probabilities stay calibrated. The rows of the known classes are not changed.
By the drawn features the thresholds of rejection are adjusted (`taught_rejection.py`).

Shapes: N photos, K classes, C penultimate features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from twincar.models.calibration import Calibration
from twincar.models.class_statistics import ClassStatistics
from twincar.models.taught_rejection import adjust_rejection
from twincar.models.taught_scales import fit_scales_and_biases, log_sum_exp

Floats = NDArray[np.float32]
Directions = Callable[[Floats], Floats]
"""Gives the direction of a row, N×C, for the difference of a mean from the center, N×C."""

FEW = 3
"""Fewest photos whose leave-one-out scores can be fitted to; fewer are compared with imagined ones."""

_DRAWN = 4  # features drawn for each known class
_KNOWN_SPREAD = 2.0  # of these, times the covariance: the worst photos of a class are farther away than a Gaussian's
_NEW_SPREAD = 3.0  # of a new class, times the covariance: the network was not trained to hold it together
_COVARIANCE_PHOTOS = 1000  # for which the covariance of the known classes counts beside the new photos
_IMAGINED = 32  # photos of a class that has too few
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
        if len(rows) > rows.shape[1]:  # fewer rows have the same products
            rows = np.asarray(np.linalg.qr(rows, mode="r"), np.float32)
        self._rows = rows
        scaled = self._rows / self._diagonal
        self._inner = np.linalg.inv(np.eye(len(scaled), dtype=np.float32) + scaled @ self._rows.T)

    def __call__(self, features: Floats) -> Floats:
        """Directions, N×C, of differences of features from the center, N×C."""
        scaled = features / self._diagonal
        directions: Floats = scaled - ((scaled @ self._rows.T) @ self._inner) @ (self._rows / self._diagonal)
        return directions.astype(np.float32)

    def without(self, rows: Floats) -> Directions:
        """The same without some rows of the factor, N×C."""
        towards = self(rows)
        inner = np.linalg.inv(np.eye(len(rows), dtype=np.float32) - rows @ towards.T)

        def directions(features: Floats) -> Floats:
            found: Floats = (self(features) + (features @ towards.T) @ inner @ towards).astype(np.float32)
            return found

        return directions


def pooled_whitening(new: Sequence[NewClass], statistics: ClassStatistics) -> Whitening:
    """With the covariance of the known classes and of the photos of the new ones in theirs."""
    residuals, share = _residuals(new)
    factor = np.concatenate([np.sqrt(share) * statistics.factor, *residuals])
    return Whitening(replace(statistics, factor=factor, diagonal=share * statistics.diagonal))


def pooled_directions(new: Sequence[NewClass], statistics: ClassStatistics) -> list[Directions]:
    """For each new class those of linear discriminant analysis, with the photos of the others in the covariance."""
    whitening = pooled_whitening(new, statistics)
    return [whitening.without(own) for own in _residuals(new)[0]]


def _residuals(new: Sequence[NewClass]) -> tuple[list[Floats], np.float32]:
    """The rows by which the photos of each class are in the pooled covariance, and the share of the known classes."""
    freedom = sum(len(taught.features) * (1 - 1 / taught.count) for taught in new)
    total = np.float32(_COVARIANCE_PHOTOS + freedom)
    return [(taught.features - taught.mean) / np.sqrt(total) for taught in new], np.float32(_COVARIANCE_PHOTOS) / total


@dataclass(frozen=True, eq=False)
class TaughtHead:
    """The last layer with rows for new classes, in the last places."""

    weight: Floats
    bias: Floats
    statistics: ClassStatistics
    calibration: Calibration
    """With the thresholds of rejection adjusted."""
    rows: list[FittedRow]
    """Of the new classes."""


def add_classes(
    new: Sequence[NewClass],
    weight: Floats,
    bias: Floats,
    statistics: ClassStatistics,
    calibration: Calibration,
    directions: Sequence[Directions] | None = None,
) -> TaughtHead:
    """Add a row for each new class to a last layer.

    Args:
        new: the classes to teach.
        weight: the rows that are there, K×C.
        bias: their biases, K.
        statistics: of the classes of these rows, K.
        calibration: of the model.
        directions: for each new class, by default `pooled_directions`.
    """
    scale = np.float32(calibration.temperature)
    rows = [
        FittedRow(row.weight * scale, row.bias * float(scale), row.named)
        for row in fit_rows(
            new, weight / scale, bias / scale, statistics, directions or pooled_directions(new, statistics)
        )
    ]
    weights = np.concatenate([weight, *(row.weight[None] for row in rows)])
    biases = np.concatenate([bias, np.array([row.bias for row in rows], np.float32)])
    logits = statistics.draw(_DRAWN, _KNOWN_SPREAD, _SEED) @ weights.T + biases
    calibration = adjust_rejection(calibration, logits[:, : len(bias)], logits)
    for taught in new:
        statistics = statistics.with_class(taught.mean, taught.count)
    return TaughtHead(weights, biases, statistics, calibration, rows)


def rejection_without(
    classes: Sequence[int], weight: Floats, bias: Floats, statistics: ClassStatistics, calibration: Calibration
) -> Calibration:
    """The calibration after some classes are removed from a last layer; arguments as for `add_classes`."""
    for index in sorted(classes, reverse=True):
        statistics = statistics.without_class(index)
    before = statistics.draw(_DRAWN, _KNOWN_SPREAD, _SEED) @ weight.T + bias
    return adjust_rejection(calibration, before, np.delete(before, classes, axis=1))


def fit_rows(
    new: Sequence[NewClass],
    weight: Floats,
    bias: Floats,
    statistics: ClassStatistics,
    directions: Sequence[Directions],
) -> list[FittedRow]:
    """Fit a row for each new class to a last layer at a temperature of 1; arguments as for `add_classes`."""
    center = statistics.center
    towards = np.stack([of(taught.mean - center) for of, taught in zip(directions, new, strict=True)])
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
    """N; those of each new class add up to 1, those of the known ones to the number of all classes."""
    scores: NDArray[np.float64]
    """Products with the directions of the new classes, from the center, N×M; that of each photo with its own class is
    with the direction of the other photos."""

    @classmethod
    def gather(
        cls, new: Sequence[NewClass], statistics: ClassStatistics, directions: Sequence[Directions], towards: Floats
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
                own_scores.append(
                    ((parts[-1] - center) * directions[number](taught.means_of_others - center)).sum(axis=1)
                )
        features, sizes = np.concatenate(parts), [len(part) for part in parts]
        labels = np.repeat(np.arange(-1, len(new)), sizes)
        weights = np.repeat([(len(statistics.known) + len(new)) / sizes[0], *(1 / size for size in sizes[1:])], sizes)
        scores = ((features - center) @ towards.T).astype(np.float64)
        for number, own in enumerate(own_scores):
            scores[labels == number, number] = own
        return cls(features, labels, weights, scores)
