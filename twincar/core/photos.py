"""Read and decode photos from files, bytes and addresses to upright RGB images; encode them again. Torch-free."""

from __future__ import annotations

import errno
import glob
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from twincar.core.addresses import open_address
from twincar.core.errors import Defect, PhotoError, TwinCarError
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

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels of the upright photo, from 0; right and bottom are exclusive."""


@dataclass(frozen=True)
class PhotoCrop:
    """A part of a photo file, such as its car."""

    path: Path
    box: Box

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.path.name


_HINTS = dict.fromkeys((".mp4", ".mov", ".avi", ".mkv", ".webm"), " Save single pictures of the video as photos.")
_HINTS[".pdf"] = " Save its pictures as photos."

MAX_PIXELS = 150_000_000
"""Largest photo that is decoded, pixels; above the 108 megapixels of a phone, below a decompression bomb."""


@dataclass(frozen=True)
class NamedPhoto:
    """The bytes of a photo file that was sent, with its name in messages."""

    name: str
    data: bytes
    max_pixels: int = MAX_PIXELS

    def __str__(self) -> str:
        return self.name


Photo = str | Path | PhotoCrop | NamedPhoto | bytes | Image.Image | NDArray[np.uint8]
"""A path, a part of one, an address that fsspec opens (as text, such as `s3://bucket/car.jpg`), the bytes of a file
(with or without a name), or an image in memory (an array is height×width×3 or height×width, uint8)."""

MAX_BYTES = 256 << 20
"""Largest photo file that is read, bytes; far above a photo of `MAX_PIXELS` in any compressed format."""


def read_photo(photo: Photo) -> Image.Image:
    """Decode a photo completely, turn it upright, and convert it to RGB.

    Grayscale, CMYK, palette and 16-bit images are converted; transparent parts become white. Floating-point and 32-bit
    pixels are scaled by the range of their values, see `to_rgb`.

    Raises:
        PhotoError: missing, empty, not an image, truncated, or more than `MAX_PIXELS`; or HEIC, if support for it is
            not installed; or smaller than the part that is to be read.
    """
    if isinstance(photo, PhotoCrop):
        return crop_photo(read_photo(photo.path), photo.box, str(photo))
    if isinstance(photo, NamedPhoto):
        return decode_photo(photo.data, photo.name, max_pixels=photo.max_pixels)
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


def encode_photo(photo: Image.Image, form: str, **options: Any) -> bytes:
    """A photo as the bytes of a file.

    Args:
        photo: of a mode that the format has.
        form: the format by Pillow's name, such as 'JPEG'.
        **options: of the format, see https://pillow.readthedocs.io/en/stable/handbook/image-file-formats.html
    """
    file = io.BytesIO()
    photo.save(file, form, **options)
    return file.getvalue()


def crop_photo(image: Image.Image, box: Box, name: str) -> Image.Image:
    """Cut a box out of a photo; `name` is its name in messages.

    Raises:
        PhotoError: the box is not in the photo.
    """
    if box[2] > image.width or box[3] > image.height:
        raise PhotoError(
            Defect.TOO_SMALL,
            f"Expected at least {box[2]}×{box[3]} pixels in {name}, as when the data set was prepared, but found "
            f"{image.width}×{image.height}. Prepare the data set again.",
        )
    return image.crop(box)


def is_address(name: str) -> bool:
    """Whether a name is an address, such as `s3://bucket/cars`, and not a path."""
    return "://" in name


def absolute_name(name: str | Path) -> str:
    """The absolute path for a path, without links, so that it is the same in every folder; an address as it is."""
    return address if is_address(address := str(name)) else str(Path(name).resolve())


def local_path(name: str) -> str:
    """The path of a percent-encoded `file:` address, see `text_name`; any other name is returned as it is."""
    if not name.startswith("file://") or os.path.lexists(name[7:]):
        return name
    path = os.fsdecode(unquote_to_bytes(name[7:]))
    return path if os.path.lexists(path) else name


def read_photo_bytes(path: Path) -> bytes:
    """The bytes of a photo file.

    Raises:
        PhotoError: the file is missing, empty, not a regular file, larger than `MAX_BYTES`, or cannot be read.
    """
    try:
        data = read_bounded(path, MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        if glob.has_magic(str(path)):
            raise PhotoError(Defect.MISSING, f"Expected photos that match {path}, but there are none.") from None
        raise PhotoError(Defect.MISSING, f"Expected a photo at {path}, but there is no such file or folder.") from None
    except IsADirectoryError:
        raise PhotoError(
            Defect.NOT_AN_IMAGE,
            f"Expected a photo at {path}, but it is a folder, in which no photo was looked for or found. From Python, "
            f"classifier.predict(list(twincar.find_photos({str(path)!r}))) predicts for all of its photos.",
        ) from None
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.EFBIG:
            raise _too_long(str(path)) from None
        reason = getattr(error, "strerror", None) or error
        raise PhotoError(Defect.MISSING, f"Expected a photo at {path}, but it cannot be read: {reason}") from None
    if not data:
        raise PhotoError(Defect.EMPTY, f"Expected a photo in {path}, but the file is empty.")
    return data


def _read_address(address: str) -> bytes:
    try:
        filesystem, path = open_address(address)
        data: bytes = filesystem.cat_file(path, end=MAX_BYTES + 1)
    except FileNotFoundError:
        raise PhotoError(Defect.MISSING, f"Expected a photo at {address}, but there is none.") from None
    except TwinCarError as error:
        raise PhotoError(Defect.MISSING, str(error)) from None
    except Exception as error:  # each kind of address raises its own errors
        raise PhotoError(Defect.MISSING, f"Expected a photo at {address}, but it cannot be read: {error}") from None
    if len(data) > MAX_BYTES:
        raise _too_long(address)
    return data


def decode_photo(data: bytes, name: str = "the photo", *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode the bytes of a photo file; `name` is its name in messages. See `read_photo`."""
    if not data:
        raise PhotoError(Defect.EMPTY, f"Expected a photo in {name}, but it is empty.")
    image = _open(data, name, max_pixels)
    try:
        pixels = decode_jpeg(data) if data.startswith(b"\xff\xd8") else None
        if pixels is not None:
            return upright(Image.fromarray(pixels), orientation_of(image))
        image.load()
        return to_rgb(image)
    except Exception as error:  # Pillow's readers raise almost anything for damaged data
        if _is_too_much_text(error):
            raise _too_much_text(name) from None
        raise PhotoError(Defect.TRUNCATED, f"Expected a whole photo in {name}, but it is truncated: {error}") from None


