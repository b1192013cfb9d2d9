"""Keep the rate of false rejections when classes are added to a model or removed; torch-free.

The quantiles of a calibration (`models/calibration.py`) are those of validation photos, which are not there any more.
Each is moved by what it moves over features that are drawn from the statistics of the known classes, from the logits of
before to those of after. Photos of new classes, with their leave-one-out logits, are mixed in, each class with the same
weight. So a threshold of 0.05 still rejects 5% of the photos of all classes together.

Shapes: N drawn features, P photos of new classes, K classes before, L after.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from twincar.models.calibration import Calibration, max_logit, max_logit_zscore

Floats = NDArray[np.float32]
Score = Callable[[Floats], Floats]


@dataclass(frozen=True, eq=False)
class LogitChange:
    """Logits by which rejection is adjusted."""

    before: Floats
    """Of the drawn features, N×K."""
    after: Floats
    """Of the same features, N×L."""
    new: Floats
    """Of the photos of new classes, P×L; none if classes were only removed."""
    weights: NDArray[np.float64]
    """Of these photos, P, in classes."""
    known: int
    """The number of classes of the drawn features."""

    def move(self, quantiles: tuple[float, ...], before: Score, after: Score) -> tuple[float, ...]:
        """The quantiles of a score after the change."""
        levels = np.linspace(0, 1, len(quantiles))
        known = quantiles + np.quantile(after(self.after), levels) - np.quantile(before(self.before), levels)
        values = np.concatenate([known, after(self.new)])
        weights = np.concatenate([np.full(len(known), self.known / len(known)), self.weights])
        order = np.argsort(values, kind="stable")
        reached = np.cumsum(weights[order]) - weights[order] / 2
        shares = (reached - reached[0]) / (reached[-1] - reached[0])
        return tuple(np.interp(levels, shares, values[order]).tolist())


def adjust_rejection(calibration: Calibration, change: LogitChange) -> Calibration:
    """The calibration with the quantiles of after a change of the classes; as it is if it has none."""
    if not calibration.min_quantile_quantiles:
        return calibration
    moved = replace(
        calibration,
        max_logit_quantiles=change.move(calibration.max_logit_quantiles, max_logit, max_logit),
        max_logit_zscore_quantiles=change.move(
            calibration.max_logit_zscore_quantiles, max_logit_zscore, max_logit_zscore
        ),
    )
    lowest = change.move(calibration.min_quantile_quantiles, calibration.min_quantile, moved.min_quantile)
    return replace(moved, min_quantile_quantiles=lowest)
