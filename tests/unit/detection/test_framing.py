"""Where cars are cut out, and how often the network runs for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detector_files import constant_detector
from PIL import Image

from twincar.detection import load_detector
from twincar.detection.framing import frame_cars, is_cut_off

PHOTO = Image.new("RGB", (200, 100))
WHOLE, FILLING, SMALL = [(0, 0, 200, 100)], [0.02, 0.02, 0.98, 0.98], [0.1, 0.2, 0.5, 0.5]


@pytest.mark.parametrize(
    ("boxes", "scores", "expected", "runs"),
    [
        ([SMALL], [0.6], [(20, 20, 100, 50)], 1),
        ([FILLING], [0.6], WHOLE, 1),
        ([FILLING], [0.3], WHOLE, 2),  # below the threshold, 0.5, in both looks, but above half of it
        ([SMALL], [0.3], [], 2),
        ([SMALL, FILLING], [0.4, 0.3], WHOLE, 2),
        ([SMALL, FILLING], [0.43, 0.3], [], 2),  # a frame around what is not sure enough to be a car, as a road is
        ([FILLING], [0.2], [], 2),
        (np.zeros((0, 4)), [], [], 2),
    ],
)
def test_the_network_runs_twice_at_most(
    tmp_path: Path, boxes: Any, scores: list[float], expected: list[tuple[int, ...]], runs: int
) -> None:
    path = tmp_path / "detector.onnx"
    path.write_bytes(constant_detector(boxes, np.array([[0, score] for score in scores]).reshape(-1, 2)))
    detector = load_detector(path)
    compute, counted = detector._run, []
    detector._run = lambda images: counted.append(images) or compute(images)  # type: ignore[method-assign,func-returns-value]
    assert frame_cars(detector, PHOTO, margin=0) == expected
    assert len(counted) == runs


def test_several_thresholds_give_what_each_gives_alone(tmp_path: Path) -> None:
    path = tmp_path / "detector.onnx"
    boxes = [[0.0, 0.0, 0.1, 0.1], [0.2, 0.2, 0.9, 0.9], [0.0, 0.9, 0.1, 1.0]]
    path.write_bytes(constant_detector(boxes, [[0, 0.9], [0, 0.6], [0, 0.4]]))
    detector, thresholds = load_detector(path), [0.95, 0.8, 0.3]
    assert list(detector.find_at(PHOTO, thresholds)) == [detector.find(PHOTO, threshold=least) for least in thresholds]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0, 20, 23, 60), True),  # 0.575 times as wide as high, at the left edge
        ((2, 20, 25, 60), True),  # 1% of the width away from it
        ((3, 20, 26, 60), False),
        ((0, 20, 24, 60), False),  # 0.6
        ((177, 20, 200, 60), True),
        ((174, 20, 197, 60), False),  # 1.5% away
        ((50, 20, 60, 60), False),  # narrow, but away from the edge
        ((30, 60, 191, 100), True),  # 4.025 times as wide as high, at the lower edge
        ((30, 60, 190, 100), False),
        ((30, 1, 191, 41), True),
        ((30, 2, 191, 42), False),
        ((0, 0, 200, 49), True),  # from left to right
        ((50, 0, 60, 100), False),  # from top to bottom, but away from both sides
        ((0, 0, 200, 100), False),
    ],
)
def test_what_the_edge_leaves_of_a_car_has_proportions_of_no_car(box: Any, expected: bool) -> None:
    """By hand, in a photo of 200×100 pixels."""
    assert is_cut_off(box, 200, 100) == expected


def test_a_photo_that_is_narrow_itself_is_not_cut_off() -> None:
    assert not is_cut_off((0, 0, 50, 100), 50, 100)
    assert not is_cut_off((0, 5, 50, 95), 50, 100)
    assert is_cut_off((0, 5, 49, 95), 50, 100)
