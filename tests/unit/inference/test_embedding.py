"""Embeddings: the pooled features, of unit length, of the car that `predict` names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from colour_model import BLUE, GREEN, RED, YELLOW, paint, paint_street, write_model
from detector_files import constant_detector

import twincar
from twincar.core.errors import CheckpointError
from twincar.core.options import DetectOptions
from twincar.core.photos import read_photo
from twincar.data.dataset import PreparedData
from twincar.inference.classifier import Classifier
from twincar.inference.embedding import EmbeddedCar, pooled_features, unit_length
from twincar.inference.results import Failure


def test_an_embedding_is_the_pooled_feature_map_at_unit_length(colour_model: Path, tmp_path: Path) -> None:
    """The features of this model are the mean red, green and blue, from 0 to 1."""
    photos = [paint(tmp_path / f"{number}.png", colour) for number, colour in enumerate((RED, BLUE, YELLOW))]
    embeddings = twincar.load(colour_model).embed([str(photo) for photo in photos])
    half = np.sqrt(0.5)
    np.testing.assert_allclose(embeddings.vectors, [[1, 0, 0], [0, 0, 1], [half, half, 0]], atol=1e-6)
    assert embeddings.vectors.dtype == np.float32
    assert embeddings.photos == tuple(map(str, photos))
    np.testing.assert_allclose(embeddings.cars[2].features, [1, 1, 0], atol=1e-6)


def test_the_head_makes_the_logits_of_the_features(small_run: Path, small_data: Path) -> None:
    """With the real network: what is embedded is what the head gets."""
    classifier = twincar.load(small_run)
    data = PreparedData.open(small_data)
    photos = [read_photo(data.photo_root / photo.file) for photo in data.annotations[:3]]
    images = np.stack([classifier.prepare(photo, "car")[0].views[0] for photo in photos])
    hidden = pooled_features(classifier.engine, images)
    for number, (weight, bias) in enumerate(classifier.engine.head.layers):
        hidden = (np.maximum(hidden, 0) if number else hidden) @ weight.T + bias
    np.testing.assert_allclose(hidden, classifier.engine.logits(images), rtol=1e-3, atol=1e-3)


def test_a_photo_that_cannot_be_read_has_no_row_and_is_a_failure(colour_model: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    good = [paint(tmp_path / f"{number:02d}.png", (RED, GREEN)[number % 2]) for number in range(40)]
    photos = [*good[:17], tmp_path / "bad.jpg", *good[17:]]
    embeddings = twincar.load(colour_model).embed(list(photos))
    assert embeddings.photos == tuple(map(str, good))
    assert [(failure.photo, "not an image" in str(failure.error)) for failure in embeddings.failures] == [
        (str(tmp_path / "bad.jpg"), True)
    ]
    assert embeddings.vectors[:, 0].round().tolist() == [1, 0] * 20
    nothing = twincar.load(colour_model).embed([tmp_path / "bad.jpg"])
    assert (nothing.vectors.shape, len(nothing), len(nothing.failures)) == ((0, 3), 0, 1)


def test_cars_are_cut_out_as_in_predict(tmp_path: Path) -> None:
    boxes = {GREEN: (25, 25, 50, 50), RED: (100, 50, 300, 175)}
    shares = [(left / 400, top / 200, right / 400, bottom / 200) for left, top, right, bottom in boxes.values()]
    detector = tmp_path / "cars.onnx"
    detector.write_bytes(constant_detector(shares, [(0, 0.9)] * 2))
    model = write_model(tmp_path / "colours.onnx", framing="car")
    street = paint_street(tmp_path / "street.png", boxes)
    classifier = Classifier.load(model, detection=DetectOptions(detector=str(detector)))
    (main,) = classifier.embed([street]).cars
    both = [car for car in classifier.embed_stream([street], cars="all") if isinstance(car, EmbeddedCar)]
    predicted = classifier.predict_cars(street)
    assert [car.box for car in both] == [prediction.box for prediction in predicted]
    assert [(car.car, car.car_count, car.is_car) for car in both] == [(1, 2, True), (2, 2, True)]
    assert main.box == both[0].box
    assert [int(car.vector.argmax()) for car in both] == [0, 1]


def test_lengths_of_zero_stay_and_damaged_features_are_refused(colour_model: Path) -> None:
    assert unit_length(np.array([[0, 0], [3, 4]], np.float32)).tolist() == [
        [0, 0],
        [pytest.approx(0.6), pytest.approx(0.8)],
    ]
    engine = twincar.load(colour_model).engine
    engine.logits_and_features = lambda images: (images, np.full((1, 3, 4, 4), np.nan))  # type: ignore
    with pytest.raises(CheckpointError, match="finite features"):
        pooled_features(engine, np.zeros((1, 32, 32, 3), np.uint8))


def test_failures_come_in_their_order(colour_model: Path) -> None:
    found = list(twincar.load(colour_model).embed_stream([b"bad", np.full((8, 8, 3), 200, np.uint8)]))
    assert [isinstance(item, Failure) for item in found] == [True, False]
