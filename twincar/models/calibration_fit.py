"""Fit a `Calibration` to validation photos, on which the network was not trained.

Shapes: N photos, K classes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from twincar.models.calibration import Calibration, max_logit, max_logit_zscore

_LIMITS = (0.1, 10.0)  # of the temperature: if every photo is right, the best fit would be 0
_QUANTILES = 101


def fit_calibration(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> Calibration:
    """Fit to the logits, N×K, and the true labels, N, of validation photos."""
    scores = Calibration(
        max_logit_quantiles=_quantiles(max_logit(logits)),
        max_logit_zscore_quantiles=_quantiles(max_logit_zscore(logits)),
    )
    return replace(
        scores,
        temperature=fit_temperature(logits, labels),
        min_quantile_quantiles=_quantiles(scores.min_quantile(logits)),
        photos=len(labels),
    )


def _quantiles(scores: NDArray[np.float32]) -> tuple[float, ...]:
    return tuple(round(float(score), 5) for score in np.quantile(scores, np.linspace(0, 1, _QUANTILES)))


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The temperature that minimises the mean of -log p(true class), from 0.1 to 10."""
    logits = logits.astype(np.float64)
    of_truth = logits[np.arange(len(labels)), labels]

    def loss(inverse: float) -> float:  # convex in the inverse of the temperature
        return float((logsumexp(logits * inverse, axis=1) - of_truth * inverse).mean())

    lowest, highest = _LIMITS
    found = minimize_scalar(loss, bounds=(1 / highest, 1 / lowest), method="bounded", options={"xatol": 1e-6})
    return float(1 / found.x)
