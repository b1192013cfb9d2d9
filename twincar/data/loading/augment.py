"""Variation of the training photos: random crop, mirror image, rotation, colour and blur.

Same distributions as torchvision's RandomResizedCrop, RandomHorizontalFlip, RandomRotation, ColorJitter and
RandomApply(GaussianBlur(3)) in that order, so the strengths of a published recipe mean here what they mean there; the
pixel work is OpenCV's, on `uint8`. The sampled parameters (`AugmentParams`) are kept apart from what they do to the
pixels, so that tests compare both with torchvision, and a sample depends on nothing but its random generator.

TrivialAugment, where it is asked for, is torchvision's.

Crop and scale are one antialiased resize, near Pillow's; mirror image and rotation are one pick of nearest pixels, as
torchvision's rotation is. From a photo that `fit_photo` has made ready for all its
crops, as the cache keeps it, all four are that one pick. Brightness, contrast and saturation are one affine map of RGB
wherever nothing is clipped between them.

Shapes: H×W is the output, h×w the photo.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from twincar.core.config import AugmentConfig

Pixels = NDArray[np.uint8]
Size = tuple[int, int]
"""Width and height, pixels."""

_BLUR_SIGMA = (0.1, 2.0)  # torchvision's default range, pixels
_CROP_ATTEMPTS = 10  # as in torchvision, before the largest fitting centre crop is taken
_NUMBERS = 4 * _CROP_ATTEMPTS + 13  # uniform numbers that one draw takes at most
_FIT_RANGE = 1.5  # widest by narrowest crop that one fitted picture serves; beyond, the small ones would be blurred
_MARGIN = 1.1  # smoothed for a crop this much larger: nearest pixels leave up to 16% more of a wave than Pillow
_TAPER = 0.35  # the smallest smoothing that leaves no more aliasing than Pillow at every shrink that is tested
_LUMA = (0.299, 0.587, 0.114)  # gray of red, green and blue: ITU-R 601, as in Pillow

# Data-loader workers are the parallelism; threads of OpenCV's own under them only get in each other's way.
cv2.setNumThreads(0)


@dataclass(frozen=True, kw_only=True)
class AugmentParams:
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
    trivial_seed: int | None = None
    """Of TrivialAugment's own dice; None is without it."""


def sample_params(config: AugmentConfig, rng: np.random.Generator, width: int, height: int) -> AugmentParams:
    """Throw the dice for a photo of width×height pixels."""
    dice = _UniformStream(rng)
    left, top, crop_width, crop_height = _draw_crop(config, dice, width, height)
    return AugmentParams(
        left=left,
        top=top,
        width=crop_width,
        height=crop_height,
        mirrored=dice.uniform(0, 1) < config.flip,
        angle=dice.uniform(-config.rotation, config.rotation),
        jitter=_draw_jitter(config, dice),
        blur_sigma=dice.uniform(*_BLUR_SIGMA) if dice.uniform(0, 1) < config.blur else 0.0,
        trivial_seed=dice.integer(2**31) if config.trivial_augment else None,
    )


def augment_photo(what: AugmentParams, photo: Pixels, *, full: Size, height: int, width: int) -> Pixels:
    """Make the training input, H×W×3, from a decoded RGB photo, h×w×3.

    Args:
        what: the outcome of the dice.
        photo: the photo; it may have been decoded smaller than it is.
        full: the size of the photo that `what` was drawn for.
        height: H, pixels.
        width: W, pixels.
    """
    return _finish(what, _turn(what, _resize(_crop(photo, what, full), height, width), height, width))


def augment_fitted(what: AugmentParams, photo: Pixels, *, full: Size, height: int, width: int) -> Pixels:
    """As `augment_photo`, from what `fit_photo` made of the photo: what must be smoothed is smooth already."""
    return _finish(what, _turn(what, _crop(photo, what, full), height, width))


@dataclass(frozen=True)
class Fit:
    """What a photo must become for `augment_fitted`: sampled for its smallest crop, smoothed for its largest."""

    width: int
    """Pixels at which the narrowest crop is as wide as the network's input."""
    height: int
    """Pixels at which the lowest crop is as high as the network's input."""
    reach_x: float
    """How far Pillow's triangle would reach to each side in resizing the widest crop, pixels of this picture."""
    reach_y: float


def fit_of(config: AugmentConfig, full: Size, *, height: int, width: int) -> Fit | None:
    """How to make a photo ready; None where its crops differ too much in size to be served by one picture.

    Args:
        config: the strengths.
        full: size of the photo.
        height: H, pixels.
        width: W, pixels.
    """
    narrowest, widest, lowest, highest = _crop_range(config, full)
    if widest > _FIT_RANGE * narrowest or highest > _FIT_RANGE * lowest:
        return None
    return Fit(
        max(1, round(full[0] * width / narrowest)),
        max(1, round(full[1] * height / lowest)),
        max(_MARGIN * widest, width) / narrowest,
        max(_MARGIN * highest, height) / lowest,
    )


