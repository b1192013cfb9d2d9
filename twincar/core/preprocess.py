"""From a photo file to the network's input; the same code in validation, evaluation, prediction and explanation.

What leaves here is `uint8`: normalisation is part of the network, so no caller can get it wrong. Torch-free.

Shapes: N photos, H×W pixels of the network's input.
"""

from __future__ import annotations

import errno
import io
import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from twincar.core.errors import Defect, PhotoError
from twincar.core.photo_formats import (
    FORMATS,
    MAX_TEXT_BYTES,
    decode_jpeg,
    is_heic,
    orientation_of,
    reads_heic,
    to_rgb,
    upright,
)
from twincar.core.user_files import read_bounded

Photo = str | Path | bytes | Image.Image | NDArray[np.uint8]
"""A file (its path, or as text also an address that fsspec opens, such as `s3://bucket/car.jpg`), its bytes, or a
picture in memory (array: height×width×3 or height×width, uint8)."""

MAX_PIXELS = 150_000_000
"""Largest photo that is decoded, pixels; a phone's 108 megapixels pass, a decompression bomb does not."""

MAX_BYTES = 256 << 20
"""Largest photo file that is read, bytes; many times what a photo of `MAX_PIXELS` has in any format that packs it."""

_STRIP = 64  # times as long as wide

# Pillow warns from 89 megapixels on; what is too large is decided here, by MAX_PIXELS.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def read_photo(photo: Photo) -> Image.Image:
    """Decode a photo completely, turn it upright, and make it RGB.

    Grayscale, CMYK, palette and 16-bit pictures are converted; transparent parts become white. Floating-point pixels
    and those of 32 bits are scaled by the range they fill, see `to_rgb`.

    Raises:
        PhotoError: missing, empty, not an image, truncated, or more than `MAX_PIXELS`; HEIC, where that is not
            installed.
    """
    if isinstance(photo, np.ndarray):
        return _from_array(photo)
    if isinstance(photo, Image.Image):
        return to_rgb(photo)
    name = "the photo" if isinstance(photo, bytes) else str(photo)
    if isinstance(photo, str):
        photo = local_path(photo)
    if isinstance(photo, bytes):
        data = photo
    elif isinstance(photo, str) and is_address(photo):
        data = _read_address(photo)
    else:
        data = read_photo_bytes(Path(photo))
    return decode_photo(data, name)


def is_address(name: str) -> bool:
    """Whether a name is an address, such as `s3://bucket/cars`, and no path."""
    return "://" in name


def local_path(name: str) -> str:
    """The path that a percent-encoded `file:` address stands for, see `text_name`; any other name as it is."""
    if not name.startswith("file://") or os.path.lexists(name[7:]):
        return name
    path = os.fsdecode(unquote_to_bytes(name[7:]))
    return path if os.path.lexists(path) else name


