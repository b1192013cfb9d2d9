"""From the bytes of a photo to no more pixels than are needed.

Shapes: h×w pixels of the reduced photo.
"""

from __future__ import annotations

import io

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from twincar.preprocess import MAX_PIXELS, decode_photo

_EXIF_ORIENTATION = 0x0112


def decode_reduced(data: bytes, name: str, shrink: float) -> NDArray[np.uint8]:
    """Decode a photo, a JPEG at the smallest scale its format offers that is not below 1/`shrink`; RGB, h×w×3."""
    try:
        if not _is_turned(data):
            height, width, *_ = simplejpeg.decode_jpeg_header(data)
            if height * width > MAX_PIXELS:
                raise ValueError("too large, which is told below")
            pixels = simplejpeg.decode_jpeg(
                data, min_height=int(height / shrink), min_width=int(width / shrink), min_factor=1, fastdct=True
            )
            return np.asarray(pixels, np.uint8)
    except ValueError:
        pass  # another format, or CMYK: Pillow knows them all
    return np.array(decode_photo(data, name))  # a copy: Pillow's own memory is not writable, which torch warns of


def _is_turned(data: bytes) -> bool:
    """Whether EXIF says that the picture must be turned; only then is it worth Pillow's slower way."""
    if b"Exif\0" not in data[: 1 << 16]:
        return False
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            return bool(image.getexif().get(_EXIF_ORIENTATION, 1) != 1)
    except Exception:  # no JPEG, or damaged EXIF, which says nothing about which way is up
        return False
