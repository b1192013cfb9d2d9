"""Where cars are cut out, and how often the network runs for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detector_files import constant_detector
from PIL import Image

from twincar.detection import load_detector
from twincar.detection.framing import frame_cars

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
