"""Preprocessing: from a photo to the network's input, shared by validation, evaluation, prediction and explanation.

The result is `uint8`: normalisation is part of the network, so that no caller can get it wrong. Torch-free.

Shapes: N photos, H×W pixels of the network's input.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twincar.core.parallel import map_ahead
from twincar.core.photos import Photo, read_photo

LEAST_SIDE = 0.25
"""Share of the input's shorter side that a photo's shorter side must have, for a car in it to be named."""
_THREADS = 2  # that read photos
_STRIP = 64  # aspect ratio above which a photo is shortened before it is resized


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How a photo becomes H×W pixels: it is resized to cover H/crop × W/crop, then the centre H×W is cropped.

    For 224×224 pixels and a crop of 0.875 the result equals torchvision's Resize(256) and CenterCrop(224) exactly. With
    `squash` the whole photo is resized to H×W without a crop.
    """

    height: int
    """H, pixels."""
    width: int
    """W, pixels."""
    crop: float = 0.875
    """Share of the resized photo's height and width that the centre crop keeps."""
    squash: bool = False
    """Resize the whole photo to H×W, without keeping its aspect ratio."""

    @property
    def least_side(self) -> int:
        """The shorter side of a photo, in pixels, below which a car in it is too small to name."""
        return math.ceil(LEAST_SIDE * min(self.height, self.width))

    def __call__(self, photo: Image.Image) -> NDArray[np.uint8]:
        """The network's input for an RGB photo: uint8, H×W×3."""
        if self.squash:
            return np.asarray(photo.resize((self.width, self.height), Image.Resampling.BILINEAR))
        photo = _without_ends(photo)
        width, height = self._resized(photo.width, photo.height)
        resized = photo.resize((width, height), Image.Resampling.BILINEAR)
        left, top = self._corner(width, height)
        return np.asarray(resized.crop((left, top, left + self.width, top + self.height)))

    def views(self, photo: Image.Image) -> list[NDArray[np.uint8]]:
        """The views of one photo for test-time augmentation, the plain one first; each uint8, H×W×3.

        These are the photo and its mirror image, both also at a crop of 1 where that shows more.
        """
        wider = [] if self.squash or self.crop == 1 else [replace(self, crop=1.0)]
        inputs = [way(photo) for way in (self, *wider)]
        return [view for plain in inputs for view in (plain, plain[:, ::-1])]

    def visible_box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The part of a width×height photo that the network sees: left, top, right, bottom, in pixels of the photo."""
        if self.squash:
            return 0.0, 0.0, float(width), float(height)
        resized_width, resized_height = self._resized(width, height)
        x, y = width / resized_width, height / resized_height
        left, top = self._corner(resized_width, resized_height)
        return left * x, top * y, (left + self.width) * x, (top + self.height) * y

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        """Size after resizing, rounded as torchvision's Resize rounds it."""
        cover_width, cover_height = round(self.width / self.crop), round(self.height / self.crop)
        if cover_width * height >= cover_height * width:
            return cover_width, max(cover_height, int(cover_width * height / width))
        return max(cover_width, int(cover_height * width / height)), cover_height

    def _corner(self, width: int, height: int) -> tuple[int, int]:
        """Left and top of the centre crop, rounded as torchvision's CenterCrop rounds it."""
        return round((width - self.width) / 2.0), round((height - self.height) / 2.0)


def read_views(photo: Photo, preprocessing: Preprocessing, *, tta: bool = False) -> NDArray[np.uint8]:
    """Read a photo and preprocess it, V×H×W×3: one view, or those of test-time augmentation.

    Raises:
        PhotoError: it cannot be read.
    """
    image = read_photo(photo)
    return np.stack(preprocessing.views(image) if tta else [preprocessing(image)])


def iterate_batches(
    photos: Iterable[Photo], preprocessing: Preprocessing, *, batch_size: int, tta: bool = False
) -> Iterator[NDArray[np.uint8]]:
    """Read and preprocess photos in threads, while the caller works on the batch before; each batch is N×V×H×W×3.

    Memory holds about three batches, however many photos there are.

    Raises:
        PhotoError: a photo cannot be read.
    """
    read = partial(read_views, preprocessing=preprocessing, tta=tta)
    views = map_ahead(read, photos, threads=_THREADS, ahead=2 * batch_size)
    while batch := list(islice(views, batch_size)):
        yield np.stack(batch)


def _without_ends(photo: Image.Image) -> Image.Image:
    """Shorten a very long photo about its centre, of which the crop keeps no more: resized whole, it would be huge."""
    width, height = photo.size
    if max(width, height) <= _STRIP * min(width, height):
        return photo
    keep_width, keep_height = min(width, _STRIP * height), min(height, _STRIP * width)
    left, top = (width - keep_width) // 2, (height - keep_height) // 2
    return photo.crop((left, top, left + keep_width, top + keep_height))
