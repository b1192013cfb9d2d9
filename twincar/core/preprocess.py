"""From a photo file to the network's input; the same code in validation, evaluation, prediction and explanation.

What leaves here is `uint8`: normalisation is part of the network, so no caller can get it wrong. Torch-free.

Shapes: N photos, H×W pixels of the network's input.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twincar.core.errors import PhotoError
from twincar.core.photos import Photo, read_photo

_STRIP = 64  # times as long as wide

# Pillow warns from 89 megapixels on; what is too large is decided here, by MAX_PIXELS.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How a photo becomes H×W pixels: resized to cover H/crop × W/crop, then the centre H×W cut out.

    For 224×224 pixels and a crop of 0.875 this is, to the pixel, torchvision's Resize(256) and CenterCrop(224). With
    `squash` the whole photo is resized to H×W, and nothing is cut off.
    """

    height: int
    """H, pixels."""
    width: int
    """W, pixels."""
    crop: float = 0.875
    """Share of the resized photo's height and width that the centre crop keeps."""
    squash: bool = False
    """Resize the whole photo to H×W, changing its proportions."""

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
        """Several inputs of one photo for test-time augmentation, the plain one first; each uint8, H×W×3.

        The photo and its mirror image, both also at a crop of 1 where that shows more.
        """
        wider = [] if self.squash or self.crop == 1 else [replace(self, crop=1.0)]
        inputs = [way(photo) for way in (self, *wider)]
        return [view for plain in inputs for view in (plain, plain[:, ::-1])]

    def visible_box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The part of a width×height photo that the network sees: left, top, right, bottom, in its pixels."""
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
    """A photo as the network takes it, V×H×W×3: one view, or those of test-time augmentation.

    Raises:
        PhotoError: it cannot be read.
    """
    image = read_photo(photo)
    return np.stack(preprocessing.views(image) if tta else [preprocessing(image)])


@dataclass(frozen=True)
class PhotoBatch:
    """Photos ready for the network, and those that could not be read."""

    positions: list[int]
    """Place of each photo in what was asked for; length N."""
    images: NDArray[np.uint8]
    """N×V×H×W×3, with V views a photo (1 without test-time augmentation)."""
    failures: dict[int, PhotoError]
    """Place in what was asked for, and what was wrong."""


def iterate_batches(
    photos: Iterable[Photo],
    preprocessing: Preprocessing,
    *,
    batch_size: int = 32,
    tta: bool = False,
    threads: int = 2,
) -> Iterator[PhotoBatch]:
    """Read and preprocess photos in `threads` while the caller is busy with the batch before.

    Memory holds about three batches, however many photos there are. A photo that cannot be read is told in
    `PhotoBatch.failures`; it stops nothing.
    """

    def prepare(photo: Photo) -> NDArray[np.uint8] | PhotoError:
        try:
            return read_views(photo, preprocessing, tta=tta)
        except PhotoError as error:
            return error

    source = enumerate(photos)
    with ThreadPoolExecutor(threads) as pool:

        def submit_batch() -> dict[int, Future[NDArray[np.uint8] | PhotoError]]:
            return {position: pool.submit(prepare, photo) for position, photo in islice(source, batch_size)}

        ahead = deque([submit_batch(), submit_batch()])
        while batch := ahead.popleft():
            ahead.append(submit_batch())
            yield _as_batch({position: future.result() for position, future in batch.items()})


def _without_ends(photo: Image.Image) -> Image.Image:
    """A very long strip shortened about its centre, which is all the crop keeps: resized whole, it would be huge."""
    width, height = photo.size
    if max(width, height) <= _STRIP * min(width, height):
        return photo
    keep_width, keep_height = min(width, _STRIP * height), min(height, _STRIP * width)
    left, top = (width - keep_width) // 2, (height - keep_height) // 2
    return photo.crop((left, top, left + keep_width, top + keep_height))


def _as_batch(done: dict[int, NDArray[np.uint8] | PhotoError]) -> PhotoBatch:
    images = {position: item for position, item in done.items() if isinstance(item, np.ndarray)}
    failures = {position: item for position, item in done.items() if isinstance(item, PhotoError)}
    stacked = np.stack(list(images.values())) if images else np.zeros((0, 1, 0, 0, 3), np.uint8)
    return PhotoBatch(list(images), stacked, failures)
