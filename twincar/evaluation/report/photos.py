"""Photos for a page: those it got wrong with what it looked at, and examples of twins, within a budget of bytes.

Shapes: N photos, h×w heat maps.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from twincar.core.errors import PhotoError
from twincar.core.html import picture_uri
from twincar.core.photos import read_photo
from twincar.core.progress import Progress
from twincar.evaluation.overlay_figures import Explained, overlay
from twincar.evaluation.report.artifacts import Answer
from twincar.models.cam.gradcam import grad_cam_plus_plus
from twincar.models.cam.overlay import is_darkened
from twincar.models.engines.base import Engine
from twincar.models.spec import ModelSpec

log = logging.getLogger(__name__)

_BATCH = 16
_MOST_MISTAKES = 120
_LONGEST = 300  # pixels of a picture in the page


@dataclass
class Album:
    """The photos of a split, and how many bytes of pictures still fit into the page."""

    folder: Path | None
    """Where the photos lie; None where the data set is not there any more."""
    bytes_left: int
    missing: set[str] = field(default_factory=set)
    """Files that could not be read."""

    def read(self, file: str) -> Image.Image | None:
        """A photo, or None where it has gone or cannot be read."""
        try:
            return None if self.folder is None else read_photo(self.folder / file)
        except PhotoError:
            self.missing.add(file)
            return None

    def pictures(self, *photos: Image.Image) -> list[str] | None:
        """The `data:` addresses of photos made small; None where there is no room for all of them."""
        addresses = [picture_uri(photo, _LONGEST) for photo in photos]
        size = sum(map(len, addresses))
        if size > self.bytes_left:
            return None
        self.bytes_left -= size
        return addresses


@dataclass(frozen=True)
class Mistake:
    """A wrong answer, with the photo and what the network looked at for its answer, if the photo is still there."""

    answer: Answer
    photo: str = ""
    heatmap: str = ""
    partly_seen: bool = False
    """Whether the network saw a part of the photo only."""


@dataclass(frozen=True)
class Twins:
    """Two classes that are taken for each other, with an example photo of each."""

    first: str
    second: str
    first_as_second: int
    second_as_first: int
    first_photos: int
    second_photos: int
    first_picture: str
    second_picture: str

    @property
    def names(self) -> frozenset[str]:
        """Both classes, in no order."""
        return frozenset((self.first, self.second))


def show_mistakes(
    wrong: Sequence[Answer],
    album: Album,
    engine: Engine,
    spec: ModelSpec,
    on_photo: Progress | None = None,
) -> list[Mistake]:
    """The surest of the wrong answers first, as many as there is room for."""
    wrong = sorted(wrong, key=lambda answer: -answer.confidence)[:_MOST_MISTAKES]
    shown: list[Mistake] = []
    for start in range(0, len(wrong), _BATCH):
        batch = [(answer, album.read(answer.file)) for answer in wrong[start : start + _BATCH]]
        overlays = _overlays([(answer, photo) for answer, photo in batch if photo is not None], engine, spec)
        for answer, photo in batch:
            pictures = [] if photo is None else album.pictures(photo, next(overlays))
            if pictures is None:
                return shown  # no room for more
            partly_seen = photo is not None and is_darkened(*photo.size, spec.preprocessing.visible_box(*photo.size))
            own, heat = pictures or ("", "")
            shown.append(Mistake(answer, own, heat, partly_seen))
        if on_photo:
            on_photo(len(shown), len(wrong))
    return shown


def show_twins(
    pairs: Sequence[tuple[str, str, int, int]], answers: Sequence[Answer], photos: Mapping[str, int], album: Album
) -> list[Twins]:
    """Pairs of classes, each (first, second, first taken for second, second for first), with an example of each.

    The example is the photo that is answered right most surely, or any where none is.
    """
    examples: dict[str, Answer] = {}
    for answer in sorted(answers, key=lambda answer: (not answer.correct, -answer.confidence)):
        examples.setdefault(answer.truth, answer)

    def picture(name: str) -> str:
        photo = album.read(examples[name].file) if name in examples else None
        pictures = None if photo is None else album.pictures(photo)
        return pictures[0] if pictures else ""

    return [
        Twins(
            first=first,
            second=second,
            first_as_second=there,
            second_as_first=back,
            first_photos=photos.get(first, 0),
            second_photos=photos.get(second, 0),
            first_picture=picture(first),
            second_picture=picture(second),
        )
        for first, second, there, back in pairs
    ]


def _overlays(found: Sequence[tuple[Answer, Image.Image]], engine: Engine, spec: ModelSpec) -> Iterator[Image.Image]:
    """Each photo, small, under the Grad-CAM++ map of the class that was answered."""
    if not found:
        return
    inputs = np.stack([spec.preprocessing(photo) for _, photo in found])
    targets = np.array([spec.classes.index(answer.answer) for answer, _ in found])
    _, features = engine.logits_and_features(inputs)
    for (answer, photo), heat in zip(found, grad_cam_plus_plus(features, engine.head, targets), strict=True):
        small = photo.copy()
        small.thumbnail((_LONGEST, _LONGEST), Image.Resampling.LANCZOS)
        seen = spec.preprocessing.visible_box(small.width, small.height)
        explained = Explained(np.asarray(small), heat, seen, answer.answer, answer.confidence, answer.truth)
        yield Image.fromarray(overlay(explained))
