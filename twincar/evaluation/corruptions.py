"""Corrupted photos: seven of the corruptions of Hendrycks and Dietterich (2019), severity 1 to 5.

Their parameters are in pixels of photos with a short side of `SIDE` pixels. So `CorruptedViews` scales every photo to
that size, corrupts it, and then resizes it to the input of the network. The corruptions thus do not depend on the
network, and models of different input sizes can be compared. For a square input and a crop of 0.875, the photo before
corruption equals that of ImageNet-C in every pixel: the short side at 256, the centre of 224×224 cropped.

There are two differences from the published files: colours are rounded to the nearest value instead of down, and the
result is not compressed as a JPEG of quality 85.

Shapes: H×W pixels. Torch-free.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twincar.core.photos import encode_photo
from twincar.core.preprocess import Preprocessing

Pixels = NDArray[np.uint8]
"""RGB, H×W×3."""

SIDE = 224
"""Short side of the photos for which the parameters were chosen, pixels."""
SEVERITIES = (1, 2, 3, 4, 5)
_WATER, _MUD = np.array((175, 238, 238), np.float32), np.array((63, 42, 20), np.float32)
_EMBOSS = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], np.float32)


def corrupt(image: Pixels, corruption: str, severity: int, seed: int = 0) -> Pixels:
    """A corrupted copy, H×W×3; the same arguments give the same pixels.

    The random numbers do not depend on the severity: a higher one intensifies the same noise, streaks and drops.

    Args:
        image: RGB, H×W×3.
        corruption: a key of `CORRUPTIONS`.
        severity: 1 to 5.
        seed: seed of the noise, the direction of motion, and the drops.
    """
    rng = np.random.default_rng((seed, zlib.crc32(corruption.encode())))
    return CORRUPTIONS[corruption](image, severity, rng)


@dataclass(frozen=True, kw_only=True)
class CorruptedViews(Preprocessing):
    """Preprocessing whose views are the photo itself and its corruptions, in the order of `VERSIONS`."""

    def views(self, photo: Image.Image) -> list[Pixels]:
        """One input for each of `VERSIONS`, uint8, H×W×3; all are computed from the photo scaled to `SIDE`.

        The seed is derived from the content of the photo, so its corruptions do not depend on path or order.
        """
        scale = SIDE / min(self.height, self.width)
        fields = {"height": round(self.height * scale), "width": round(self.width * scale)}
        visible = Preprocessing(**fields, crop=self.crop, squash=self.squash)(photo)
        seed = zlib.crc32(visible.tobytes())
        corrupted = (corrupt(visible, name, severity, seed) for name, severity in VERSIONS[1:])
        return [self._input(visible), *map(self._input, corrupted)]

    def _input(self, pixels: Pixels) -> Pixels:
        return np.asarray(Image.fromarray(pixels).resize((self.width, self.height), Image.Resampling.BILINEAR))


def _gaussian_noise(image: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """As in low light."""
    deviation = 255 * (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1]
    return _to_pixels(image + np.float32(deviation) * rng.standard_normal(image.shape, np.float32))


def _impulse_noise(image: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Salt-and-pepper noise, independently in each channel."""
    share = (0.03, 0.06, 0.09, 0.17, 0.27)[severity - 1]
    drawn = rng.random(image.shape, np.float32)
    salted = np.where(drawn > 1 - share / 2, np.uint8(255), image)
    return np.where(drawn < share / 2, np.uint8(0), salted)


