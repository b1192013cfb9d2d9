"""From logits to probabilities that mean what they say, and whether the photo shows a car the model knows; torch-free.

A single temperature T divides the logits before the softmax (Guo et al., 2017, https://arxiv.org/abs/1706.04599). The
largest logit, before the softmax, tells known cars from unknown ones (Vaze et al., 2022,
https://arxiv.org/abs/2110.06207): a photo below the threshold is not of a known car. Both are fitted on validation
photos (`calibration_fit.py`) and travel in the model file.

Shapes: N photos, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twincar.choices import FALSE_REJECTION

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was learnt on validation photos about how far logits can be trusted; the default is: nothing."""

    temperature: float = 1.0
    """Logits are divided by it before the softmax; above 1 the network was too sure of itself."""
    score_quantiles: tuple[float, ...] = ()
    """Evenly spaced quantiles of the validation photos' `known_score`, from the lowest score to the highest."""
    photos: int = 0
    """How many validation photos it was fitted on."""

    def probabilities(self, logits: Floats) -> Floats:
        """Calibrated probabilities, N×K, of logits, N×K."""
        return softmax(logits / np.float32(self.temperature))

    def threshold(self, false_rejection: float = FALSE_REJECTION) -> float:
        """The `known_score` below which that share of the validation photos lies; minus infinity if not fitted."""
        if not self.score_quantiles:
            return -np.inf
        shares = np.linspace(0, 1, len(self.score_quantiles))
        return float(np.interp(false_rejection, shares, self.score_quantiles))


def softmax(logits: Floats) -> Floats:
    """Probabilities, N×K, of logits, N×K."""
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Floats = exponents / exponents.sum(axis=1, keepdims=True)
    return probabilities


def known_score(logits: Floats) -> Floats:
    """How much each photo looks like a car the model knows, N, of logits, N×K: the largest logit."""
    score: Floats = logits.max(axis=1)
    return score


def energy(logits: Floats) -> Floats:
    """The other common score, N, of logits, N×K: the log of the sum of exponentials (Liu et al., 2020)."""
    highest = logits.max(axis=1, keepdims=True)
    score: Floats = highest[:, 0] + np.log(np.exp(logits - highest).sum(axis=1))
    return score
