"""The modules of the page that computes in a browser, each beside its counterpart in Python; they need no network."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from static_page import served

import twincar
from twincar.core.photos import Box, read_photo
from twincar.core.preprocess import Preprocessing
from twincar.core.wording import percent
from twincar.detection import Car, Detector
from twincar.detection.cars import without_parts
from twincar.detection.framing import frame_cars, is_cut_off
from twincar.detection.header import DetectorHeader
from twincar.models.calibration import Calibration, softmax
from twincar.models.cam.gradcam import HeadWeights, grad_cam_plus_plus

ASSETS = Path(twincar.__file__).parent / "assets" / "static_demo"
PACKED = "(({ data, ...others }) => ({ ...others, data: text(data) }))"
"""Bytes cross to Python as base64."""
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def tab(browser: Any) -> Iterator[Any]:
    """An empty page beside the modules; calls are `await (await import(MODULE)).FUNCTION(...)`."""
    with served(ASSETS) as address:
        page = browser.new_page()
        page.goto(f"{address}page.css")
        page.evaluate(
            """() => {
              window.bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
              window.text = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
            }"""
        )
        yield page
        page.close()


def sent(photo: NDArray[np.uint8]) -> dict[str, Any]:
    return {
        "width": photo.shape[1],
        "height": photo.shape[0],
        "data": base64.b64encode(photo.tobytes()).decode(),
    }


def call(tab: Any, module: str, expression: str, **values: Any) -> Any:
    script = f"async ({{ {', '.join(values)} }}) => {{ const m = await import('./{module}.js'); return {expression}; }}"
    return tab.evaluate(script, values)


def pixels(found: dict[str, Any]) -> NDArray[np.uint8]:
    data = np.frombuffer(base64.b64decode(found["data"]), np.uint8)
    return data.reshape(found["height"], found["width"], 3)


def noise(width: int, height: int) -> NDArray[np.uint8]:
    return RNG.integers(0, 256, (height, width, 3), np.uint8)


def test_shares_are_written_as_on_the_command_line(tab: Any) -> None:
    shares = [0.0, 0.0001, 0.0005, 0.0312, 0.9312, 0.9994, 0.9996, 0.999566, 1.0]
    assert call(tab, "answer", "shares.map(m.percent)", shares=shares) == [percent(share) for share in shares]


@pytest.mark.parametrize(
    ("size", "wanted", "gap"),
    [
        ((300, 200), (97, 41), 0),
        ((31, 47), (64, 64), 0),  # enlarged
        ((64, 64), (64, 20), 0),  # in one direction
        ((5, 3), (1, 1), 0),
        ((1000, 700), (100, 100), 2.0),  # reduced by whole factors first, with a smaller cell at the edge
        ((997, 311), (300, 20), 2.0),
        ((301, 299), (300, 300), 2.0),
    ],
)
def test_resizing_equals_pillow(tab: Any, size: tuple[int, int], wanted: tuple[int, int], gap: float) -> None:
    photo = noise(*size)
    expected = Image.fromarray(photo).resize(wanted, Image.Resampling.BILINEAR, reducing_gap=gap or None)
    expression = f"{PACKED}(m.resize({{ ...photo, data: bytes(photo.data) }}, width, height, gap))"
    found = call(tab, "pixels", expression, photo=sent(photo), width=wanted[0], height=wanted[1], gap=gap)
    assert np.array_equal(pixels(found), np.asarray(expected))


@pytest.mark.parametrize("name", ["plain.jpg", "turned.jpg", "clear.png", "palette.png", "lossless.webp"])
def test_decoding_equals_pillow(tab: Any, name: str) -> None:
    smooth = np.asarray(Image.fromarray(noise(6, 4)).resize((90, 60), Image.Resampling.BICUBIC))
    image, options = Image.fromarray(smooth), {}
    if name == "turned.jpg":
        options = {"exif": Image.Exif()}
        options["exif"][0x0112] = 6
    elif name == "clear.png":
        image.putalpha(Image.fromarray(noise(90, 60)[..., 0]))
    elif name == "palette.png":
        image = image.quantize(16)
    file = io.BytesIO()
    image.save(file, {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[name[-3:].replace("ebp", "webp")], **options)
    expression = (
        "(({ data, ...size }) => ({ ...size, data: text(data) }))(await m.decodePhoto(new Blob([bytes(file)])))"
    )
    found = call(tab, "pixels", expression, file=base64.b64encode(file.getvalue()).decode())
    expected = np.asarray(read_photo(file.getvalue()))
    assert pixels(found).shape == expected.shape
    assert abs(pixels(found).astype(int) - expected).mean() < (1 if name == "clear.png" else 0.1)


def test_what_is_no_photo_is_refused_with_a_sentence(tab: Any) -> None:
    expression = "await m.decodePhoto(new Blob(['no photo']), 'a.txt').catch((error) => error.message)"
    found = call(tab, "pixels", expression)
    assert found == "This browser cannot read a.txt as a photo. Choose a JPEG, PNG or WebP file."


@pytest.mark.parametrize(
    ("size", "options"),
    [
        ((320, 200), {"squash": True}),
        ((320, 200), {}),
        ((200, 321), {"crop": 0.9}),
        ((2000, 5), {"crop": 1.0}),  # shortened first
    ],
)
def test_the_input_of_the_network_equals_that_of_python(
    tab: Any, size: tuple[int, int], options: dict[str, Any]
) -> None:
    preprocessing = Preprocessing(height=33, width=52, **options)
    photo = noise(*size)
    settings = {"height": 33, "width": 52, "crop": preprocessing.crop, "squash": preprocessing.squash}
    expression = (
        f"{PACKED}({{ width: 52, height: 33, ...m.preprocess({{ ...photo, data: bytes(photo.data) }}, settings) }})"
    )
    found = call(tab, "classifier", expression, photo=sent(photo), settings=settings)
    assert np.array_equal(pixels(found), preprocessing(Image.fromarray(photo)))
    assert found["visible"] == pytest.approx(preprocessing.visible_box(*size))


def test_calibration_equals_that_of_python(tab: Any) -> None:
    calibration = Calibration(
        temperature=1.7,
        max_logit_quantiles=(2.0, 2.0, 2.5, 4.0, 9.0),
        max_logit_zscore_quantiles=(1.0, 1.5, 2.0, 2.5, 3.0),
        min_quantile_quantiles=(0.0, 0.1, 0.5, 0.7, 1.0),
        photos=9,
    )
    logits = RNG.normal(0, 2, (50, 7)).astype(np.float32)
    values = {
        name: list(getattr(calibration, name))
        for name in ("max_logit_quantiles", "max_logit_zscore_quantiles", "min_quantile_quantiles")
    }
    expression = "logits.map((row) => [m.inDistributionScore(row, values), ...m.softmax(row, 1.7)])"
    found = np.array(call(tab, "classifier", expression, logits=logits.tolist(), values=values))
    assert found[:, 0] == pytest.approx(calibration.in_distribution_score(logits), abs=1e-4)
    assert found[:, 1:] == pytest.approx(softmax(logits / np.float32(1.7)), abs=1e-6)


@pytest.mark.parametrize("shapes", [[(5, 8)], [(6, 8), (5, 6)]], ids=["linear", "mlp"])
def test_grad_cam_equals_that_of_python(tab: Any, shapes: list[tuple[int, int]]) -> None:
    features = abs(RNG.normal(0, 1, (1, 8, 3, 4))).astype(np.float32)
    layers = [
        (RNG.normal(0, 1, shape).astype(np.float32), RNG.normal(0, 1, shape[0]).astype(np.float32)) for shape in shapes
    ]
    expected = grad_cam_plus_plus(features, HeadWeights(tuple(layers)), np.array([2]))[0]
    head = [
        {"weight": weight.ravel().tolist(), "columns": weight.shape[1], "bias": bias.tolist()}
        for weight, bias in layers
    ]
    expression = (
        "m.gradCam(new Float32Array(features), [1, 8, 3, 4], "
        "head.map((layer) => ({ ...layer, weight: new Float32Array(layer.weight) })), 2)"
    )
    found = call(tab, "classifier", expression, features=features.ravel().tolist(), head=head)
    assert (found["height"], found["width"]) == (3, 4)
    assert np.array(found["values"]).reshape(3, 4) == pytest.approx(expected, abs=1e-4)
    assert expected.max() == 1


class _Listed(Detector):
    """A detector whose network gives listed boxes, one list for each look."""

    def __init__(self, header: DetectorHeader, looks: list[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> None:
        self.header, self._looks, self._height, self._width = header, looks, 30, 40

    def _run(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self._looks[int((images[0, 0, 0] == 114).all())]  # the second look has a grey border


def framed(
    tab: Any,
    fit: Literal["squash", "letterbox"],
    photo: NDArray[np.uint8],
    looks: list[tuple[NDArray[np.float32], NDArray[np.float32]]],
) -> list[Box]:
    """The boxes that the page and Python have found, at a threshold of 0.5."""
    header = DetectorHeader(classes=("bus", "car"), cars=("car",), fit=fit, threshold=0.5)
    settings = {"classes": header.classes, "cars": header.cars, "fit": header.fit, "threshold": 0.5}
    expression = (
        "await m.frameCars({ ...photo, data: bytes(photo.data) }, { ...settings, height: 30, width: 40 }, 0.05, "
        "async (data) => { const [boxes, scores] = looks[Number(data[0] === 114)]; "
        "return { boxes: new Float32Array(boxes), scores: new Float32Array(scores) }; })"
    )
    values = [[boxes.ravel().tolist(), scores.ravel().tolist()] for boxes, scores in looks]
    found = call(tab, "detector", expression, photo=sent(photo), settings=settings, looks=values)
    expected = frame_cars(_Listed(header, looks), Image.fromarray(photo), 0.05)
    assert [tuple(box) for box in found] == expected
    return expected


def dark_corner() -> NDArray[np.uint8]:
    """Noise that no grey border is taken for."""
    photo = noise(80, 50)
    photo[:2] = 0
    return photo


def test_cars_are_framed_as_in_python(tab: Any) -> None:
    """Over random boxes: suppression by prominence, the second look, a car that fills the photo, the margin."""
    counts = set()
    for trial in range(60):
        looks = []
        for most in (1.0 if trial % 3 else 0.45, 0.8 if trial % 4 else 0.2):
            corners = RNG.uniform(-0.1, 1.1, (12, 2, 2)).astype(np.float32)
            boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
            boxes[0] = (0.01, 0.0, 0.99, 1.0)
            scores = RNG.uniform(0, most, (12, 2)).astype(np.float32)
            if trial % 5:
                scores[0] = 0
            looks.append((boxes, scores))
        counts.add(len(framed(tab, ("squash", "letterbox")[trial % 2], dark_corner(), looks)))
    assert len(counts) > 4


def test_a_faint_frame_gives_way_as_in_python(tab: Any) -> None:
    """Below the threshold: one car from edge to edge, of 0.3, unless another within is 1.4 times as probable."""
    boxes = np.array([[0.01, 0, 0.99, 1], [0.1, 0.2, 0.5, 0.5]], np.float32)
    for within, expected in ((0.41, [(0, 0, 80, 50)]), (0.43, [])):
        look = boxes, np.array([[0, 0.3], [0, within]], np.float32)
        assert framed(tab, "squash", dark_corner(), [look, look]) == expected


def test_parts_of_cars_are_those_of_python(tab: Any) -> None:
    """Of random boxes in and around a large one."""
    removed = 0
    for _ in range(40):
        corners = np.sort(RNG.uniform(0, 100, (6, 2, 2)), axis=1).reshape(6, 4).tolist()
        chances = RNG.uniform(0.3, 1, 6).tolist()
        cars = [Car(0, 0, 100, 100, 0.7), *(Car(*box, chance) for box, chance in zip(corners, chances, strict=True))]
        boxes = [[car.left, car.top, car.right, car.bottom] for car in cars]
        given = [{"box": box, "probability": car.probability} for box, car in zip(boxes, cars, strict=True)]
        expected = [box for box, car in zip(boxes, cars, strict=True) if car in without_parts(cars)]
        assert [car["box"] for car in call(tab, "detector", "m.withoutParts(given)", given=given)] == expected
        removed += len(boxes) - len(expected)
    assert removed > 10


def test_cars_are_cut_off_as_in_python(tab: Any) -> None:
    boxes = [
        (left, top, right, bottom)
        for left in (0, 2, 3)
        for right in (10, 20, 196, 198, 200)
        for top in (0, 1, 2)
        for bottom in (30, 45, 98, 99, 100)
    ]
    expected = [is_cut_off(box, 200, 100) for box in boxes]
    assert call(tab, "detector", "boxes.map((box) => m.isCutOff(box, 200, 100))", boxes=boxes) == expected
    assert 20 < sum(expected) < len(boxes) - 20


def test_a_car_that_the_edge_cuts_off_reads_well(tab: Any) -> None:
    car = {"box": [0, 20, 20, 60], "answer": None, "status": "cut off", "levels": [], "topk": []}
    said = call(tab, "answer", "[m.showAnswer(document.body, car, {}, 1, 2), document.body.innerText]", car=car)
    assert said[0] == "Car 2 of 2: Cut off."
    assert "take a photo of all of it" in said[1]
