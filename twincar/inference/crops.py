"""From a photo to the crops that the network gets: each car that a detector finds, or the whole photo. Torch-free.

Shapes: N photos, V views each of H×W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twincar.core.errors import PhotoError
from twincar.core.options import Cars, DetectOptions
from twincar.core.parallel import map_ahead
from twincar.core.photos import Box, NamedPhoto, Photo, read_photo
from twincar.core.preprocess import Preprocessing
from twincar.core.progress import Progress
from twincar.detection import Detector, load_detector
from twincar.detection.framing import frame_cars, is_cut_off
from twincar.inference.results import Failure
from twincar.models.engines.base import Engine
from twincar.models.spec import ModelSpec

_BATCH = 64
_AHEAD: dict[Cars, int] = {"main": 64, "all": 16}  # photos that are prepared ahead; a photo may have 200 cars
_THREADS = 2  # that read photos


@dataclass(frozen=True)
class Crop:
    """A part of a photo, or all of it."""

    box: Box | None = None
    """None is the whole photo."""
    number: int | None = 1
    """Among the cars of the photo, from 1; None for a whole photo in which no car was found."""
    count: int = 1
    """Of the cars that were found in the photo; 1 if none were looked for."""
    is_cut_off: bool = False
    """Whether the photo's edge cuts off most of the car, see `detection.framing.is_cut_off`."""

    @property
    def is_car(self) -> bool:
        """False for a whole photo in which no car was found."""
        return self.number is not None

    def cut(self, photo: Image.Image) -> Image.Image:
        """This part of a photo."""
        return photo.crop(self.box) if self.box else photo

    def within(self, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        """A box in pixels of the photo, in pixels of the cut."""
        left, top = self.box[:2] if self.box else (0, 0)
        return box[0] - left, box[1] - top, box[2] - left, box[3] - top

    def visible_box(self, photo: Image.Image, preprocessing: Preprocessing) -> tuple[float, float, float, float]:
        """What the network sees of the photo: left, top, right, bottom, pixels of the photo."""
        left, top, right, bottom = self.box or (0, 0, *photo.size)
        x1, y1, x2, y2 = preprocessing.visible_box(right - left, bottom - top)
        return left + x1, top + y1, left + x2, top + y2


@dataclass(frozen=True)
class CarFinder:
    """Cuts the cars out of photos, for a model that was trained on such crops."""

    detector: Detector
    margin: float
    """See `ModelSpec.margin`."""

    @classmethod
    def for_model(cls, spec: ModelSpec, options: DetectOptions = DetectOptions()) -> CarFinder | None:
        """The finder for a model; None if its photos are not to be cut.

        Raises:
            UsageError: there is no such detector file.
            CheckpointError: it is not a detector.
        """
        wanted = options.detect == "always" or (options.detect == "auto" and spec.framing == "car")
        path = None if options.detector is None else Path(options.detector)
        return cls(load_detector(path), spec.margin) if wanted else None

    def cut(self, photo: Image.Image) -> Image.Image:
        """The main car of an upright RGB photo, cut out; the whole photo if there is none."""
        return self.crops(photo, "main")[0].cut(photo)

    def crops(self, photo: Image.Image, cars: Cars) -> list[Crop]:
        """The cars in an upright RGB photo, the most prominent first, see `frame_cars`; if there is none, all of it."""
        boxes = frame_cars(self.detector, photo, self.margin)
        chosen = boxes[:1] if cars == "main" else boxes
        found = [
            Crop(box, number, len(boxes), is_cut_off(box, *photo.size)) for number, box in enumerate(chosen, start=1)
        ]
        return found or [Crop(number=None, count=0)]


@dataclass(frozen=True)
class PreparedCrop:
    """A crop after preprocessing."""

    name: str
    """The photo's name in the prediction."""
    views: NDArray[np.uint8]
    """The network's input, V×H×W×3; V is 1 without test-time augmentation."""
    visible_box: tuple[float, float, float, float]
    """The part of the photo that the network sees: left, top, right, bottom, pixels of the upright photo."""
    crop: Crop
    size: tuple[int, int]
    """Of the cut: width and height, pixels of the photo."""


def prepare_crops(
    photo: Image.Image,
    name: str,
    preprocessing: Preprocessing,
    finder: CarFinder | None = None,
    *,
    cars: Cars = "main",
    tta: bool = False,
) -> list[PreparedCrop]:
    """The crops of a photo, as the network gets them; at least one.

    Args:
        photo: upright and RGB, as `read_photo` returns it.
        name: its name in the prediction.
        preprocessing: of the model.
        finder: finds the cars; None takes the whole photo.
        cars: the most prominent car, or all of them.
        tta: also the views of test-time augmentation.
    """
    crops = finder.crops(photo, cars) if finder else [Crop()]
    prepared = []
    for crop in crops:  # cut one after the other: 200 of a large photo are gigabytes
        image = crop.cut(photo)
        views = np.stack(preprocessing.views(image) if tta else [preprocessing(image)])
        visible_box = crop.visible_box(photo, preprocessing)
        prepared.append(PreparedCrop(name, views, visible_box, crop, image.size))
    return prepared


def iterate_crops(
    photos: Iterable[Photo],
    prepare: Callable[[Image.Image, str], list[PreparedCrop]],
    *,
    ahead: int,
) -> Iterator[list[PreparedCrop] | Failure]:
    """Read photos and prepare their crops in threads, while the caller works; one item per photo, in their order.

    Memory holds the crops of `ahead` photos, and the photos that are being decoded, however many there are.
    """

    def read(photo: Photo) -> list[PreparedCrop] | Failure:
        try:
            return prepare(read_photo(photo), name_of(photo))
        except PhotoError as error:
            return Failure(name_of(photo), error)

    return map_ahead(read, photos, threads=_THREADS, ahead=ahead)


def iterate_crop_batches(
    photos: Iterable[Photo],
    preprocessing: Preprocessing,
    finder: CarFinder | None,
    *,
    batch_size: int,
    cars: Cars = "main",
    tta: bool = False,
) -> Iterator[list[PreparedCrop | Failure]]:
    """The crops of photos in batches, whichever photo they are of; a photo that cannot be read is one failure.

    As `iterate_crops`, they are prepared while the caller works. The last batch may be smaller than the others.
    """
    prepare = partial(prepare_crops, preprocessing=preprocessing, finder=finder, cars=cars, tta=tta)
    waiting: list[PreparedCrop | Failure] = []
    for crops in iterate_crops(photos, prepare, ahead=_AHEAD[cars]):
        waiting += [crops] if isinstance(crops, Failure) else crops
        while len(waiting) >= batch_size:
            yield waiting[:batch_size]
            waiting = waiting[batch_size:]
    if waiting:
        yield waiting


def compute_crop_logits(
    engine: Engine,
    preprocessing: Preprocessing,
    finder: CarFinder,
    photos: Sequence[Photo],
    *,
    tta: bool = False,
    on_photo: Progress | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Logits, N×V×K, of the main car of each photo; and whether one was found, N: else they are of the whole photo.

    Raises:
        PhotoError: one of them cannot be read.
    """
    logits, found = [], []
    for batch in iterate_crop_batches(photos, preprocessing, finder, batch_size=_BATCH, tta=tta):
        crops = [_readable(item) for item in batch]
        logits.append(engine.view_logits(np.stack([crop.views for crop in crops])))
        found += [crop.crop.is_car for crop in crops]
        if on_photo:
            on_photo(len(found), len(photos))
    return np.concatenate(logits), np.array(found)


def _readable(item: PreparedCrop | Failure) -> PreparedCrop:
    if isinstance(item, Failure):
        raise item.error
    return item


def name_of(photo: Photo) -> str:
    """Path of a photo, or a description if it has none."""
    if isinstance(photo, str | Path | NamedPhoto):
        return str(photo)
    if isinstance(photo, Image.Image):
        return str(getattr(photo, "filename", "") or "picture in memory")
    return "bytes" if isinstance(photo, bytes) else "array in memory"
