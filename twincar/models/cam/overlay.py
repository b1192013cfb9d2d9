"""A photo under a map of what speaks for its answer; needs numpy and Pillow only, so that a demo without torch has it.

Shapes: H×W pixels of a photo, h×w cells of a map.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import ImageColor

from twincar.models.cam.gradcam import resize_map

Floats = NDArray[np.float32]

# Okabe and Ito's, which stay apart for colour-blind eyes.
BLUE, ORANGE = "#0072B2", "#E69F00"
# Turbo (A. Mikhailov, 2019) at 17 even steps; between them a straight line, which is never 0.03 from it.
_TURBO = (
    "#30123b #4040a1 #466be3 #4293ff #29bbec #18dcc3 #31f299 #6bfd64 #a3fd3c #cced34 #edd03a #fdae35 #fb8022 #ec520f "
    "#d23105 #ac1701 #7a0403"
)
_UNSEEN = 0.35  # brightness of what the network did not see
_STRONGEST = 0.65  # share of the colour where a map is hottest


def heat_overlay(
    photo: NDArray[np.uint8], heat: Floats, visible_box: tuple[float, float, float, float]
) -> NDArray[np.uint8]:
    """A photo under its heat map, blue little and red much; what the network did not see is darkened.

    Args:
        photo: upright, H×W×3.
        heat: h×w, 0 to 1; it covers `visible_box`.
        visible_box: left, top, right, bottom of what the network saw, pixels of the photo.

    Returns:
        H×W×3.
    """
    return _under_map(photo, heat, visible_box, turbo)


def contrast_overlay(
    photo: NDArray[np.uint8], signed: Floats, visible_box: tuple[float, float, float, float]
) -> NDArray[np.uint8]:
    """A photo under a signed map: orange speaks for the one class (above 0), blue for the other.

    Args:
        photo: upright, H×W×3.
        signed: h×w, of any scale; it covers `visible_box`.
        visible_box: left, top, right, bottom of what the network saw, pixels of the photo.

    Returns:
        H×W×3.
    """
    scale = abs(signed).max()
    first, second = _rgb(ORANGE), _rgb(BLUE)
    return _under_map(
        photo, signed / (scale or 1), visible_box, lambda heat: np.where(heat[..., None] > 0, first, second)
    )


def is_darkened(width: int, height: int, visible_box: tuple[float, float, float, float]) -> bool:
    """Whether an overlay of a photo of that size shows anything that the network did not see."""
    left, top, right, bottom = (round(edge) for edge in visible_box)
    return left > 0 or top > 0 or right < width or bottom < height


def turbo(values: Floats) -> Floats:
    """The colours of values from 0 to 1: RGB, 0 to 1, with a last axis of 3."""
    steps = np.array([_rgb(step) for step in _TURBO.split()])
    places = np.linspace(0, 1, len(steps))
    return np.stack([np.interp(values, places, channel) for channel in steps.T], axis=-1).astype(np.float32)


def _under_map(
    photo: NDArray[np.uint8],
    heat: Floats,
    visible_box: tuple[float, float, float, float],
    colors: Callable[[Floats], Floats],
) -> NDArray[np.uint8]:
    """A photo, H×W×3, under a map in -1 to 1 over `visible_box`, in the RGB, 0 to 1, that `colors` gives a value."""
    height, width = photo.shape[:2]
    left, top, right, bottom = (round(edge) for edge in visible_box)
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    result = photo.astype(np.float32) * _UNSEEN
    heat = resize_map(heat, bottom - top, right - left)
    # The hotter, the more of the colour: cool parts stay a photo.
    strength = (_STRONGEST * abs(heat))[..., None]
    shown = photo[top:bottom, left:right].astype(np.float32)
    result[top:bottom, left:right] = (1 - strength) * shown + strength * 255 * colors(heat)
    return result.clip(0, 255).astype(np.uint8)


def _rgb(color: str) -> Floats:
    """Red, green and blue, 0 to 1, of '#rrggbb'."""
    return np.array(ImageColor.getrgb(color), np.float32) / np.float32(255)
