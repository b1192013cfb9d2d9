"""From the bytes of a photo to no more pixels than are needed.

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
    """Decode a photo, a JPEG at the smallest scale its format offers that is not below 1/`shrink`; RGB, h×w×3.

    What is a whole photo is decided as in `decode_photo`.

    Raises:
        PhotoError: as `decode_photo` does.
    """
    try:
        if not _is_turned(data):
            height, width, *_ = simplejpeg.decode_jpeg_header(data)
            if height * width > MAX_PIXELS:
                raise ValueError("too large, which is told below")
            pixels = decode_jpeg(data, min_height=int(height / shrink), min_width=int(width / shrink), fast=True)
            if pixels is not None:
                return pixels
    except ValueError:
        pass  # another format, or damaged, which is told below
    return np.array(decode_photo(data, name))  # a copy: Pillow's own memory is not writable, which torch warns of


def _is_turned(data: bytes) -> bool:
    """Whether the picture must be turned; only then is it worth Pillow's slower way."""
    if b"Exif\0" not in data and b"tiff:Orientation" not in data:
        return False
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            return orientation_of(image) != 1
    except Exception:  # no JPEG
        return False
