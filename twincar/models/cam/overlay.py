"""Overlays of heatmaps on photos; needs numpy and Pillow only, so that a demo works without torch.

A page that draws overlays itself uses the same three constants: `HEAT_COLORS`, `STRONGEST` and `FALL`.

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
HEAT_COLORS = (
    "#0d0887", "#310597", "#4c02a1", "#6600a7", "#7e03a8", "#9511a1", "#aa2395", "#bc3587", "#cc4778", "#da5a6a",
    "#e66c5c", "#f0804e", "#f89540", "#fdac33", "#fdc527", "#f8df25", "#f0f921",
)  # fmt: skip
"""The colours of values from 0 to 1 in even steps, with linear interpolation between them: matplotlib's 'plasma'
(S. van der Walt and N. J. Smith, 2015; CC0), accurate to 0.02. Equal steps of the value are equal steps for the eye, in
lightness too, so that the map is read alike by colour-blind people and in print."""
STRONGEST, FALL = 0.8, 1.5
"""The opacity of the colour is STRONGEST · value^FALL: the photo keeps its own colours where a map is low."""
_UNSEEN = 0.35  # brightness of the parts that the network did not see


def heat_overlay(
    photo: NDArray[np.uint8], heat: Floats, visible_box: tuple[float, float, float, float]
) -> NDArray[np.uint8]:
    """A photo with its heatmap, from clear (low) over purple to yellow (high); what the network did not see is dark.

    Args:
        photo: upright, H×W×3.
        heat: h×w, 0 to 1; it covers `visible_box`.
        visible_box: left, top, right, bottom of the part that the network saw, pixels of the photo.

    Returns:
        H×W×3.
    """
    return _under_map(photo, heat, visible_box, heat_colors)


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


def heat_colors(values: Floats) -> Floats:
    """The colours of values from 0 to 1: RGB, 0 to 1, with a last axis of 3."""
    steps = np.array([_rgb(step) for step in HEAT_COLORS])
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
    strength = (STRONGEST * abs(heat) ** FALL)[..., None]
    shown = photo[top:bottom, left:right].astype(np.float32)
    result[top:bottom, left:right] = (1 - strength) * shown + strength * 255 * colors(heat)
    return result.clip(0, 255).astype(np.uint8)


def _rgb(color: str) -> Floats:
    """Red, green and blue, 0 to 1, of '#rrggbb'."""
    return np.array(ImageColor.getrgb(color), np.float32) / np.float32(255)
