"""Fits a `Calibration` to validation photos, which the network was not trained on.

Shapes: N photos, K classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from twincar.modeling.calibration import Calibration, known_score

_LIMITS = (0.1, 10.0)  # of the temperature: where every photo is right, the best fit would be 0
_QUANTILES = 101


def fit_calibration(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> Calibration:
    """The temperature with the lowest negative log-likelihood, and the quantiles of the score, of logits, N×K."""
    scores = np.quantile(known_score(logits), np.linspace(0, 1, _QUANTILES))
    return Calibration(
        temperature=fit_temperature(logits, labels),
        score_quantiles=tuple(round(float(score), 5) for score in scores),
        photos=len(labels),
    )


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The temperature that minimises the mean of -log p(true class), from 0.1 to 10."""
    logits = logits.astype(np.float64)
    of_truth = logits[np.arange(len(labels)), labels]

    def loss(inverse: float) -> float:  # convex in the inverse of the temperature
        return float((logsumexp(logits * inverse, axis=1) - of_truth * inverse).mean())

    lowest, highest = _LIMITS
    found = minimize_scalar(loss, bounds=(1 / highest, 1 / lowest), method="bounded", options={"xatol": 1e-6})
    return float(1 / found.x)
