"""The bundled detector and its conversion; with real cars where they lie beside the checkout."""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from benchmarks.quality import bundled_detector
from benchmarks.quality.bundled_detector import ONNX_SHA256, anchors
from twincar.detection import load_detector, main_car
from twincar.detection.detector import BUNDLED
from twincar.detection.suppression import iou


def test_it_is_what_the_conversion_writes() -> None:
    assert hashlib.sha256(BUNDLED.read_bytes()).hexdigest() == ONNX_SHA256
    assert load_detector().header == bundled_detector.HEADER
    assert BUNDLED.stat().st_size < 5e6


def test_it_is_opened_once() -> None:
    assert load_detector() is load_detector()


def test_another_file_is_not_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "assets.data"
    other.write_bytes(b"TFL3")
    monkeypatch.setattr("sys.argv", ["bundled_detector", str(other), "--out", str(tmp_path / "out.onnx")])
    with pytest.raises(SystemExit, match=r"Expected .*assets.data with the SHA-256 470986ca.*, but found"):
        bundled_detector.main()
    assert not (tmp_path / "out.onnx").exists()


def test_anchors_by_hand() -> None:
    """19² cells with 3, and 10², 5², 3², 2², 1² cells with 6."""
    found = anchors()
    assert len(found) == 3 * 361 + 6 * (100 + 25 + 9 + 4 + 1)
    half, root = 0.5 / 19, np.sqrt(2)
    np.testing.assert_allclose(found[0], [half, half, 0.1, 0.1], atol=1e-6)
    np.testing.assert_allclose(found[1], [half, half, 0.2 * root, 0.2 / root], atol=1e-6)
    np.testing.assert_allclose(found[2], [half, half, 0.2 / root, 0.2 * root], atol=1e-6)
    np.testing.assert_allclose(found[3], [3 * half, half, 0.1, 0.1], atol=1e-6)  # the next cell is to the right
    np.testing.assert_allclose(found[3 * 19], [half, 3 * half, 0.1, 0.1], atol=1e-6)
    np.testing.assert_allclose(found[1083 + 3], [0.05, 0.05, 0.35 * 3**0.5, 0.35 / 3**0.5], atol=1e-6)
    np.testing.assert_allclose(found[1083 + 5], [0.05, 0.05, *[np.sqrt(0.35 * 0.5)] * 2], atol=1e-6)
    np.testing.assert_allclose(found[-1], [0.5, 0.5, *[np.sqrt(0.95)] * 2], atol=1e-6)


def test_its_graph_decodes_offsets_from_the_anchors() -> None:
    """Offsets are scaled by 10 and 5: Liu et al., 2016, equation 2, with the variances 0.1 and 0.2."""
    model = onnx.load(BUNDLED)
    decode = {output: node for node in model.graph.node for output in node.output}
    moved, stretched = decode["moves_of_photo"].input[0], decode["logarithms"].input[0]
    for name in (moved, stretched):
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    photo = np.random.default_rng(0).integers(0, 256, (1, 300, 300, 3), np.uint8)
    boxes, moves, sizes = session.run(["boxes", moved, stretched], {"images": photo})
    x, y, width, height = anchors().T.astype(np.float64)
    center_x, center_y = x + 0.1 * moves[0, :, 0] * width, y + 0.1 * moves[0, :, 1] * height
    half_width, half_height = width * np.exp(0.2 * sizes[0, :, 0]) / 2, height * np.exp(0.2 * sizes[0, :, 1]) / 2
    expected = [center_x - half_width, center_y - half_height, center_x + half_width, center_y + half_height]
    np.testing.assert_allclose(boxes[0], np.stack(expected, axis=1), atol=1e-5)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [(300, 3, 2, (0, 1)), (75, 3, 2, (1, 1)), (9, 1, 1, (0, 0)), (19, 3, 1, (1, 1))],
)
def test_padding_by_hand(size: int, kernel: int, stride: int, expected: tuple[int, int]) -> None:
    assert bundled_detector._same_padding(size, kernel, stride) == expected


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 2), (299, 301)])
def test_no_car_in_grey(size: tuple[int, int]) -> None:
    assert load_detector().find(Image.new("RGB", size, "grey")) == []


def test_it_finds_the_cars_of_full_photos(real_photos: Path) -> None:
    """29 of these 30 official boxes are met by the main car's with an IoU above 0.7."""
    boxes = {}
    with (real_photos / "full" / "boxes.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            boxes[row["filename"]] = np.array([[float(row[key]) for key in ("x1", "y1", "x2", "y2")]], np.float32)
    overlaps = []
    for name, official in boxes.items():
        car = main_car(load_detector().find(Image.open(real_photos / "full" / "photos" / name)))
        assert car is not None
        overlaps.append(iou(np.array([[car.left, car.top, car.right, car.bottom]], np.float32), official)[0, 0])
    assert np.sum(np.array(overlaps) > 0.7) >= 29
    assert np.mean(overlaps) > 0.89


def test_it_finds_the_cars_of_street_photos(real_photos: Path) -> None:
    """A tenth of the photos: cars that cover at least 4% of the photo, at an IoU of at least 0.5."""
    street = real_photos.parent / "street"
    cars = defaultdict(list)
    with (street / "boxes.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["kind"] == "car":
                cars[row["filename"]].append([float(row[key]) for key in ("x1", "y1", "x2", "y2")])
    met = []
    for name in sorted(cars)[::10]:
        photo, labelled = Image.open(street / "photos" / name), np.array(cars[name], np.float32)
        large = labelled[np.prod(labelled[:, 2:] - labelled[:, :2], axis=1) >= 0.04 * photo.width * photo.height]
        found = [[car.left, car.top, car.right, car.bottom] for car in load_detector().find(photo)]
        met += list(iou(large, np.array(found or [[0, 0, 0, 0]], np.float32)).max(axis=1) >= 0.5)
    assert len(met) > 10
    assert np.mean(met) > 0.8
