"""Non-maximum suppression: one box for each object.

Shapes: B boxes, as left, top, right, bottom.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def suppress(boxes: NDArray[np.float32], scores: NDArray[np.float32], max_iou: float) -> NDArray[np.intp]:
    """Indices of the boxes that remain, highest score first.

    A box, B×4, is removed if a remaining one with a higher score, B, overlaps it with an intersection over union above
    `max_iou`. The time is proportional to B times the number of boxes that remain.
    """
    order = np.argsort(-scores, kind="stable")
    kept = []
    while len(order):
        first, order = order[0], order[1:]
        kept.append(first)
        order = order[iou(boxes[first : first + 1], boxes[order])[0] <= max_iou]
    return np.array(kept, np.intp)


def iou(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of each pair of boxes, B×4 and C×4: B×C; 0 where both are empty."""
    left_top = np.maximum(first[:, None, :2], second[None, :, :2])
    right_bottom = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.prod(np.maximum(right_bottom - left_top, 0), axis=2)
    union = _areas(first)[:, None] + _areas(second)[None] - common
    overlaps: NDArray[np.float32] = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return overlaps


def _areas(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    areas: NDArray[np.float32] = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return areas
