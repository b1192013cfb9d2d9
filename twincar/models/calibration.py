"""Calibration: from logits to calibrated probabilities, and a score of whether the photo shows a known car; torch-free.

A single temperature T divides the logits before the softmax (Guo et al., 2017, https://arxiv.org/abs/1706.04599).

Two scores distinguish known cars from unknown photos, and the lower of the two counts. The largest logit (Vaze et al.,
2022, https://arxiv.org/abs/2110.06207) is lower for cars of other classes. For far-OOD images it need not be lower:
these can increase every logit, and with toy cars whole pages of text were accepted. As a z-score among the photo's own
logits, however, their largest logit is lower. Energy was never better than the largest logit.

All values are fitted on validation photos (`calibration_fit.py`) and stored in the model file.

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
    """Temperature and score quantiles, fitted on validation photos; the default is a model that is not calibrated.

    Quantiles are evenly spaced, from the minimum to the maximum.
    """

    temperature: float = 1.0
    """Logits are divided by it before the softmax; above 1 the network was overconfident."""
    max_logit_quantiles: tuple[float, ...] = ()
    """Quantiles of `max_logit`."""
    max_logit_zscore_quantiles: tuple[float, ...] = ()
    """Quantiles of `max_logit_zscore`."""
    min_quantile_quantiles: tuple[float, ...] = ()
    """Quantiles of `min_quantile`, the lower of the two shares that a photo reaches among the others."""
    photos: int = 0
    """Number of validation photos it was fitted on."""

    @property
    def is_fitted(self) -> bool:
        """Whether the model is calibrated."""
        return self != Calibration()

    def probabilities(self, logits: Floats) -> Floats:
        """Calibrated probabilities, N×K, of logits, N×K."""
        return softmax(logits / np.float32(self.temperature))

    def in_distribution_score(self, logits: Floats) -> Floats:
        """How much each photo looks like a car that the model knows, N, of logits, N×K; 1 if nothing was fitted.

        It is the share of the validation photos with a lower `min_quantile`, so that a threshold of 0.05 rejects 5% of
        them. It is below 0 for a photo that is lower than all of them.
        """
        if not self.min_quantile_quantiles:
            return np.ones(len(logits), np.float32)
        return share_below(self.min_quantile(logits), self.min_quantile_quantiles)

    def min_quantile(self, logits: Floats) -> Floats:
        """The lower of two shares, N: of validation photos with a lower `max_logit`, or a lower `max_logit_zscore`."""
        return np.minimum(
            share_below(max_logit(logits), self.max_logit_quantiles),
            share_below(max_logit_zscore(logits), self.max_logit_zscore_quantiles),
        )


def share_below(values: Floats, quantiles: tuple[float, ...]) -> Floats:
    """The share of the distribution with these quantiles that is below each value, N.

    It is extrapolated below 0 and above 1 for values outside the quantiles, so that these can be ranked too.
    """
    # Quantiles are rounded; if all are equal, as the z-scores of two logits are, no value may count as below them.
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
    """The z-score of the largest logit among the photo's own logits, N, of logits, N×K."""
    score: Floats = (logits.max(axis=1) - logits.mean(axis=1)) / np.maximum(logits.std(axis=1), 1e-6)
    return score


def energy(logits: Floats) -> Floats:
    """The log of the sum of exponentials, N, of logits, N×K (Liu et al., 2020), a common score for comparison."""
    highest = logits.max(axis=1, keepdims=True)
    score: Floats = highest[:, 0] + np.log(np.exp(logits - highest).sum(axis=1))
    return score
