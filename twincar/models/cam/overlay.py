"""Overlays of heatmaps on photos; needs numpy and Pillow only, so that a demo works without torch.

Shapes: H×W pixels of a photo, h×w cells of a map.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import ImageColor

from twincar.models.cam.gradcam import resize_map

Floats = NDArray[np.float32]

# From the palette of Okabe and Ito, which is safe for colour-blind people.
BLUE, ORANGE = "#0072B2", "#E69F00"
# Turbo (A. Mikhailov, 2019) at 17 even steps; linear interpolation between them is accurate to 0.03.
_TURBO = (
    "#30123b #4040a1 #466be3 #4293ff #29bbec #18dcc3 #31f299 #6bfd64 #a3fd3c #cced34 #edd03a #fdae35 #fb8022 #ec520f "
    "#d23105 #ac1701 #7a0403"
)
_UNSEEN = 0.35  # brightness of the parts that the network did not see
_STRONGEST = 0.65  # opacity of the colour at the maximum of a map


def heat_overlay(
    photo: NDArray[np.uint8], heat: Floats, visible_box: tuple[float, float, float, float]
) -> NDArray[np.uint8]:
    """A photo with its heatmap, from blue (low) to red (high); parts that the network did not see are darkened.

    Args:
        photo: upright, H×W×3.
        heat: h×w, 0 to 1; it covers `visible_box`.
        visible_box: left, top, right, bottom of the part that the network saw, pixels of the photo.

    Returns:
        H×W×3.
    """
    return _under_map(photo, heat, visible_box, turbo)


def contrast_overlay(
    photo: NDArray[np.uint8], signed: Floats, visible_box: tuple[float, float, float, float]
) -> NDArray[np.uint8]:
    """A photo with a signed map: orange is evidence for the one class (above 0), blue for the other.

    Args:
        photo: upright, H×W×3.
        signed: h×w, of any scale; it covers `visible_box`.
        visible_box: left, top, right, bottom of the part that the network saw, pixels of the photo.

    Returns:
        H×W×3.
    """
    scale = abs(signed).max()
    first, second = _rgb(ORANGE), _rgb(BLUE)
    return _under_map(
        photo, signed / (scale or 1), visible_box, lambda heat: np.where(heat[..., None] > 0, first, second)
    )


def is_darkened(width: int, height: int, visible_box: tuple[float, float, float, float]) -> bool:
    """Whether an overlay of a photo of that size has parts that the network did not see."""
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
    """A photo, H×W×3, with a map in -1 to 1 over `visible_box`; `colors` maps values to RGB, 0 to 1."""
    height, width = photo.shape[:2]
    left, top, right, bottom = (round(edge) for edge in visible_box)
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    result = photo.astype(np.float32) * _UNSEEN
    heat = resize_map(heat, bottom - top, right - left)
    # The opacity of the colour grows with the value, so that the photo stays visible where the map is low.
    strength = (_STRONGEST * abs(heat))[..., None]
    shown = photo[top:bottom, left:right].astype(np.float32)
    result[top:bottom, left:right] = (1 - strength) * shown + strength * 255 * colors(heat)
    return result.clip(0, 255).astype(np.uint8)


def _rgb(color: str) -> Floats:
    """Red, green and blue, 0 to 1, of '#rrggbb'."""
    return np.array(ImageColor.getrgb(color), np.float32) / np.float32(255)
