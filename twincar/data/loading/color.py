"""Changes of colour that equal torchvision's ColorJitter on Pillow images, in few passes over the pixels.

Brightness, contrast and saturation are one affine map of RGB wherever nothing is clipped between them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np

from twincar.data.loading.surroundings import Pixels

_LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in gray: ITU-R 601, as in Pillow


class _Affine(NamedTuple):
    """Maps RGB to scale·RGB + gray·(gray value) + offset, the same in each channel; closed under composition."""

    scale: float
    gray: float
    offset: float

    def after(self, first: _Affine) -> _Affine:
        """The composition: first `first`, then this map."""
        gray = self.scale * first.gray + self.gray * (first.scale + first.gray)
        return _Affine(self.scale * first.scale, gray, (self.scale + self.gray) * first.offset + self.offset)

    def __call__(self, image: Pixels) -> Pixels:
        if self == _SAME:
            return image
        scale, (red, green, blue), offset = self.scale, (self.gray * luma for luma in _LUMA), self.offset
        rows = [
            [scale + red, green, blue, offset],
            [red, scale + green, blue, offset],
            [red, green, scale + blue, offset],
        ]
        return np.asarray(cv2.transform(image, np.array(rows, np.float32)), np.uint8)


_SAME = _Affine(1.0, 0.0, 0.0)
_CUT = -0.5  # Pillow truncates fractions after each enhancement, on average half a value


def jitter_color(image: Pixels, jitter: Iterable[tuple[str, float]]) -> Pixels:
    """Apply changes of colour in their order: ('brightness' | 'contrast' | 'saturation', factor), ('hue', turns)."""
    pending = _SAME
    for name, value in jitter:
        if name == "hue":
            image, pending = _shift_hue(pending(image), value), _SAME
            continue
        pending = _affine(name, value, image, pending).after(pending)
        if value > 1:  # values may be clipped, which must happen before the next step; up to 1 all stay in 0..255
            image, pending = pending(image), _SAME
    return pending(image)


def _affine(name: str, factor: float, image: Pixels, pending: _Affine) -> _Affine:
    """Pillow's enhancement as an affine map; `pending` is a map to be applied to the image before it."""
    if name == "brightness":
        return _Affine(factor, 0.0, _CUT)
    if name == "saturation":
        return _Affine(factor, 1 - factor, _CUT)
    gray = sum(luma * value for luma, value in zip(_LUMA, cv2.mean(image), strict=False))
    mean = (pending.scale + pending.gray) * gray + pending.offset
    return _Affine(factor, 0.0, (1 - factor) * round(mean) + _CUT)


def _shift_hue(image: Pixels, turns: float) -> Pixels:
    """Shift the hue in 8-bit HSV, as torchvision does: hue wraps at 256 by overflow, and a turn counts 255 steps."""
    hsv = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL), np.uint8)
    height, width, _ = hsv.shape
    row = np.zeros(3 * width, np.uint8)  # adding whole rows is several times faster than adding to every third value
    row[::3] = int(turns * 255) % 256
    flat = hsv.reshape(height, 3 * width)
    np.add(flat, row, out=flat)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL), np.uint8)
