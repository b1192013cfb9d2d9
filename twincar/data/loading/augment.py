"""Augmentation of the training photos: loose box, random crop, flip, rotation, colour, blur and low quality.

The distributions are those of torchvision's RandomResizedCrop, RandomHorizontalFlip, RandomRotation, ColorJitter and
RandomApply(GaussianBlur(3)), in that order, so that the strengths of a published recipe have the same meaning here. The
pixels are processed by OpenCV, as `uint8`. Sampling the parameters (`AugmentParams`) is separate from applying them, so
that tests can compare both with torchvision, and a sample depends only on its random generator.

TrivialAugment, if it is configured, is torchvision's own.

Crop and scale are one antialiased resize, close to Pillow's; flip and rotation sample nearest neighbours once, as in
torchvision's rotation. For a photo that `fit_photo` has prepared for all its crops, as in the cache, all four are that
one step.

With `box_jitter` the random crop is taken from a box whose edges have moved, each on its own. What it shows is the
photo where there is one, and made up beyond it (`surroundings.py`).

Shapes: H×W is the output, h×w the photo.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from twincar.core.augmentation import AugmentConfig
from twincar.core.photos import Box
from twincar.data.loading.color import jitter_color
from twincar.data.loading.surroundings import FILLS, Fill, Pixels, crop_beyond

Size = tuple[int, int]
"""Width and height, pixels."""

_BLUR_SIGMA = (0.1, 2.0)  # torchvision's default range, pixels
_CROP_ATTEMPTS = 10  # as in torchvision, before falling back to the largest centre crop that fits
_LEAST_SCALE = 0.4  # of the output's sides, for a photo of low quality
_JPEG_QUALITY = (20, 95)
_NUMBERS = 4 * _CROP_ATTEMPTS + 22  # most uniform numbers that one sample needs
_FIT_RANGE = 1.5  # largest ratio of widest to narrowest crop for one fitted photo; beyond it, small crops would blur
_MARGIN = 1.1  # smooth for a crop this much larger: nearest neighbour leaves up to 16% more of a wave than Pillow
_TAPER = 0.35  # the smallest smoothing that leaves no more aliasing than Pillow at every scale that is tested


@dataclass(frozen=True, kw_only=True)
class AugmentParams:
    """Sampled parameters of the augmentation of one photo."""

    left: int
    """Crop in pixels of the photo, with `top`, `width` and `height`; it may reach beyond the photo if `fill` is set."""
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
    """Seed of TrivialAugment; None is without it."""
    fill: Fill | None = None
    """What the crop shows beyond the photo; None for a crop in it, whose corners are black after a rotation."""
    fill_seed: int = 0
    scale: float = 1.0
    """Resolution that is left, as a share of the output's sides."""
    jpeg_quality: int | None = None
    """Quality of the JPEG compression at that resolution; None is without it."""


def sample_params(
    config: AugmentConfig, rng: np.random.Generator, width: int, height: int, box: Box | None = None
) -> AugmentParams:
    """Sample the parameters for a photo of width×height pixels, of which `box` is to be shown; None is all of it."""
    stream = _UniformStream(rng)
    jittered = any(config.box_jitter)
    box = box or (0, 0, width, height)
    x1, y1, x2, y2 = _jitter_box(config.box_jitter, stream, box) if jittered else box
    left, top, crop_width, crop_height = _sample_crop(config, stream, x2 - x1, y2 - y1)
    sampled = AugmentParams(
        left=x1 + left,
        top=y1 + top,
        width=crop_width,
        height=crop_height,
        mirrored=stream.uniform(0, 1) < config.flip,
        angle=stream.uniform(-config.rotation, config.rotation),
        jitter=_sample_jitter(config, stream),
        blur_sigma=stream.uniform(*_BLUR_SIGMA) if stream.uniform(0, 1) < config.blur else 0.0,
        trivial_seed=stream.integer(2**31) if config.trivial_augment else None,
        fill=FILLS[stream.integer(len(FILLS) - 1)] if jittered else None,
        fill_seed=stream.integer(2**31) if jittered else 0,
    )
    if stream.uniform(0, 1) >= config.low_quality:
        return sampled
    quality = round(stream.uniform(*_JPEG_QUALITY))
    return replace(sampled, scale=stream.uniform(_LEAST_SCALE, 1), jpeg_quality=quality)


def augment_photo(params: AugmentParams, photo: Pixels, *, full: Size, height: int, width: int) -> Pixels:
    """Make the training input, H×W×3, from a decoded RGB photo, h×w×3.

    Args:
        params: the sampled parameters.
        photo: the photo; it may have been decoded at a reduced size.
        full: the full size of the photo, for which `params` was sampled.
        height: H, pixels.
        width: W, pixels.
    """
    return _finish(params, _rotate(params, _resize(_crop(photo, params, full), height, width), height, width))


def augment_fitted(params: AugmentParams, photo: Pixels, *, full: Size, height: int, width: int) -> Pixels:
    """As `augment_photo`, for a photo that `fit_photo` has resized and smoothed already."""
    return _finish(params, _rotate(params, _crop(photo, params, full), height, width))


