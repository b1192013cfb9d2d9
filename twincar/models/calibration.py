"""From logits to probabilities that mean what they say, and whether the photo shows a car the model knows; torch-free.

A single temperature T divides the logits before the softmax (Guo et al., 2017, https://arxiv.org/abs/1706.04599).

Two scores tell known cars from what is unknown, and the worse of the two counts. The largest logit (Vaze et al., 2022,
https://arxiv.org/abs/2110.06207) falls for cars of other classes. It does not for pictures that are no cars at all:
these may blow up every logit, and on drawn cars whole pages of text passed. Measured in units of the spread of a
photo's own logits, though, their largest stands out less. Energy was no better than the largest logit anywhere.

All is fitted on validation photos (`calibration_fit.py`) and travels in the model file.

Shapes: N photos, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_ROUNDING = 1e-4


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was learnt on validation photos about how far logits can be trusted; the default is: nothing.

    Quantiles are evenly spaced, from the lowest to the highest.
    """

    temperature: float = 1.0
    """Logits are divided by it before the softmax; above 1 the network was too sure of itself."""
    max_logit_quantiles: tuple[float, ...] = ()
    """Of `max_logit`."""
    standing_out_quantiles: tuple[float, ...] = ()
    """Of `max_logit_zscore`."""
    worse_quantiles: tuple[float, ...] = ()
    """Of the lower of the two shares that a photo reaches among these quantiles."""
    photos: int = 0
    """How many validation photos it was fitted on."""

    @property
    def is_fitted(self) -> bool:
        """Whether anything was learnt."""
        return self != Calibration()

    def probabilities(self, logits: Floats) -> Floats:
        """Calibrated probabilities, N×K, of logits, N×K."""
        return softmax(logits / np.float32(self.temperature))

    def in_distribution_score(self, logits: Floats) -> Floats:
        """How much each photo looks like a car the model knows, N, of logits, N×K; 1 if nothing was fitted.

        It is the share of the validation photos that look so even less, so that a threshold of 0.05 turns away 5% of
        them; below 0 for a photo that looks so less than any.
        """
        if not self.worse_quantiles:
            return np.ones(len(logits), np.float32)
        return share_below(self.min_quantile(logits), self.worse_quantiles)

    def min_quantile(self, logits: Floats) -> Floats:
        """The lower of two shares, N: of the validation photos with a lower `max_logit`, and `max_logit_zscore`."""
        return np.minimum(
            share_below(max_logit(logits), self.max_logit_quantiles),
            share_below(max_logit_zscore(logits), self.standing_out_quantiles),
        )


def share_below(values: Floats, quantiles: tuple[float, ...]) -> Floats:
    """The share of what these quantiles were taken of that lies below each value, N.

    Values below them all go on falling, below 0, and values above them all go on rising, above 1, so that these too can
    be ranked.
    """
    # Quantiles are rounded; and where all are equal, as any two logits stand out equally, nothing lies below any.
    values = values + np.float32(_ROUNDING)
    lowest, middle, highest = quantiles[0], quantiles[len(quantiles) // 2], quantiles[-1]
    below = np.minimum(values - lowest, 0) / max(middle - lowest, _ROUNDING)
    above = np.maximum(values - highest, 0) / max(highest - middle, _ROUNDING)
    within = np.interp(values, quantiles, np.linspace(0, 1, len(quantiles)))
    shares: Floats = (within + (below + above) / 2).astype(np.float32)
    return shares


def softmax(logits: Floats) -> Floats:
    """Probabilities, N×K, of logits, N×K."""
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Floats = exponents / exponents.sum(axis=1, keepdims=True)
    return probabilities


def max_logit(logits: Floats) -> Floats:
    """The largest logit, N, of logits, N×K."""
    score: Floats = logits.max(axis=1)
    return score


def max_logit_zscore(logits: Floats) -> Floats:
    """By how many standard deviations the largest logit exceeds the mean of all, N, of logits, N×K."""
    score: Floats = (logits.max(axis=1) - logits.mean(axis=1)) / np.maximum(logits.std(axis=1), 1e-6)
    return score


def energy(logits: Floats) -> Floats:
    """The log of the sum of exponentials, N, of logits, N×K (Liu et al., 2020): a common score, for comparison."""
    highest = logits.max(axis=1, keepdims=True)
    score: Floats = highest[:, 0] + np.log(np.exp(logits - highest).sum(axis=1))
    return score
