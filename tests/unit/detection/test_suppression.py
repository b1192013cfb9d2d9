"""Against torchvision's implementation, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou, nms

from twincar.detection.suppression import iou, suppress


def boxes_of(rng: np.random.Generator, count: int) -> np.ndarray:
    corners = rng.uniform(0, 100, (count, 2))
    return np.hstack([corners, corners + rng.uniform(5, 60, (count, 2))]).astype(np.float32)


@pytest.mark.parametrize("max_iou", [0.0, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("count", [0, 1, 2, 300])
def test_suppression_equals_that_of_torchvision(count: int, max_iou: float) -> None:
    rng = np.random.default_rng(count)
    boxes, scores = boxes_of(rng, count), rng.permutation(count).astype(np.float32)
    expected = nms(torch.from_numpy(boxes), torch.from_numpy(scores), max_iou).numpy()
    np.testing.assert_array_equal(suppress(boxes, scores, max_iou), expected)


def test_iou_equals_that_of_torchvision() -> None:
    rng = np.random.default_rng(0)
    first, second = boxes_of(rng, 40), boxes_of(rng, 30)
    expected = box_iou(torch.from_numpy(first), torch.from_numpy(second)).numpy()
    np.testing.assert_allclose(iou(first, second), expected, atol=1e-6)


def test_iou_by_hand() -> None:
    first = np.array([[0, 0, 2, 2], [5, 5, 5, 5]], np.float32)
    second = np.array([[1, 1, 3, 3], [5, 5, 5, 5], [2, 0, 4, 2]], np.float32)
    np.testing.assert_allclose(iou(first, second), [[1 / 7, 0, 0], [0, 0, 0]], atol=1e-7)