def _open(data: bytes, name: str, max_pixels: int) -> Image.Image:
    """Open a photo and read its header only."""
    formats: tuple[str, ...] = FORMATS
    found = "it is not an image"
    if is_heic(data):
        if not reads_heic():
            raise PhotoError(
                Defect.UNSUPPORTED,
                f"Expected a photo in a supported format in {name}, but it is HEIC, as phones make it. "
                "Install support for it (pip install 'twincar[heic]'), or save the photo as JPEG.",
            )
        formats, found = ("HEIF",), "it is a damaged HEIC file"
    try:
        image = Image.open(io.BytesIO(data), formats=formats)
    except Image.DecompressionBombError:
        raise _too_large(name, max_pixels) from None
    except UnidentifiedImageError:
        hint = _HINTS.get(os.path.splitext(name)[1].casefold(), "")  # noqa: PTH122
        raise PhotoError(Defect.NOT_AN_IMAGE, f"Expected a photo in {name}, but {found}.{hint}") from None
    except Exception as error:  # Pillow's readers raise almost anything for a damaged header
        if _is_too_much_text(error):
            raise _too_much_text(name) from None
        raise PhotoError(Defect.NOT_AN_IMAGE, f"Expected a photo in {name}, but it is damaged: {error}") from None
    if image.width * image.height > max_pixels:
        raise _too_large(name, max_pixels)
    return image


def _from_array(array: NDArray[np.uint8]) -> Image.Image:
    if array.dtype != np.uint8 or array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
        raise PhotoError(
            Defect.NOT_AN_IMAGE,
            f"Expected an array of uint8 with shape height×width×3 or height×width, but found {array.dtype} "
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
        Defect.TOO_LARGE, f"Expected a photo of at most {MAX_BYTES >> 20} MiB in {name}, but it is larger."
    )


def _too_large(name: str, max_pixels: int) -> PhotoError:
    return PhotoError(
        Defect.TOO_LARGE,
        f"Expected a photo of at most {max_pixels // 1_000_000} megapixels in {name}, but it is larger.",
    )
