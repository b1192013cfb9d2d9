"""Variation of the training photos: random crop, mirror image, rotation, colour and blur.

Same distributions as torchvision's RandomResizedCrop, RandomHorizontalFlip, RandomRotation, ColorJitter and
RandomApply(GaussianBlur(3)) in that order, so the strengths of a published recipe mean here what they mean there; the
pixel work is OpenCV's, on `uint8`. What is drawn (`Draw`) is told apart from what it does to the pixels, so that tests
compare both with torchvision, and a draw depends on nothing but its random generator.

Shapes: H×W is the output, h×w the photo.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from twincar.config import AugmentConfig

Pixels = NDArray[np.uint8]

_BLUR_SIGMA = (0.1, 2.0)  # torchvision's default range, pixels
_CROP_ATTEMPTS = 10  # as in torchvision, before the largest fitting centre crop is taken

# Data-loader workers are the parallelism; threads of OpenCV's own under them only get in each other's way.
cv2.setNumThreads(0)


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One outcome of the augmentation's dice."""

    left: int
    """Crop, pixels of the photo."""
    top: int
    width: int
    height: int
    mirrored: bool
    angle: float
    """Counter-clockwise about the centre of the crop, degrees."""
    jitter: tuple[tuple[str, float], ...]
    """('brightness' | 'contrast' | 'saturation', factor) and ('hue', shift in turns), in the order of application."""
    blur_sigma: float
    """Standard deviation of the blur, output pixels; 0 is none."""


def draw(config: AugmentConfig, rng: np.random.Generator, width: int, height: int) -> Draw:
    """Throw the dice for a photo of width×height pixels."""
    left, top, crop_width, crop_height = _draw_crop(config, rng, width, height)
    return Draw(
        left=left,
        top=top,
        width=crop_width,
        height=crop_height,
        mirrored=rng.random() < config.flip,
        angle=rng.uniform(-config.rotation, config.rotation),
        jitter=_draw_jitter(config, rng),
        blur_sigma=rng.uniform(*_BLUR_SIGMA) if rng.random() < config.blur else 0.0,
    )


def apply_draw(what: Draw, photo: Pixels, *, height: int, width: int, scale: float = 1.0) -> Pixels:
    """Make the training input, H×W×3, from an RGB photo, h×w×3.

    Args:
        what: the outcome of the dice, in pixels of the photo at full size.
        photo: the decoded photo; it may have been decoded at a reduced `scale` of its full size.
        height: H, pixels.
        width: W, pixels.
        scale: size of `photo` relative to the size `what` was drawn for.
    """
    left, top = round(what.left * scale), round(what.top * scale)
    right = min(photo.shape[1], max(left + 1, round((what.left + what.width) * scale)))
    bottom = min(photo.shape[0], max(top + 1, round((what.top + what.height) * scale)))
    image = _resize(photo[min(top, bottom - 1) : bottom, min(left, right - 1) : right], height, width)
    if what.mirrored:
        image = image[:, ::-1]
    if what.angle:
        centre = (width - 1) / 2, (height - 1) / 2  # of pixel centres, as OpenCV counts
        turn = cv2.getRotationMatrix2D(centre, what.angle, 1.0)
        image = np.asarray(cv2.warpAffine(image, turn, (width, height)), np.uint8)
    for name, value in what.jitter:
        image = _JITTER[name](image, value)
    if what.blur_sigma:
        image = np.asarray(cv2.GaussianBlur(image, (3, 3), what.blur_sigma), np.uint8)
    return np.ascontiguousarray(image)


def _draw_crop(config: AugmentConfig, rng: np.random.Generator, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, width, height; area and logarithm of the proportions are uniform."""
    low, high = config.crop_ratio
    for _ in range(_CROP_ATTEMPTS):
        area = width * height * rng.uniform(*config.crop_scale)
        ratio = math.exp(rng.uniform(math.log(low), math.log(high)))
        crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            left, top = rng.integers(0, width - crop_width + 1), rng.integers(0, height - crop_height + 1)
            return int(left), int(top), crop_width, crop_height
    crop_width, crop_height = width, height
    if width / height < low:
        crop_height = round(width / low)
    elif width / height > high:
        crop_width = round(height * high)
    return (width - crop_width) // 2, (height - crop_height) // 2, crop_width, crop_height


def _draw_jitter(config: AugmentConfig, rng: np.random.Generator) -> tuple[tuple[str, float], ...]:
    strengths = {"brightness": config.brightness, "contrast": config.contrast, "saturation": config.saturation}
    values = {name: rng.uniform(max(0.0, 1 - strength), 1 + strength) for name, strength in strengths.items()}
    values["hue"] = rng.uniform(-config.hue, config.hue)
    strengths["hue"] = config.hue
    order = [list(values)[index] for index in rng.permutation(len(values))]
    return tuple((name, values[name]) for name in order if strengths[name])


def _resize(image: Pixels, height: int, width: int) -> Pixels:
    """Averaging where the picture shrinks, so that nothing aliases; linear where it grows."""
    shrinks = image.shape[0] > height or image.shape[1] > width
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.asarray(resized, np.uint8)


def _brightness(image: Pixels, factor: float) -> Pixels:
    return np.asarray(cv2.convertScaleAbs(image, alpha=factor), np.uint8)


def _contrast(image: Pixels, factor: float) -> Pixels:
    mean = float(cv2.mean(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[0])
    values = np.clip(factor * np.arange(256, dtype=np.float32) + (1 - factor) * mean, 0, 255)
    return np.asarray(cv2.LUT(image, values.astype(np.uint8)), np.uint8)


def _saturation(image: Pixels, factor: float) -> Pixels:
    gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return np.asarray(cv2.addWeighted(image, factor, gray, 1 - factor, 0), np.uint8)


def _hue(image: Pixels, shift: float) -> Pixels:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)  # hue in 256 steps a turn
    hsv[..., 0] += np.uint8(round(shift * 256) % 256)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL), np.uint8)


_JITTER = {"brightness": _brightness, "contrast": _contrast, "saturation": _saturation, "hue": _hue}