def fit_photo(photo: Pixels, fit: Fit) -> Pixels:
    """Resize an RGB photo as `fit` says, h×w×3; it may have been decoded smaller than it is."""
    rows = _triangles(photo.shape[0], fit.height, fit.reach_y)
    columns = _triangles(photo.shape[1], fit.width, fit.reach_x)
    resized = np.tensordot(columns, np.tensordot(rows, photo.astype(np.float32), (1, 0)), (1, 1))
    return np.ascontiguousarray(np.rint(resized.transpose(1, 0, 2)).astype(np.uint8))


def _triangles(old: int, new: int, reach: float) -> NDArray[np.float32]:
    """Weights, new×old, of a resize as Pillow's BILINEAR, but with triangles of this reach, pixels of the new."""
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    reach_old = max(1.0, reach * old / new)
    weights = np.maximum(0, 1 - abs(np.arange(old) - centres[:, None]) / reach_old)
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)


class _UniformStream:
    """Uniform numbers, drawn all at once: a call of the generator for each costs more than the arithmetic."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.numbers = iter(rng.random(_NUMBERS).tolist())

    def uniform(self, low: float, high: float) -> float:
        return float(low + (high - low) * next(self.numbers))

    def integer(self, high: int) -> int:
        """From 0 to `high`, both included."""
        return int(next(self.numbers) * (high + 1))


def _draw_crop(config: AugmentConfig, dice: _UniformStream, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, width, height; area and logarithm of the proportions are uniform."""
    low, high = config.crop_ratio
    for _ in range(_CROP_ATTEMPTS):
        area = width * height * dice.uniform(*config.crop_scale)
        ratio = math.exp(dice.uniform(math.log(low), math.log(high)))
        crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            return dice.integer(width - crop_width), dice.integer(height - crop_height), crop_width, crop_height
    crop_width, crop_height = width, height
    if width / height < low:
        crop_height = round(width / low)
    elif width / height > high:
        crop_width = round(height * high)
    return (width - crop_width) // 2, (height - crop_height) // 2, crop_width, crop_height


def _crop_range(config: AugmentConfig, full: Size) -> tuple[float, float, float, float]:
    """The narrowest and widest, lowest and highest crop that `_draw_crop` can give."""
    width, height = full
    smallest, (low, high) = config.crop_scale[0] * width * height, config.crop_ratio
    widest, highest = min(width, height * high), min(height, width / low)
    narrowest = min(widest, max(math.sqrt(smallest * low), smallest / height))
    lowest = min(highest, max(math.sqrt(smallest / high), smallest / width))
    return max(1.0, narrowest), max(1.0, widest), max(1.0, lowest), max(1.0, highest)


def _draw_jitter(config: AugmentConfig, dice: _UniformStream) -> tuple[tuple[str, float], ...]:
    strengths = {"brightness": config.brightness, "contrast": config.contrast, "saturation": config.saturation}
    values = {name: dice.uniform(max(0.0, 1 - strength), 1 + strength) for name, strength in strengths.items()}
    values["hue"] = dice.uniform(-config.hue, config.hue)
    strengths["hue"] = config.hue
    order = sorted(values, key=lambda _: dice.uniform(0, 1))
    return tuple((name, values[name]) for name in order if strengths[name])


def _crop(photo: Pixels, what: AugmentParams, full: Size) -> Pixels:
    """The part of the photo that was drawn, to whole pixels of the photo as it is."""
    x, y = photo.shape[1] / full[0], photo.shape[0] / full[1]
    left = min(photo.shape[1] - 1, round(what.left * x))
    top = min(photo.shape[0] - 1, round(what.top * y))
    right = max(left + 1, round((what.left + what.width) * x))
    bottom = max(top + 1, round((what.top + what.height) * y))
    return photo[top:bottom, left:right]


