"""Keep the rate of false rejections when classes are added to a model or removed; torch-free.

The quantiles of a calibration (`models/calibration.py`) are those of validation photos, which are not there any more.
Each is moved by what it moves over features that are drawn from the statistics of the known classes, from the logits of
before to those of after. So a threshold of 0.05 still rejects 5% of the photos of known classes.

Shapes: N drawn features, K classes before, L after.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from twincar.models.calibration import Calibration, max_logit, max_logit_zscore

Floats = NDArray[np.float32]
Score = Callable[[Floats], Floats]


def adjust_rejection(calibration: Calibration, before: Floats, after: Floats) -> Calibration:
    """The calibration with the quantiles of after a change of the classes; as it is if it has none.

    Args:
        calibration: of before.
        before: logits of the drawn features, N×K.
        after: logits of the same features, N×L.
    """
    if not calibration.min_quantile_quantiles:
        return calibration

    def move(quantiles: tuple[float, ...], old: Score, new: Score) -> tuple[float, ...]:
        levels = np.linspace(0, 1, len(quantiles))
        moved = quantiles + np.quantile(new(after), levels) - np.quantile(old(before), levels)
        return tuple(np.maximum.accumulate(moved).tolist())

    moved = replace(
        calibration,
        max_logit_quantiles=move(calibration.max_logit_quantiles, max_logit, max_logit),
        max_logit_zscore_quantiles=move(calibration.max_logit_zscore_quantiles, max_logit_zscore, max_logit_zscore),
    )
    lowest = move(calibration.min_quantile_quantiles, calibration.min_quantile, moved.min_quantile)
    return replace(moved, min_quantile_quantiles=lowest)
