"""Example photos of a demo; torch-free."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from twincar.core.listing import find_photos
from twincar.core.photos import encode_photo, read_photo

_EXAMPLES = 24  # examples that are shown; all photos of a large folder would be copied at the start
_QUALITY = 95  # as JPEG


def find_examples(folder: Path) -> list[str]:
    """The first photos in a folder, checked to be readable.

    Raises:
        UsageError: there are none.
        PhotoError: a photo cannot be read.
    """
    photos = list(islice(find_photos([str(folder)]), _EXAMPLES))
    for photo in photos:
        read_photo(photo)
    return photos


def pixels_only(path: str) -> bytes:
    """A photo as an upright JPEG without any metadata, which may be private, such as the location."""
    pixels = Image.fromarray(np.asarray(read_photo(path)))  # Pillow would write a comment or XMP that it has read
    return encode_photo(pixels, "JPEG", quality=_QUALITY, subsampling=0)