def _motion_blur(image: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """The camera moves in one direction during the exposure; the kernel is ImageMagick's, half of a Gaussian."""
    radius, deviation = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))[severity - 1]
    angle = np.radians(rng.uniform(-45, 45))
    steps = np.arange(2 * radius + 1)
    columns, rows = (np.rint(steps * along).astype(int) for along in (np.cos(angle), np.sin(angle)))
    rows -= rows.min()
    kernel = np.zeros((rows.max() + 1, columns.max() + 1), np.float32)
    np.add.at(kernel, (rows, columns), np.exp(-(steps**2) / (2 * deviation**2)))
    start = int(columns[0]), int(rows[0])
    blurred = cv2.filter2D(image, -1, kernel / kernel.sum(), anchor=start, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(blurred, np.uint8)


def _contrast(image: Pixels, severity: int, rng: np.random.Generator) -> Pixels:  # noqa: ARG001  # nothing random
    """As in fog: every channel is moved towards its mean."""
    kept = np.float32((0.4, 0.3, 0.2, 0.1, 0.05)[severity - 1])
    means = image.mean(axis=(0, 1), dtype=np.float32)
    return _to_pixels(means + kept * (image - means))


def _jpeg_compression(image: Pixels, severity: int, rng: np.random.Generator) -> Pixels:  # noqa: ARG001
    """Compressed too much."""
    stored = encode_photo(Image.fromarray(image), "JPEG", quality=(25, 18, 15, 10, 7)[severity - 1])
    return np.asarray(Image.open(io.BytesIO(stored)))


def _pixelate(image: Pixels, severity: int, rng: np.random.Generator) -> Pixels:  # noqa: ARG001
    """Enlarged from a thumbnail."""
    share = (0.6, 0.5, 0.4, 0.3, 0.25)[severity - 1]
    height, width = image.shape[:2]
    thumbnail = Image.fromarray(image).resize((int(width * share), int(height * share)), Image.Resampling.BOX)
    return np.asarray(thumbnail.resize((width, height), Image.Resampling.BOX))


def _spatter(image: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Drops on the lens, of water or, from severity 4 on, of mud, where blurred noise exceeds a threshold."""
    mean, deviation, size, threshold, finish = (
        (0.65, 0.3, 4, 0.69, 0.6),
        (0.65, 0.3, 3, 0.68, 0.6),
        (0.65, 0.3, 2, 0.68, 0.5),
        (0.65, 0.3, 1, 0.65, 1.5),
        (0.67, 0.4, 1, 0.65, 1.5),
    )[severity - 1]
    noise = rng.standard_normal(image.shape[:2], np.float32)
    liquid = _blurred(np.float32(mean) + np.float32(deviation) * noise, size)
    if severity < 4:
        liquid[liquid < threshold] = 0
        return _to_pixels(image + finish * _shine(liquid)[..., None] * _WATER)
    mud = _blurred((liquid > threshold).astype(np.float32), finish)
    mud[mud < 0.8] = 0
    return _to_pixels(image + mud[..., None] * (_MUD - image))


def _shine(liquid: NDArray[np.float32]) -> NDArray[np.float32]:
    """The light that drops reflect, 0 to 1, H×W: their rims, embossed by the distance to them."""
    depth = (255 * liquid).clip(0, 255).astype(np.uint8)
    to_rim = cv2.distanceTransform(255 - cv2.Canny(depth, 50, 150), cv2.DIST_L2, 5)
    relief = cv2.equalizeHist(cv2.blur(to_rim.clip(0, 20), (3, 3)).astype(np.uint8))
    embossed = cv2.blur(cv2.filter2D(relief, -1, _EMBOSS), (3, 3))
    light = depth * embossed.astype(np.float32)
    return np.asarray(light / max(1.0, light.max()), np.float32)


def _blurred(values: NDArray[np.float32], deviation: float) -> NDArray[np.float32]:
    """Gaussian blur truncated at four standard deviations, H×W."""
    size = 2 * int(4 * deviation + 0.5) + 1
    return np.asarray(cv2.GaussianBlur(values, (size, size), deviation, borderType=cv2.BORDER_REPLICATE))


def _to_pixels(values: NDArray[Any]) -> Pixels:
    return np.asarray(np.rint(values).clip(0, 255), np.uint8)


CORRUPTIONS: Mapping[str, Callable[[Pixels, int, np.random.Generator], Pixels]] = MappingProxyType(
    {
        "gaussian_noise": _gaussian_noise,
        "impulse_noise": _impulse_noise,
        "motion_blur": _motion_blur,
        "contrast": _contrast,
        "jpeg_compression": _jpeg_compression,
        "pixelate": _pixelate,
        "spatter": _spatter,
    }
)
"""The corruptions, named like the splits of the hub data set with its corrupted test photos."""

VERSIONS: tuple[tuple[str, int], ...] = (
    ("", 0),
    *((name, severity) for name in CORRUPTIONS for severity in SEVERITIES),
)
"""(corruption, severity) of every version of a photo; the first is the photo itself."""