def read_photo_bytes(path: Path) -> bytes:
    """The bytes of a photo file.

    Raises:
        PhotoError: the file is missing, empty, no regular file, larger than `MAX_BYTES`, or cannot be read.
    """
    try:
        data = read_bounded(path, MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise PhotoError(Defect.MISSING, f"Expected a photo at {path}, and there is no such file.") from None
    except IsADirectoryError:
        raise PhotoError(Defect.NOT_AN_IMAGE, f"Expected a photo at {path}, and it is a folder.") from None
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.EFBIG:
            raise _too_long(str(path)) from None
        reason = getattr(error, "strerror", None) or error
        raise PhotoError(Defect.MISSING, f"Expected a photo at {path}, and it cannot be read: {reason}") from None
    if not data:
        raise PhotoError(Defect.EMPTY, f"Expected a photo in {path}, and the file is empty.")
    return data


def _read_address(address: str) -> bytes:
    from fsspec.core import url_to_fs  # deferred: it costs a tenth of a second, and most photos are files

    try:
        filesystem, path = url_to_fs(address)
        data: bytes = filesystem.cat_file(path, end=MAX_BYTES + 1)
    except FileNotFoundError:
        raise PhotoError(Defect.MISSING, f"Expected a photo at {address}, and there is none.") from None
    except Exception as error:  # each kind of address has errors of its own
        raise PhotoError(Defect.MISSING, f"Expected a photo at {address}, and it cannot be read: {error}") from None
    if len(data) > MAX_BYTES:
        raise _too_long(address)
    return data


def decode_photo(data: bytes, name: str = "the photo", *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode the bytes of a photo file; `name` is what messages call it. See `read_photo`."""
    if not data:
        raise PhotoError(Defect.EMPTY, f"Expected a photo in {name}, and it is empty.")
    image = _open(data, name, max_pixels)
    try:
        pixels = decode_jpeg(data) if data.startswith(b"\xff\xd8") else None
        if pixels is not None:
            return upright(Image.fromarray(pixels), orientation_of(image))
        image.load()
        return to_rgb(image)
    except Exception as error:  # a damaged body makes Pillow's readers raise almost anything
        if _is_too_much_text(error):
            raise _too_much_text(name) from None
        raise PhotoError(Defect.TRUNCATED, f"Expected a whole photo in {name}, but it breaks off: {error}") from None


def _open(data: bytes, name: str, max_pixels: int) -> Image.Image:
    """A photo of which only the header has been read."""
    formats: tuple[str, ...] = FORMATS
    found = "it is no image"
    if is_heic(data):
        if not reads_heic():
            raise PhotoError(
                Defect.UNSUPPORTED,
                f"Expected a photo of a format that is installed in {name}, but it is HEIC, as phones make it. "
                "Install it (pip install 'twincar[heic]'), or save the photo as JPEG.",
            )
        formats, found = ("HEIF",), "it is HEIC, but damaged"
    try:
        image = Image.open(io.BytesIO(data), formats=formats)
    except Image.DecompressionBombError:
        raise _too_large(name, max_pixels) from None
    except UnidentifiedImageError:
        raise PhotoError(Defect.NOT_AN_IMAGE, f"Expected a photo in {name}, and {found}.") from None
    except Exception as error:  # a damaged header makes Pillow's readers raise almost anything
        if _is_too_much_text(error):
            raise _too_much_text(name) from None
        raise PhotoError(Defect.NOT_AN_IMAGE, f"Expected a photo in {name}, and it is damaged: {error}") from None
    if image.width * image.height > max_pixels:
        raise _too_large(name, max_pixels)
    return image


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

    def seen_box(self, width: int, height: int) -> tuple[float, float, float, float]:
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


def _from_array(array: NDArray[np.uint8]) -> Image.Image:
    if array.dtype != np.uint8 or array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
        raise PhotoError(
            Defect.NOT_AN_IMAGE,
            f"Expected an array of uint8 with shape height×width×3 or height×width, and found {array.dtype} "
            f"with shape {array.shape}.",
        )
    return Image.fromarray(array).convert("RGB")


def _is_too_much_text(error: Exception) -> bool:
    return "MAX_TEXT_" in str(error)


def _too_much_text(name: str) -> PhotoError:
    return PhotoError(
        Defect.TOO_LARGE,
        f"Expected a photo with at most {MAX_TEXT_BYTES >> 20} MiB of text or colour profile in {name}, but it has "
        "more; save it without.",
    )


def _too_long(name: str) -> PhotoError:
    return PhotoError(
        Defect.TOO_LARGE, f"Expected a photo of at most {MAX_BYTES >> 20} MiB in {name}, and it is larger."
    )


def _too_large(name: str, max_pixels: int) -> PhotoError:
    return PhotoError(
        Defect.TOO_LARGE,
        f"Expected a photo of at most {max_pixels // 1_000_000} megapixels in {name}, and it is larger.",
    )
