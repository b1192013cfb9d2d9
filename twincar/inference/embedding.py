"""Embeddings of cars: the features that the classification head sees, one vector per car. Torch-free.

They are the mean of the last feature map over its cells (global average pooling), which every exported model computes;
photos of cars that look alike have vectors of a small angle (Babenko et al., 2014, 'Neural Codes for Image Retrieval',
https://arxiv.org/abs/1404.1777).

Shapes: N cars, H×W pixels, D channels of an h×w feature map.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twincar.core.errors import CheckpointError
from twincar.core.options import Cars
from twincar.core.photos import Box, Photo
from twincar.core.preprocess import Preprocessing
from twincar.inference.crops import CarFinder, PreparedCrop, iterate_crop_batches
from twincar.inference.results import Failure
from twincar.models.engines.base import Engine

_BATCH = 32


@dataclass(frozen=True)
class EmbeddedCar:
    """One car in a photo, or a whole photo, and its features."""

    photo: str
    """Path of the photo, or a description if it has none."""
    features: NDArray[np.float32]
    """D pooled features, not normalised."""
    box: Box | None = None
    """The part of the photo that was cut out for this car; None if the whole photo was taken."""
    car: int | None = 1
    """The number of the car in the photo, from 1; the most prominent car comes first. None if no car was found, so that
    the whole photo is embedded."""
    car_count: int = 1
    """How many cars were found in the photo; 1 if the photo was taken whole without looking for cars."""

    @property
    def is_car(self) -> bool:
        """False for a whole photo in which no car was found."""
        return self.car is not None

    @property
    def vector(self) -> NDArray[np.float32]:
        """The features, D, scaled to unit length."""
        return unit_length(self.features)


@dataclass(frozen=True)
class Embeddings:
    """The embeddings of the main cars of photos, in their order, and the photos that could not be read."""

    vectors: NDArray[np.float32]
    """N×D, of unit length, so that `vectors @ vectors.T` are the cosine similarities of all pairs."""
    cars: tuple[EmbeddedCar, ...]
    """N: the photo and the box of each row."""
    failures: tuple[Failure, ...]
    """The photos without a row."""

    def __len__(self) -> int:
        return len(self.cars)

    @property
    def photos(self) -> tuple[str, ...]:
        """The names of the photos, N."""
        return tuple(car.photo for car in self.cars)


def unit_length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale vectors, D or N×D, to unit length; a vector of zeros stays as it is."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=-1, keepdims=True)  # squares of float32 can underflow
    scaled: NDArray[np.float32] = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return scaled


def pooled_features(engine: Engine, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The pooled features, N×D, of preprocessed photos, N×H×W×3.

    Raises:
        CheckpointError: they are not finite.
    """
    features: NDArray[np.float32] = engine.logits_and_features(images)[1].mean(axis=(2, 3))
    if not np.isfinite(features).all():
        raise CheckpointError(
            "Expected finite features from the model, but found others. The model is damaged; export it again."
        )
    return features


def stream_embeddings(
    engine: Engine,
    preprocessing: Preprocessing,
    finder: CarFinder | None,
    photos: Iterable[Photo],
    *,
    cars: Cars = "main",
) -> Iterator[EmbeddedCar | Failure]:
    """Embed the cars of any number of photos, in their order; memory does not grow with their number.

    Cars are found and cut out as in `Classifier.stream`: with `cars` 'all' there is an embedding for each car, the most
    prominent of each photo first; where none is found, it is that of the whole photo.
    """
    for batch in iterate_crop_batches(photos, preprocessing, finder, batch_size=_BATCH, cars=cars):
        yield from _embed_crops(engine, batch)


def gather(found: Iterable[EmbeddedCar | Failure], size: int) -> Embeddings:
    """Collect embeddings of D = `size` features, and failures."""
    items = list(found)
    cars = tuple(item for item in items if isinstance(item, EmbeddedCar))
    failures = tuple(item for item in items if isinstance(item, Failure))
    features = np.stack([car.features for car in cars]) if cars else np.zeros((0, size), np.float32)
    return Embeddings(unit_length(features), cars, failures)


def _embed_crops(engine: Engine, crops: Sequence[PreparedCrop | Failure]) -> Iterator[EmbeddedCar | Failure]:
    """Embed one batch of crops; failures keep their places."""
    views = [crop.views[0] for crop in crops if isinstance(crop, PreparedCrop)]
    rows = iter(pooled_features(engine, np.stack(views))) if views else iter(())
    for crop in crops:
        if isinstance(crop, Failure):
            yield crop
        else:
            yield EmbeddedCar(crop.name, next(rows), crop.crop.box, crop.crop.number, crop.crop.count)
