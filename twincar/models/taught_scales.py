"""Fit scales and biases of rows of a classification head to scores, by the cross entropy (Platt, 1999); torch-free.

Shapes: N samples, K classes, M rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_STEPS = 200  # most steps of the minimisation; it takes about twenty
_ALIKE = 1.0  # penalty of half the squared difference of a scale from the mean scale
_PENALTY = 1e-6  # of the squared scale, so that separable scores have a finite one


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
