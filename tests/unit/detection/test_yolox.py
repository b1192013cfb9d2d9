"""A model with YOLOX's input and output, made for the test; boxes are worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from detector_files import constant_detector, raw_yolox

from twincar.core.errors import CheckpointError, UsageError
from twincar.detection import load_detector
from twincar.detection.yolox import convert_yolox

CELL = 8 * 12 + 2 * 6 + 3  # of the 64×96 pixels: after the grid of stride 8, in that of stride 16, row 2 and column 3
CAR = [
    0.5,
    0.25,
    math.log(2),
    math.log(1.5),
    0.8,
    0,
    0,
    0.75,
]  # centre (56, 36), 32×24 pixels; object 0.8, class 2 0.75


@pytest.fixture
def yolox(tmp_path: Path) -> Path:
    path = tmp_path / "yolox_nano.onnx"
    path.write_bytes(raw_yolox(predictions={CELL: CAR}))
    return path


def test_boxes_are_those_of_yolox(yolox: Path, tmp_path: Path) -> None:
    header = convert_yolox(yolox, tmp_path / "detector.onnx")
    assert (header.classes, header.cars, header.fit) == (("car",), ("car",), "letterbox")
    photo = np.zeros((128, 192, 3), np.uint8)  # twice the input's size
    (car,) = load_detector(tmp_path / "detector.onnx").find(photo)
    assert [car.left, car.top, car.right, car.bottom] == pytest.approx([80, 48, 144, 96], abs=1e-3)
    assert car.probability == pytest.approx(0.6, abs=1e-6)


def test_a_narrow_photo_covers_the_left_of_the_input(yolox: Path, tmp_path: Path) -> None:
    convert_yolox(yolox, tmp_path / "detector.onnx")
    photo = np.zeros((64, 60, 3), np.uint8)
    (car,) = load_detector(tmp_path / "detector.onnx").find(photo)
    assert [car.left, car.top, car.right, car.bottom] == pytest.approx([40, 24, 60, 48], abs=1e-3)  # clipped at 60


def test_the_input_is_bgr_of_0_to_255(tmp_path: Path) -> None:
    path = tmp_path / "yolox.onnx"
    path.write_bytes(raw_yolox(classes=3, predictions={CELL: [0, 0, 1, 1, 1]}))
    convert_yolox(path, path.with_name("detector.onnx"), cars={"van": 2}, threshold=0.1)
    photo = np.zeros((64, 96, 3), np.uint8)
    photo[..., 2] = 102  # blue
    (car,) = load_detector(path.with_name("detector.onnx")).find(photo)
    assert (car.kind, car.probability) == ("van", pytest.approx(102 / 255, abs=1e-6))


def test_what_is_not_yolox_is_refused(tmp_path: Path) -> None:
    path, target = tmp_path / "other.onnx", tmp_path / "detector.onnx"
    for data, match in (
        (constant_detector([[0, 0, 1, 1]], [[0.1, 0.9]]), "an ONNX file of YOLOX"),
        (b"nothing", "Expected a whole ONNX file"),
        (raw_yolox(classes=0), r"Expected a YOLOX with the input 1×3×H×W and one output, 1×A×\(5\+K\), but found"),
    ):
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match=match):
            convert_yolox(path, target)
    assert not target.exists()


def test_wrong_usage(yolox: Path, tmp_path: Path) -> None:
    target = tmp_path / "detector.onnx"
    with pytest.raises(UsageError, match=r"cars are \{'car': 80\}, but the file has the classes 0 to 79"):
        convert_yolox(yolox, target, cars={"car": 80})
    with pytest.raises(UsageError, match=r"threshold is 3, not between 0 and 1"):
        convert_yolox(yolox, target, threshold=3)
    with pytest.raises(UsageError, match="no such file"):
        convert_yolox(tmp_path / "none.onnx", target)
    assert not target.exists()