@dataclass(frozen=True)
class Fit:
    """How a photo must be resized for `augment_fitted`: sampled for its smallest crop, smoothed for its largest."""

    width: int
    """Width in pixels at which the narrowest crop is as wide as the network's input."""
    height: int
    """Height in pixels at which the lowest crop is as high as the network's input."""
    reach_x: float
    """Half width of Pillow's triangle filter in resizing the widest crop, pixels of the fitted photo."""
    reach_y: float


def fit_of(config: AugmentConfig, full: Size, box: Size | None = None, *, height: int, width: int) -> Fit | None:
    """How to fit a photo; None if its crops differ too much in size for one fitted photo.

    Args:
        config: the strengths.
        full: size of the photo.
        box: size of the part of it that is to be shown; None is all of it.
        height: H, pixels.
        width: W, pixels.
    """
    narrowest, widest, lowest, highest = _crop_range(config, box or full)
    if widest > _FIT_RANGE * narrowest or highest > _FIT_RANGE * lowest:
        return None
    return Fit(
        max(1, round(full[0] * width / narrowest)),
        max(1, round(full[1] * height / lowest)),
        max(_MARGIN * widest, width) / narrowest,
        max(_MARGIN * highest, height) / lowest,
    )


def fit_photo(photo: Pixels, fit: Fit) -> Pixels:
    """Resize an RGB photo, h×w×3, as `fit` says; it may have been decoded at a reduced size."""
    rows = _triangles(photo.shape[0], fit.height, fit.reach_y)
    columns = _triangles(photo.shape[1], fit.width, fit.reach_x)
    resized = np.tensordot(columns, np.tensordot(rows, photo.astype(np.float32), (1, 0)), (1, 1))
    return np.ascontiguousarray(np.rint(resized.transpose(1, 0, 2)).astype(np.uint8))


def _triangles(old: int, new: int, reach: float) -> NDArray[np.float32]:
    """Weights, new×old, of a resize like Pillow's BILINEAR, with triangles of this half width in new pixels."""
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    reach_old = max(1.0, reach * old / new)
    weights = np.maximum(0, 1 - abs(np.arange(old) - centres[:, None]) / reach_old)
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)


class _UniformStream:
    """A stream of uniform numbers, drawn all at once: one call of the generator for each would cost more time."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.numbers = iter(rng.random(_NUMBERS).tolist())

    def uniform(self, low: float, high: float) -> float:
        return float(low + (high - low) * next(self.numbers))

    def integer(self, high: int) -> int:
        """From 0 to `high`, both included."""
        return int(next(self.numbers) * (high + 1))


def _jitter_box(jitter: tuple[float, float], stream: _UniformStream, box: Box) -> Box:
    """Move each edge of a box by up to `jitter`, inwards and outwards, as shares of its side."""
    x1, y1, x2, y2 = box
    inwards, outwards = jitter
    left, right = (stream.uniform(-inwards, outwards) * (x2 - x1) for _ in range(2))
    top, bottom = (stream.uniform(-inwards, outwards) * (y2 - y1) for _ in range(2))
    x1, y1 = round(x1 - left), round(y1 - top)
    return x1, y1, max(x1 + 1, round(x2 + right)), max(y1 + 1, round(y2 + bottom))


def _sample_crop(config: AugmentConfig, stream: _UniformStream, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, width, height; area and logarithm of the aspect ratio are uniform."""
    low, high = config.crop_ratio
    for _ in range(_CROP_ATTEMPTS):
        area = width * height * stream.uniform(*config.crop_scale)
        ratio = math.exp(stream.uniform(math.log(low), math.log(high)))
        crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            return stream.integer(width - crop_width), stream.integer(height - crop_height), crop_width, crop_height
    crop_width, crop_height = width, height
    if width / height < low:
        crop_height = round(width / low)
    elif width / height > high:
        crop_width = round(height * high)
    return (width - crop_width) // 2, (height - crop_height) // 2, crop_width, crop_height


def _crop_range(config: AugmentConfig, box: Size) -> tuple[float, float, float, float]:
    """Width of the narrowest and widest, height of the lowest and highest crop that can be sampled for a box."""
    low, high = config.crop_ratio
    inwards, outwards = config.box_jitter
    width, height = (side * (1 + 2 * outwards) for side in box)
    widest, highest = min(width, height * high), min(height, width / low)
    width, height = (side * (1 - 2 * inwards) for side in box)
    smallest = config.crop_scale[0] * width * height
    narrowest = min(width, height * high, max(math.sqrt(smallest * low), smallest / height))
    lowest = min(height, width / low, max(math.sqrt(smallest / high), smallest / width))
    return max(1.0, narrowest), max(1.0, widest), max(1.0, lowest), max(1.0, highest)


