"""What a crop shows beyond the edges of its photo, so that no network learns to recognize a fixed border.

A photo that is cut to its car has no surroundings of its own, but a box that is too loose shows some. They are made up
in several ways, one for each sample.

Shapes: H×W is the crop, h×w the photo.
"""

from __future__ import annotations

from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from twincar.core.photos import Box

Pixels = NDArray[np.uint8]
Fill = Literal["blurred", "mirrored", "noise", "flat"]
"""The photo itself, enlarged and blurred; the photo, mirrored at its edges; noise of any grain; one colour."""
FILLS: tuple[Fill, ...] = get_args(Fill)

_BLURRED_SIDE = (3, 24)  # pixels a side to which the photo is shrunk before it is enlarged
_ENOUGH = 64  # pixels a side from which it is shrunk
_GRAIN = (1, 24)  # pixels


def crop_beyond(photo: Pixels, rectangle: Box, fill: Fill, seed: int) -> Pixels:
    """Cut an H×W×3 crop out of an h×w×3 photo that need not hold all of it.

    Args:
        photo: an RGB photo.
        rectangle: the crop in pixels of the photo; at least one of its pixels lies in the photo.
        fill: what lies beyond the photo.
        seed: of the noise, or of the colour.
    """
    left, top, right, bottom = rectangle
    height, width = photo.shape[:2]
    before = max(0, -top), max(0, -left)
    after = max(0, bottom - height), max(0, right - width)
    inside = photo[max(0, top) : bottom, max(0, left) : right]
    if not any(before + after):
        return inside
    rng = np.random.default_rng(seed)
    borders = before[0], after[0], before[1], after[1]
    if fill == "mirrored":
        return np.asarray(cv2.copyMakeBorder(inside, *borders, cv2.BORDER_REFLECT_101), np.uint8)
    if fill == "flat":
        color = rng.integers(0, 256, 3).tolist()
        return np.asarray(cv2.copyMakeBorder(inside, *borders, cv2.BORDER_CONSTANT, value=color), np.uint8)
    small = _shrunk(photo, rng) if fill == "blurred" else _noise(bottom - top, right - left, rng)
    crop = np.asarray(cv2.resize(small, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR), np.uint8)
    crop[before[0] : before[0] + inside.shape[0], before[1] : before[1] + inside.shape[1]] = inside
    return crop


def _shrunk(photo: Pixels, rng: np.random.Generator) -> Pixels:
    side = int(rng.integers(*_BLURRED_SIDE))
    step = max(1, min(photo.shape[:2]) // _ENOUGH)
    return np.asarray(cv2.resize(photo[::step, ::step], (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def _noise(height: int, width: int, rng: np.random.Generator) -> Pixels:
    grain = int(rng.integers(*_GRAIN))
    return rng.integers(0, 256, (height // grain + 1, width // grain + 1, 3), np.uint8)
