"""Detector files of every kind, sound and not; see `detector_files.py`."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from detector_files import constant_detector, serialized
from onnx import TensorProto, helper
from PIL import Image

from twincar.core.errors import CheckpointError, PhotoError, UsageError
from twincar.detection import Car, Detector, load_detector

PHOTO = Image.new("RGB", (200, 100))
BOX = [0.1, 0.2, 0.5, 0.6]


@pytest.fixture
def opened(tmp_path: Path) -> Any:
    """Opens the bytes of a detector file."""

    def open_bytes(data: bytes) -> Detector:
        path = tmp_path / "detector.onnx"
        path.write_bytes(data)
        return load_detector(path)

    return open_bytes


def rounded(car: Car) -> tuple[float, ...]:
    return tuple(round(value, 3) for value in (car.left, car.top, car.right, car.bottom, car.probability))


def test_boxes_are_in_pixels_of_the_photo(opened: Any) -> None:
    (car,) = opened(constant_detector([BOX, BOX], [[0.9, 0.1], [0.2, 0.7]])).find(PHOTO)
    assert rounded(car) == (20, 20, 100, 60, 0.7)
    assert car.kind == "car"


def test_boxes_are_those_of_the_upright_photo(opened: Any) -> None:
    """A photo of 100×200 pixels that is marked as turned by 90 degrees."""
    turned = PHOTO.rotate(90, expand=True)
    turned.getexif()[0x0112] = 6
    (car,) = opened(constant_detector([BOX], [[0.2, 0.7]])).find(turned)
    assert rounded(car) == (20, 20, 100, 60, 0.7)


def test_a_letterboxed_photo_covers_a_part_of_the_input(opened: Any) -> None:
    """The photo of 200×100 pixels covers the upper half of a square input, its transpose the left half."""
    detector = opened(constant_detector([[0.1, 0.1, 0.5, 0.4]], [[0.0, 0.7]], header={"fit": "letterbox"}))
    assert rounded(detector.find(PHOTO)[0]) == (20, 20, 100, 80, 0.7)
    assert rounded(detector.find(PHOTO.rotate(90, expand=True))[0]) == (20, 20, 100, 80, 0.7)


def brightness_detector(box: Sequence[float], **header: Any) -> bytes:
    """The score of its one box is the mean of the input over 255."""
    nodes = [
        helper.make_node("Cast", ["images"], ["levels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["levels"], ["mean"], keepdims=1),
        helper.make_node("Constant", [], ["white"], value_float=255.0),
        helper.make_node("Div", ["mean", "white"], ["mean_share"]),
        helper.make_node("Squeeze", ["mean_share"], ["mean_number"]),
        helper.make_node("Constant", [], ["shape"], value_ints=[1, 1, 1]),
        helper.make_node("Reshape", ["mean_number", "shape"], ["scores"]),
        helper.make_node("Constant", [], ["box"], value_floats=box),
        helper.make_node("Constant", [], ["box_shape"], value_ints=[1, 1, 4]),
        helper.make_node("Reshape", ["box", "box_shape"], ["boxes"]),
    ]
    return serialized(nodes, header={"classes": ["car"], "threshold": 0.01, **header})


def test_the_input_is_the_photo(opened: Any) -> None:
    """Squashed its mean is that of the photo, letterboxed that of the photo and of as much grey, 114."""
    photo = np.full((100, 200, 3), 204, np.uint8)
    (car,) = opened(brightness_detector(BOX)).find(photo)
    assert car.probability == pytest.approx(204 / 255, abs=1e-5)
    (car,) = opened(brightness_detector(BOX, fit="letterbox")).find(photo)
    assert car.probability == pytest.approx((204 + 114) / 2 / 255, abs=1e-5)


@pytest.mark.parametrize(("fit", "bottom", "grey"), [("squash", 100, 3 / 4), ("letterbox", 100, 7 / 8)])
def test_a_second_look_is_taken_in_a_grey_border(opened: Any, fit: str, bottom: float, grey: float) -> None:
    """A black photo covers the middle of the input, from 2 to 6 of 8 pixels; letterboxed, the upper half of that."""
    box = [0.25, 0.25, 0.75, 0.75 if fit == "squash" else 0.5]
    (car,) = opened(brightness_detector(box, fit=fit, threshold=0.3 if fit == "squash" else 0.38)).find(PHOTO)
    assert rounded(car)[:4] == (0, 0, 200, bottom)
    assert car.probability == pytest.approx(grey * 114 / 255, abs=1e-5)


def test_boxes_beside_the_photo_are_no_cars(opened: Any) -> None:
    """A letterboxed photo of 200×100 pixels ends in the middle of the input."""
    box = [0.1, 0.55, 0.5, 0.9]
    assert opened(constant_detector([box], [[0, 0.9]], header={"fit": "letterbox"})).find(PHOTO.resize((200, 50))) == []


def test_one_car_is_found_once_whatever_its_class(opened: Any) -> None:
    header = {"classes": ["car", "person", "truck"], "cars": ["car", "truck"]}
    boxes = [BOX, [0.11, 0.2, 0.5, 0.6], [0.6, 0.2, 0.9, 0.6]]
    detector = opened(constant_detector(boxes, [[0.6, 0.9, 0.7], [0.8, 0.0, 0.1], [0.1, 0.0, 0.9]], header=header))
    assert [(car.kind, rounded(car)[-1]) for car in detector.find(PHOTO)] == [("car", 0.8), ("truck", 0.9)]


def test_cars_are_sorted_by_prominence_and_the_threshold_is_that_of_the_file(opened: Any) -> None:
    boxes = [[0.0, 0.0, 0.1, 0.1], [0.2, 0.2, 0.9, 0.9], [0.0, 0.9, 0.1, 1.0]]
    detector = opened(constant_detector(boxes, [[0, 0.9], [0, 0.6], [0, 0.4]]))
    assert [rounded(car)[-1] for car in detector.find(PHOTO)] == [0.6, 0.9]
    assert [rounded(car)[-1] for car in detector.find(PHOTO, threshold=0.3)] == [0.6, 0.9, 0.4]
    assert [rounded(car)[-1] for car in detector.find(PHOTO, threshold=0.8)] == [0.9]


def test_a_part_of_a_car_is_not_a_car(opened: Any) -> None:
    """The part, with an IoU of 0.72, is more probable, but the whole more prominent: 0.6·0.8 > 0.69·√(0.8·0.576)."""
    whole, part, apart = [0.1, 0.1, 0.9, 0.9], [0.1, 0.1, 0.9, 0.676], [0.92, 0.1, 0.99, 0.9]
    detector = opened(constant_detector([part, whole, apart], [[0, 0.69], [0, 0.6], [0, 0.7]]))
    assert [rounded(car)[-1] for car in detector.find(PHOTO)] == [0.6, 0.7]
    assert [rounded(car)[-1] for car in detector.find(PHOTO, threshold=0.65)] == [0.7]  # the whole still competes


def test_two_boxes_of_a_car_are_one_find(opened: Any) -> None:
    """The half, with an IoU of 0.5, is left by suppression."""
    whole, half = [0.1, 0.1, 0.9, 0.9], [0.1, 0.1, 0.5, 0.9]
    detector = opened(constant_detector([whole, half], [[0, 0.8], [0, 0.6]]))
    assert [rounded(car)[-1] for car in detector.find(PHOTO)] == [0.8]
    beside = [0.2, 0.1, 0.95, 0.48]  # with an IoU of 0.40, 93% within, and as probable
    detector = opened(constant_detector([whole, beside], [[0, 0.8], [0, 0.75]]))
    assert [rounded(car)[-1] for car in detector.find(PHOTO)] == [0.8, 0.75]


def test_boxes_are_clipped_to_the_photo(opened: Any) -> None:
    boxes = [[-3, 0.5, 0.5, 9], [1.5, 0.2, 1.9, 0.6], [0.5, 0.9, 0.6, 0.8]]  # half outside, outside, upside down
    (car,) = opened(constant_detector(boxes, [[0, 0.9]] * 3)).find(PHOTO)
    assert rounded(car) == (0, 50, 100, 100, 0.9)


def test_boxes_in_pixels_of_the_input_are_refused(opened: Any) -> None:
    detector = opened(constant_detector([[100, 50, 300, 200]], [[0, 0.9]]))
    with pytest.raises(CheckpointError, match=r"in shares of the input, 0 to 1, but .* all 1 of a photo far outside"):
        detector.find(PHOTO)


def test_no_boxes_are_no_cars(opened: Any) -> None:
    assert opened(constant_detector(np.zeros((0, 4)), np.zeros((0, 2)))).find(PHOTO) == []
    assert opened(constant_detector([BOX], [[0.9, 0.2]])).find(PHOTO) == []


def test_a_million_boxes_are_bounded(opened: Any) -> None:
    """All are disjoint or equal, and probable; the most probable thousand are compared."""
    corners = np.stack(np.meshgrid(np.arange(1000), np.arange(1000)), axis=-1).reshape(-1, 2) / 1000
    boxes = np.hstack([corners, corners + 0.0009])
    scores = np.stack([np.zeros(len(boxes)), np.linspace(0.6, 0.9, len(boxes))], axis=1)
    detector = opened(constant_detector(boxes, scores))
    tracemalloc.start()
    cars = detector.find(PHOTO)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(cars) == 1000
    assert min(car.probability for car in cars) == pytest.approx(scores[-1000, 1], abs=1e-6)
    assert peak < 200e6


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.5, 1.5])
def test_scores_that_are_no_probabilities_are_refused(opened: Any, value: float) -> None:
    detector = opened(constant_detector([BOX], [[0.1, value]]))
    with pytest.raises(
        CheckpointError, match=r"scores that are probabilities, 0 to 1, but .* computes others, or NaN\."
    ):
        detector.find(PHOTO)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_boxes_that_are_no_numbers_are_refused(opened: Any, value: float) -> None:
    detector = opened(constant_detector([[0, 0, value, 1]], [[0.1, 0.9]]))
    with pytest.raises(CheckpointError, match=r"boxes that are numbers, but .* computes NaN or infinity\."):
        detector.find(PHOTO)


def test_as_many_scores_as_boxes_are_needed(opened: Any) -> None:
    detector = opened(constant_detector(np.zeros((3, 4)), np.zeros((2, 2))))
    with pytest.raises(CheckpointError, match="Expected a detector that computes boxes, 1×A×4, and scores, 1×A×2, but"):
        detector.find(PHOTO)


def test_a_detector_that_fails_is_one_sentence(opened: Any) -> None:
    nodes = [
        helper.make_node("Constant", [], ["boxes_shape"], value_ints=[1, 50, 4]),  # the input has 8 · 8 · 3 numbers
        helper.make_node("Constant", [], ["scores_shape"], value_ints=[1, 50, 2]),
        helper.make_node("Cast", ["images"], ["levels"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["levels", "boxes_shape"], ["boxes"]),
        helper.make_node("Reshape", ["levels", "scores_shape"], ["scores"]),
    ]
    with pytest.raises(CheckpointError, match=r"a detector that computes boxes and scores in .*, but it failed"):
        opened(serialized(nodes)).find(PHOTO)


SOUND = constant_detector([BOX], [[0.1, 0.9]])


def changed(change: Any) -> bytes:
    model = onnx.load_from_string(SOUND)
    change(model.graph)
    data: bytes = model.SerializeToString()
    return data


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "Expected a detector with the metadata|Expected a whole ONNX file in"),
        (b"\xff\xd8\xff\xe0 a photo", "Expected a whole ONNX file in"),
        (SOUND[: len(SOUND) // 2], "Expected a whole ONNX file in"),
        (serialized([], header=""), "Expected a whole ONNX file|has none"),
        (constant_detector([BOX], [[0.1, 0.9]], header=" "), "as JSON in the metadata 'twincar.detector'"),
        (constant_detector([BOX], [[0.1, 0.9]], header="[" * 100_000), "as JSON in the metadata"),
        (constant_detector([BOX], [[0.1, 0.9]], header={"cars": ["van"]}), r"cars are \['van'\], but classes are"),
        (constant_detector([BOX], [[0.1, 0.9]], header={"fit": "crop"}), "fit is 'crop', not 'squash' or 'letterbox'"),
        (constant_detector([BOX], [[0.1, 0.9]], header={"threshold": 2}), "threshold is 2.0, not between 0 and 1"),
        (constant_detector([BOX], [[0.1, 0.9]], header={"classes": "car"}), "classes is 'car'"),
        (constant_detector([BOX], [[0.1, 0.9]], header={"classes": [1, 2]}), "classes are not names"),
        (constant_detector([BOX], [[0.1, 0.9]], header={"names": []}), "its keys are"),
        (changed(lambda graph: setattr(graph.input[0], "name", "pixels")), "not images of uint8"),
        (
            changed(lambda graph: setattr(graph.input[0].type.tensor_type, "elem_type", TensorProto.FLOAT)),
            "not images of uint8",
        ),
        (constant_detector([BOX], [[0.1, 0.9]], size=(1, 8)), r"images has the shape \['N', 1, 8, 3\], not N×H×W×3"),
        (constant_detector([BOX], [[0.1, 0.9]], size=(8, 5000)), "numbers for H and W up to 4096"),
        (constant_detector(np.zeros((3, 5)), np.zeros((3, 2))), r"boxes has the shape \[1, 3, 5\], not N×A×4"),
        (constant_detector([BOX], [[0.1, 0.9, 0.3]]), r"scores has the shape \[1, 1, 3\], not N×A×2"),
        (changed(lambda graph: graph.output.pop()), "it has no output scores of float32"),
    ],
)
def test_a_file_that_is_no_detector_is_refused_when_it_is_opened(opened: Any, data: bytes, match: str) -> None:
    with pytest.raises(CheckpointError, match=match) as refused:
        opened(data)
    assert "\n" not in str(refused.value)


def test_a_file_without_a_header_is_told_where_to_read_on(opened: Any) -> None:
    with pytest.raises(CheckpointError, match=r"Expected a detector with the metadata 'twincar.detector' in .*none"):
        opened(constant_detector([BOX], [[0.1, 0.9]], header=""))


def test_a_file_with_external_data_is_not_opened(opened: Any, tmp_path: Path) -> None:
    def name_other_file(graph: onnx.GraphProto) -> None:
        tensor = graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="secret.bin")

    (tmp_path / "secret.bin").write_bytes(np.array(BOX, np.float32).tobytes())
    with pytest.raises(CheckpointError, match="but it names other files"):
        opened(changed(name_other_file))


def test_a_missing_file_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Expected a detector at .*none.onnx, but there is no such file"):
        load_detector(tmp_path / "none.onnx")


def test_what_is_no_photo_is_refused(opened: Any) -> None:
    with pytest.raises(PhotoError, match="Expected an array of uint8"):
        opened(SOUND).find(np.zeros((4, 4, 3), np.float32))
