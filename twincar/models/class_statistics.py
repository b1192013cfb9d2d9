"""Statistics of the penultimate features of the classes that a model knows; torch-free.

They stand in for the photos of these classes when a class is added later: the mean of each class, and one covariance
that all classes share (Mensink et al., 2013, https://arxiv.org/abs/1305.1698v1; Hayes and Kanan, 2020,
https://arxiv.org/abs/1909.01520). The covariance is kept as a few directions and a variance for each feature, S ≈ F'F +
diag(d), a fortieth of the whole matrix. It is that of photos that the network was not trained on where there are any,
because the features of training photos lie several times closer to the means of their classes.

Shapes: N photos, K classes, C penultimate features, R directions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_DIRECTIONS = 32


@dataclass(frozen=True, eq=False)
class ClassStatistics:
    """Means, counts and the shared covariance of the features of the classes, in the order of the logits."""

    means: Floats
    """Mean feature of each class, K×C; zero for a class without photos."""
    counts: NDArray[np.int64]
    """Number of photos behind each mean, K."""
    factor: Floats
    """Directions F of the shared covariance F'F + diag(d), R×C, each as long as its standard deviation."""
    diagonal: Floats
    """What these directions leave of the variance of each feature, d, C; never negative."""

    def __post_init__(self) -> None:
        classes, features = self.means.shape
        shapes = (self.counts.shape, self.factor.shape[1:], self.diagonal.shape)
        if shapes != ((classes,), (features,), (features,)) or not (self.counts > 0).any():
            raise ValueError("the statistics of the classes do not fit together")
        if any(not np.isfinite(values).all() for values in (self.means, self.factor, self.diagonal)):
            raise ValueError("the statistics of the classes are not finite numbers")

    @classmethod
    def estimate(
        cls,
        features: Floats,
        labels: NDArray[np.int64],
        classes: int,
        held_out: tuple[Floats, NDArray[np.int64]] | None = None,
    ) -> ClassStatistics:
        """From the features of photos, N×C, and their labels, N.

        Args:
            features: of training photos, for the means.
            labels: their classes.
            classes: the number K of classes of the model.
            held_out: features and labels of photos that the network was not trained on, for the covariance; without
                them it is that of the training photos.
        """
        counts = np.bincount(labels, minlength=classes)
        means = np.zeros((classes, features.shape[1]), np.float32)
        np.add.at(means, labels, features)
        means /= np.maximum(counts, 1)[:, None]
        if held_out is None:
            several = counts[labels] > 1
            own = counts[labels[several]]  # a mean of n photos is closer to each of them than that of all others is
            residuals = (features - means[labels])[several] * np.sqrt(own / (own - 1))[:, None]
        else:
            known = counts[held_out[1]] > 0
            residuals = held_out[0][known] - means[held_out[1][known]]
        return cls(means, counts, *_low_rank(residuals.astype(np.float32)))

    @property
    def known(self) -> NDArray[np.int64]:
        """The indices of the classes with photos."""
        return np.flatnonzero(self.counts)

    @cached_property
    def center(self) -> Floats:
        """The mean of the means, C."""
        center: Floats = self.means[self.known].mean(axis=0)
        return center

    @cached_property
    def within(self) -> float:
        """The variance of a feature within a class, the mean over the features."""
        return float(((self.factor**2).sum(axis=0) + self.diagonal).mean())

    @cached_property
    def between(self) -> float:
        """The variance of a feature between the means of the classes, the mean over the features."""
        return float(self.means[self.known].var(axis=0).mean())

    @property
    def cohesion(self) -> float:
        """The expected cosine between the features of two photos of one class, seen from the center."""
        return self.between / max(self.between + self.within, 1e-12)

    def draw(self, count: int, spread: float, seed: int) -> Floats:
        """Features of imagined photos, (count · known classes)×C, from a Gaussian around each mean.

        Args:
            count: number for each class.
            spread: by what the shared covariance is multiplied.
            seed: of the random numbers.
        """
        around = np.tile(self.means[self.known], (count, 1))
        return around + self.noise(len(around), spread, seed)

    def noise(self, count: int, spread: float, seed: int) -> Floats:
        """Differences of features from the mean of their class, count×C."""
        random = np.random.default_rng(seed)
        along = random.standard_normal((count, len(self.factor)), dtype=np.float32) @ self.factor
        alone = random.standard_normal((count, len(self.diagonal)), dtype=np.float32) * np.sqrt(self.diagonal)
        noise: Floats = np.float32(np.sqrt(spread)) * (along + alone)
        return noise

    @cached_property
    def spread_of_means(self) -> Floats:
        """The covariance of the class means as rows G, K×C, so that it is G'G."""
        spread: Floats = (self.means[self.known] - self.center) / np.float32(np.sqrt(len(self.known)))
        return spread

    def means_noise(self, count: int, seed: int) -> Floats:
        """Differences of means of imagined classes from the center, count×C."""
        random = np.random.default_rng([seed, 1])
        return random.standard_normal((count, len(self.known)), dtype=np.float32) @ self.spread_of_means

    def with_class(self, mean: Floats, count: int, index: int | None = None) -> ClassStatistics:
        """With one class more, in the last place, or with another mean of the class `index`."""
        index = len(self.means) if index is None else index
        means = np.concatenate([self.means[:index], mean[None], self.means[index + 1 :]]).astype(np.float32)
        counts = np.concatenate([self.counts[:index], [count], self.counts[index + 1 :]]).astype(np.int64)
        return replace(self, means=means, counts=counts)

    def without_class(self, index: int) -> ClassStatistics:
        """Without one class."""
        return replace(self, means=np.delete(self.means, index, axis=0), counts=np.delete(self.counts, index))


def _low_rank(residuals: Floats) -> tuple[Floats, Floats]:
    """The largest directions of the covariance of residuals, N×C, and what they leave of its diagonal."""
    photos = max(len(residuals), 1)
    _, lengths, directions = np.linalg.svd(residuals / np.float32(np.sqrt(photos)), full_matrices=False)
    factor = lengths[:_DIRECTIONS, None] * directions[:_DIRECTIONS]
    diagonal = (residuals**2).mean(axis=0) if len(residuals) else np.zeros(residuals.shape[1], np.float32)
    return factor.astype(np.float32), np.maximum(diagonal - (factor**2).sum(axis=0), 0).astype(np.float32)
