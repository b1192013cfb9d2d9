"""Decode photos at a reduced size.

Shapes: h×w pixels of the reduced photo.
"""

from __future__ import annotations

import io

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from twincar.core.photo_formats import decode_jpeg, orientation_of
from twincar.core.photos import MAX_PIXELS, decode_photo


def decode_reduced(data: bytes, name: str, shrink: float) -> NDArray[np.uint8]:
    """Decode a photo to RGB, h×w×3; a JPEG at the smallest scale of its format that is not below 1/`shrink`.

    Whether a photo is whole is decided as in `decode_photo`.

    Raises:
        PhotoError: as `decode_photo` does.
    """
    try:
        if not _is_turned(data):
            height, width, *_ = simplejpeg.decode_jpeg_header(data)
            if height * width > MAX_PIXELS:
                raise ValueError("too large; decode_photo raises the error for the user")
            pixels = decode_jpeg(data, min_height=int(height / shrink), min_width=int(width / shrink), fast=True)
            if pixels is not None:
                return pixels
    except ValueError:
        pass  # another format, or damaged, for which decode_photo raises the error
    return np.array(decode_photo(data, name))  # a copy: torch warns about Pillow's own memory, which is read-only


def _is_turned(data: bytes) -> bool:
    """Whether the photo must be turned; only then is Pillow's slower decoder needed."""
    if b"Exif\0" not in data and b"tiff:Orientation" not in data:
        return False
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            return orientation_of(image) != 1
    except Exception:  # not a JPEG
        return False
