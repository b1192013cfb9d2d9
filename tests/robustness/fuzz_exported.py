"""Targets of `tests.robustness.fuzz` that are exported models: they must predict with the weights that are in them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np

from tests.detector_files import constant_detector
from tests.robustness.fuzz_models import CHANNELS, small_onnx, spec_text
from tests.robustness.fuzz_targets import NAMES, SIDE, Reader, Target, photos
from tests.robustness.mutations_protobuf import mutate_message

OUTSIDE = 1234.5
"""Every weight in a file that no model may read."""
FORMATS = (
    b"\x1c\x00\x00\x00TFL3" + bytes(64),
    b"GGUF\x03\x00\x00\x00" + bytes(64),
    b'node { name: "x" op: "Placeholder" }',
    b"PK\x03\x04" + bytes(64),
    b"\x80\x02}q\x00.",
)
"""How other kinds of model begin that OpenVINO knows by their content."""


def outside_of(folder: Path) -> list[bytes]:
    """Models whose weights are in other, existing files; each for a separate folder."""
    folder.mkdir()
    places = (folder / "beside.bin", folder.parent / "secret.bin")
    for place in places:
        place.write_bytes(np.full((len(NAMES), CHANNELS), OUTSIDE, np.float32).tobytes())
    return [small_onnx(spec_text(), external=name) for name in ("beside.bin", "../secret.bin", str(places[1]))]


def ask_classifier(path: Path, engine: Any) -> None:
    """Open a model, and predict and explain one photo; the weights must be those in the file."""
    from twincar.inference.classifier import Classifier

    classifier = Classifier.load(path, engine=engine)
    if any((layer[0] == OUTSIDE).any() for layer in classifier.engine.head.layers):
        raise AssertionError("weights outside the file were read")
    answer = classifier.predict(photos()[0])
    assert all(0 <= candidate.probability <= 1.0001 for candidate in answer.topk), answer.topk
    json.dumps(answer.to_dict(), allow_nan=False)
    classifier.explain(photos()[0])


def onnx_model(scratch: Path) -> Target:
    """An exported file on onnxruntime, for a prediction and an explanation."""
    path, text = scratch / "exported" / "model.onnx", spec_text()
    hostile = outside_of(path.parent)

    def run(data: bytes) -> None:
        path.write_bytes(data)
        ask_classifier(path, "onnxruntime")

    sound = [small_onnx(text), small_onnx(text, classes=5), small_onnx(text, side=64), small_onnx(text, classes=1)]
    return Target(run, [*sound, *hostile], mutate_message)


def openvino_model(scratch: Path) -> Target:
    """An OpenVINO folder, or an `.onnx` file on OpenVINO: the first byte selects which file is mutated."""
    from twincar.models.engines.openvino_engine import save_openvino

    folder = scratch / "openvino"
    onnx_file, hostile = small_onnx(spec_text()), outside_of(folder)
    save_openvino(onnx_file, folder / "model.xml", half=False)
    (folder / "twincar.json").write_text(spec_text())
    names = {b"x": "model.xml", b"b": "model.bin", b"j": "twincar.json"}
    sound = {name: (folder / name).read_bytes() for name in names.values()}
    path = folder / "model.onnx"

    def run(data: bytes) -> None:
        if data[:1] == b"o":
            path.write_bytes(data[1:])
            ask_classifier(path, "openvino")
            return
        for name, content in {**sound, names.get(data[:1], "model.xml"): data[1:]}.items():
            (folder / name).write_bytes(content)
        ask_classifier(folder, "openvino")

    def mutator(data: bytes, rng: random.Random) -> bytes:
        return data[:1] + mutate_message(data[1:], rng)

    xml, mark = sound["model.xml"], b"\xef\xbb\xbf"
    entity = b'<?xml version="1.0"?><!DOCTYPE net [<!ENTITY x SYSTEM "http://127.0.0.1:9/x">]><net>&x;</net>'
    others = (entity, onnx_file, *hostile, xml + onnx_file, mark + xml, xml.decode().encode("utf-16"), *FORMATS)
    seeds = [*(key + sound[name] for key, name in names.items()), *(b"x" + other for other in others)]
    return Target(run, [*seeds, *(b"o" + model for model in (onnx_file, xml, *hostile))], mutator)


def detector(scratch: Path) -> Target:
    """A detector file: it finds cars within the photo, or is refused."""
    from PIL import Image

    from twincar.detection import Detector

    path = scratch / "detector" / "cars.onnx"
    path.parent.mkdir()
    photo = Image.new("RGB", (SIDE + 16, SIDE))

    def run(data: bytes) -> None:
        path.write_bytes(data)
        cars = Detector(path).find(photo)
        assert len(cars) <= 1000
        for car in cars:
            assert 0 <= car.left < car.right <= photo.width, car
            assert 0 <= car.top < car.bottom <= photo.height, car
            assert 0 < car.probability <= 1, car

    box, score = [0.1, 0.2, 0.5, 0.6], [0.1, 0.9]
    headers: list[dict[str, Any]] = [{}, {"fit": "letterbox"}, {"cars": ["person", "car"], "threshold": 1e-9}]
    sound = [constant_detector([box] * 3, [score] * 3, header=header) for header in headers]
    values = (float("nan"), float("inf"), -3.0, 1e30)
    hostile = [constant_detector([[0, 0, value, 1]], [score]) for value in values]
    hostile += [constant_detector([box], [[0.1, value]]) for value in values]
    hostile += [constant_detector([box], [score], header=text) for text in ("{}", "[" * 5000, '{"cars": 1}', "null")]
    many = np.tile(np.array([box], np.float32), (10_000, 1))
    hostile += [constant_detector(many, np.tile(score, (10_000, 1))), constant_detector([box], [score], size=(4096, 9))]
    return Target(run, [*sound, *hostile, *FORMATS], mutate_message)


READERS: dict[str, Reader] = {
    "detector (.onnx)": Reader(detector, 3),
    "exported model (.onnx)": Reader(onnx_model, 4),
    "OpenVINO model": Reader(openvino_model, 2),
}
