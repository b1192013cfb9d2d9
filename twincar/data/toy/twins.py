"""One picture of all twin pairs, both cars of a pair in the same scene, to show how they differ. Torch-free."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from twincar.core.files import write_bytes
from twincar.core.photos import encode_photo
from twincar.data.toy.cars import TWIN_PAIRS, WIDTH, TwinPair, photograph

_COLUMNS, _ROWS = 3, 4  # of pairs
_PHOTO_HEIGHT, _CAPTION, _GAP = 140, 42, 10  # pixels


def draw_twins(path: Path) -> None:
    """Draw every pair of twins side by side, with their names and the part in which they differ, as a PNG file.

    Raises:
        StorageError: the disk is full or the folder cannot be written to.
    """
    width, height = 2 * WIDTH + _GAP, _PHOTO_HEIGHT + _CAPTION
    sheet = Image.new("RGB", (_COLUMNS * (width + _GAP) + _GAP, _ROWS * (height + _GAP) + _GAP), "white")
    for number, pair in enumerate(TWIN_PAIRS):
        row, column = divmod(number, _COLUMNS)
        sheet.paste(_draw_pair(pair, number), (_GAP + column * (width + _GAP), _GAP + row * (height + _GAP)))
    write_bytes(path, encode_photo(sheet, "PNG"))


def _draw_pair(pair: TwinPair, seed: int) -> Image.Image:
    """Both cars of a pair in the same scene, light and paint."""
    image = Image.new("RGB", (2 * WIDTH + _GAP, _PHOTO_HEIGHT + _CAPTION), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(11)
    for side, name in enumerate((pair.first, pair.second)):
        left = side * (WIDTH + _GAP)
        photo = photograph(name, np.random.default_rng(seed)).image
        image.paste(photo, (left, (_PHOTO_HEIGHT - photo.height) // 2))
        draw.text((left, _PHOTO_HEIGHT + 4), name, "black", font)
    draw.text((0, _PHOTO_HEIGHT + 20), f"differ in: {pair.part}", "firebrick", font)
    return image