def _sample_jitter(config: AugmentConfig, stream: _UniformStream) -> tuple[tuple[str, float], ...]:
    strengths = {"brightness": config.brightness, "contrast": config.contrast, "saturation": config.saturation}
    values = {name: stream.uniform(max(0.0, 1 - strength), 1 + strength) for name, strength in strengths.items()}
    values["hue"] = stream.uniform(-config.hue, config.hue)
    strengths["hue"] = config.hue
    order = sorted(values, key=lambda _: stream.uniform(0, 1))
    return tuple((name, values[name]) for name in order if strengths[name])


def _crop(photo: Pixels, params: AugmentParams, full: Size) -> Pixels:
    """The sampled crop of the photo, rounded to whole pixels of the photo as it was decoded."""
    x, y = photo.shape[1] / full[0], photo.shape[0] / full[1]
    left = min(photo.shape[1] - 1, round(params.left * x))
    top = min(photo.shape[0] - 1, round(params.top * y))
    right = max(left + 1, 1, round((params.left + params.width) * x))
    bottom = max(top + 1, 1, round((params.top + params.height) * y))
    if params.fill is None:
        return photo[top:bottom, left:right]
    return crop_beyond(photo, (left, top, right, bottom), params.fill, params.fill_seed)


def _resize(crop: Pixels, height: int, width: int) -> Pixels:
    """Enlarge linearly; shrink with no more aliasing than Pillow's BILINEAR, which is antialiased.

    Down to half the size, three taps of smoothing and linear interpolation are twice as fast as Pillow's triangles.
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
    """Three taps that, followed by linear interpolation, are as wide as Pillow's triangle at a shrink factor of 2.

    Below 2 they are slightly wider than the triangle, because three taps stop less above the Nyquist frequency.
    """
    side = max(0.0, shrink - 1) ** _TAPER / 4
    return np.array([side, 1 - 2 * side, side], np.float32)


def _rotate(params: AugmentParams, crop: Pixels, height: int, width: int) -> Pixels:
    """Flip and rotate about the centre, and scale to H×W."""
    if not params.angle:
        resized = np.asarray(cv2.resize(crop, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
        return np.asarray(cv2.flip(resized, 1), np.uint8) if params.mirrored else resized
    # The source position in the crop of each output pixel, in coordinates of pixel centres.
    x, y = crop.shape[1] / width, crop.shape[0] / height
    cosine, sine = math.cos(math.radians(params.angle)), math.sin(math.radians(params.angle))
    side = -1 if params.mirrored else 1
    linear = np.array([[side * x * cosine, -side * x * sine], [y * sine, y * cosine]])
    centre = np.array([(crop.shape[1] - 1) / 2, (crop.shape[0] - 1) / 2])
    offset = centre - linear @ np.array([(width - 1) / 2, (height - 1) / 2])
    source = np.hstack([linear, offset[:, None]])
    # Moving four bytes as one number is a third faster than moving three, both conversions included.
    pixels = np.asarray(cv2.cvtColor(crop, cv2.COLOR_RGB2RGBA)).view(np.float32)[..., 0]
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    corners = cv2.BORDER_CONSTANT if params.fill is None else cv2.BORDER_REFLECT_101  # torchvision's are black
    picked = np.asarray(cv2.warpAffine(pixels, source, (width, height), flags=flags, borderMode=corners))
    return np.asarray(cv2.cvtColor(picked[..., None].view(np.uint8), cv2.COLOR_RGBA2RGB), np.uint8)


def _finish(params: AugmentParams, image: Pixels) -> Pixels:
    """Apply colour jitter, blur, TrivialAugment and low quality."""
    image = jitter_color(image, params.jitter)
    if params.blur_sigma:
        image = np.asarray(cv2.GaussianBlur(image, (3, 3), params.blur_sigma), np.uint8)
    if params.trivial_seed is not None:
        image = _apply_trivial_augment(image, params.trivial_seed)
    if params.jpeg_quality is not None:
        image = _lower_quality(image, params.scale, params.jpeg_quality)
    return np.ascontiguousarray(image)


def _lower_quality(image: Pixels, scale: float, jpeg_quality: int) -> Pixels:
    """Shrink an RGB image to `scale` of its sides, compress it as JPEG, and enlarge it again."""
    height, width = image.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR)
    _, file = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality])
    decoded = np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR), np.uint8)
    enlarged = cv2.resize(decoded, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.cvtColor(enlarged, cv2.COLOR_BGR2RGB), np.uint8)


def _apply_trivial_augment(image: Pixels, seed: int) -> Pixels:
    """Apply torchvision's TrivialAugment, which uses torch's global generator; its state is restored."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        planes = _trivial_augment()(torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1))
    return np.asarray(planes.permute(1, 2, 0).numpy(), np.uint8)


@cache
def _trivial_augment() -> Callable[[torch.Tensor], torch.Tensor]:
    from torchvision.transforms import v2  # deferred: the import takes a second, and most runs do not need it

    transform: Callable[[torch.Tensor], torch.Tensor] = v2.TrivialAugmentWide()
    return transform