def _resize(crop: Pixels, height: int, width: int) -> Pixels:
    """Linear where it grows; where it shrinks, without more aliasing than Pillow's BILINEAR, which is antialiased.

    Up to half the size, three taps of smoothing and linear interpolation are twice as quick as Pillow's triangles.
    """
    shrink_x, shrink_y = crop.shape[1] / width, crop.shape[0] / height
    if max(shrink_x, shrink_y) <= 2:
        if max(shrink_x, shrink_y) > 1:
            taps = _smoothing(shrink_x), _smoothing(shrink_y)
            crop = np.asarray(cv2.sepFilter2D(crop, -1, *taps, borderType=cv2.BORDER_REPLICATE), np.uint8)
        return np.asarray(cv2.resize(crop, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    planes = torch.from_numpy(crop[None]).permute(0, 3, 1, 2)
    resized = functional.interpolate(planes, (height, width), mode="bilinear", antialias=True)
    return np.asarray(cv2.merge(list(resized[0].numpy())), np.uint8)


def _smoothing(shrink: float) -> NDArray[np.float32]:
    """Three taps that, with linear interpolation after them, reach as far as Pillow's triangle at a shrink of 2.

    Below, they are a little wider than its, because three taps stop less of what lies beyond Nyquist's frequency.
    """
    side = max(0.0, shrink - 1) ** _TAPER / 4
    return np.array([side, 1 - 2 * side, side], np.float32)


def _turn(what: AugmentParams, crop: Pixels, height: int, width: int) -> Pixels:
    """Mirror and turn about the centre, and scale to H×W."""
    if not what.angle:
        resized = np.asarray(cv2.resize(crop, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
        return np.asarray(cv2.flip(resized, 1), np.uint8) if what.mirrored else resized
    # Where in the crop each pixel of the output comes from; coordinates are of pixel centres.
    x, y = crop.shape[1] / width, crop.shape[0] / height
    cosine, sine = math.cos(math.radians(what.angle)), math.sin(math.radians(what.angle))
    side = -1 if what.mirrored else 1
    linear = np.array([[side * x * cosine, -side * x * sine], [y * sine, y * cosine]])
    centre = np.array([(crop.shape[1] - 1) / 2, (crop.shape[0] - 1) / 2])
    offset = centre - linear @ np.array([(width - 1) / 2, (height - 1) / 2])
    source = np.hstack([linear, offset[:, None]])
    # Four bytes moved as one number: a third quicker than three, the way there and back included.
    pixels = np.asarray(cv2.cvtColor(crop, cv2.COLOR_RGB2RGBA)).view(np.float32)[..., 0]
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    picked = np.asarray(cv2.warpAffine(pixels, source, (width, height), flags=flags))
    return np.asarray(cv2.cvtColor(picked[..., None].view(np.uint8), cv2.COLOR_RGBA2RGB), np.uint8)


def _finish(what: AugmentParams, image: Pixels) -> Pixels:
    """Colour and blur."""
    image = _vary_colour(what, image)
    if what.blur_sigma:
        image = np.asarray(cv2.GaussianBlur(image, (3, 3), what.blur_sigma), np.uint8)
    if what.trivial_seed is not None:
        image = _trivially_augment(image, what.trivial_seed)
    return np.ascontiguousarray(image)


def _trivially_augment(image: Pixels, seed: int) -> Pixels:
    """torchvision's own, whose dice are torch's global ones: these are left as they were."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        planes = _trivial_augment()(torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1))
    return np.asarray(planes.permute(1, 2, 0).numpy(), np.uint8)


@cache
def _trivial_augment() -> Callable[[torch.Tensor], torch.Tensor]:
    from torchvision.transforms import v2  # deferred: it takes a second, and most trainings do without

    transform: Callable[[torch.Tensor], torch.Tensor] = v2.TrivialAugmentWide()
    return transform


class _Affine(NamedTuple):
    """RGB becomes scale·RGB + gray·(its gray) + offset, in each channel alike; two in a row are one again."""

    scale: float
    gray: float
    offset: float

    def after(self, first: _Affine) -> _Affine:
        """This map of what `first` gives."""
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
_CUT = -0.5  # Pillow cuts fractions off after each enhancement: half a value in the mean


def _vary_colour(what: AugmentParams, image: Pixels) -> Pixels:
    pending = _SAME
    for name, value in what.jitter:
        if name == "hue":
            image, pending = _turn_hue(pending(image), value), _SAME
            continue
        pending = _affine(name, value, image, pending).after(pending)
        if value > 1:  # this may clip, and clipping belongs before what follows; up to 1 nothing leaves 0..255
            image, pending = pending(image), _SAME
    return pending(image)


def _affine(name: str, factor: float, image: Pixels, pending: _Affine) -> _Affine:
    """Pillow's enhancement as a map; `pending` is still to be applied to the image before it."""
    if name == "brightness":
        return _Affine(factor, 0.0, _CUT)
    if name == "saturation":
        return _Affine(factor, 1 - factor, _CUT)
    gray = sum(luma * value for luma, value in zip(_LUMA, cv2.mean(image), strict=False))
    mean = (pending.scale + pending.gray) * gray + pending.offset
    return _Affine(factor, 0.0, (1 - factor) * round(mean) + _CUT)


def _turn_hue(image: Pixels, turns: float) -> Pixels:
    """In HSV of eight bits each, as torchvision: hue goes round at 256 by itself, a turn counts as 255 steps."""
    hsv = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL), np.uint8)
    height, width, _ = hsv.shape
    row = np.zeros(3 * width, np.uint8)  # adding whole rows is several times quicker than adding to every third value
    row[::3] = int(turns * 255) % 256
    flat = hsv.reshape(height, 3 * width)
    np.add(flat, row, out=flat)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL), np.uint8)
