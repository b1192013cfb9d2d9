"""Photos for the report: mistakes with their heat maps, and examples of confused pairs, within a budget of bytes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from twincar.core.errors import PhotoError
from twincar.core.html import picture_uri
from twincar.core.photos import PhotoCrop, read_photo
from twincar.core.progress import Progress
from twincar.evaluation.overlay_figures import ExplainedPhoto, overlay
from twincar.evaluation.results import PhotoPrediction
from twincar.models.cam.gradcam import grad_cam_plus_plus
from twincar.models.cam.overlay import is_darkened
from twincar.models.engines.base import Engine
from twincar.models.spec import ModelSpec

log = logging.getLogger(__name__)

_BATCH = 16
_MAX_MISTAKES = 120
_LONGEST = 300  # pixels of the longer side of an image in the page


@dataclass
class ImageBudget:
    """The photos of a data set, and the number of bytes that their images may still take in the page."""

    photos: Mapping[str, Path | PhotoCrop]
    """By file; empty if the data set is missing."""
    bytes_left: int
    missing: set[str] = field(default_factory=set)
    """Files that could not be read."""

    def read(self, file: str) -> Image.Image | None:
        """A photo, or None if it is missing or cannot be read."""
        try:
            return read_photo(self.photos[file]) if file in self.photos else None
        except PhotoError:
            self.missing.add(file)
            return None

    def embed(self, *photos: Image.Image, longest: int = _LONGEST) -> list[str] | None:
        """The photos as `data:` URIs, with no side longer than that; None if there is no room for all of them."""
        uris = [picture_uri(photo, longest) for photo in photos]
        size = sum(map(len, uris))
        if size > self.bytes_left:
            return None
        self.bytes_left -= size
        return uris


@dataclass(frozen=True)
class Mistake:
    """A wrong prediction, with the photo and the heat map of the predicted class, unless the photo is missing."""

    prediction: PhotoPrediction
    photo: str = ""
    heatmap: str = ""
    is_cropped: bool = False
    """Whether the network saw only a part of the photo."""


@dataclass(frozen=True)
class Twins:
    """Two classes that are confused with each other, with an example photo of each."""

    first: str
    second: str
    first_as_second: int
    """How many photos of the first class are predicted as the second."""
    second_as_first: int
    first_photos: int
    """Number of photos of the first class."""
    second_photos: int
    first_picture: str
    second_picture: str

    @property
    def names(self) -> frozenset[str]:
        """Both classes, without an order."""
        return frozenset((self.first, self.second))


def show_mistakes(
    wrong: Sequence[PhotoPrediction],
    images: ImageBudget,
    engine: Engine,
    spec: ModelSpec,
    on_photo: Progress | None = None,
) -> list[Mistake]:
    """The most confident mistakes first, as many as there is room for."""
    wrong = sorted(wrong, key=lambda row: -row.confidence)[:_MAX_MISTAKES]
    shown: list[Mistake] = []
    for start in range(0, len(wrong), _BATCH):
        batch = [(row, images.read(row.file)) for row in wrong[start : start + _BATCH]]
        overlays = _overlays([(row, photo) for row, photo in batch if photo is not None], engine, spec)
        for row, photo in batch:
            uris = [] if photo is None else images.embed(photo, next(overlays))
            if uris is None:
                return shown  # no room for more
            is_cropped = photo is not None and is_darkened(*photo.size, spec.preprocessing.visible_box(*photo.size))
            plain, heatmap = uris or ("", "")
            shown.append(Mistake(row, plain, heatmap, is_cropped))
        if on_photo:
            on_photo(len(shown), len(wrong))
    return shown


def show_twins(
    pairs: Sequence[tuple[str, str, int, int]],
    predictions: Sequence[PhotoPrediction],
    photos: Mapping[str, int],
    images: ImageBudget,
) -> list[Twins]:
    """Confused pairs with an example of each class.

    Args:
        pairs: (first, second, photos of the first predicted as the second, of the second predicted as the first).
        predictions: for all photos; the example of a class is its most confident correct prediction, if there is one.
        photos: number of photos of each class.
        images: budget of the page.
    """
    examples: dict[str, PhotoPrediction] = {}
    for row in sorted(predictions, key=lambda row: (not row.correct, -row.confidence)):
        examples.setdefault(row.truth, row)

    def example(name: str) -> str:
        photo = images.read(examples[name].file) if name in examples else None
        uris = None if photo is None else images.embed(photo)
        return uris[0] if uris else ""

    return [
        Twins(
            first=first,
            second=second,
            first_as_second=first_as_second,
            second_as_first=second_as_first,
            first_photos=photos.get(first, 0),
            second_photos=photos.get(second, 0),
            first_picture=example(first),
            second_picture=example(second),
        )
        for first, second, first_as_second, second_as_first in pairs
    ]


def _overlays(
    found: Sequence[tuple[PhotoPrediction, Image.Image]], engine: Engine, spec: ModelSpec
) -> Iterator[Image.Image]:
    """Each photo, scaled down, with the Grad-CAM++ map of the predicted class over it."""
    if not found:
        return
    inputs = np.stack([spec.preprocessing(photo) for _, photo in found])
    targets = np.array([spec.classes.index(row.predicted) for row, _ in found])
    _, features = engine.logits_and_features(inputs)
    for (row, photo), heatmap in zip(found, grad_cam_plus_plus(features, engine.head, targets), strict=True):
        small = photo.copy()
        small.thumbnail((_LONGEST, _LONGEST), Image.Resampling.LANCZOS)
        box = spec.preprocessing.visible_box(small.width, small.height)
        item = ExplainedPhoto(np.asarray(small), heatmap, box, row.predicted, row.confidence, row.truth)
        yield Image.fromarray(overlay(item))
