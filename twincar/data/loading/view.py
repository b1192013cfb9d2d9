"""The part of a photo that training can show: the car's box, and what its edges may move over.

Shapes: h×w pixels of that part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from twincar.core.augmentation import AugmentConfig
from twincar.core.photos import Box, read_photo_bytes
from twincar.data.dataset import Annotation, clip_box
from twincar.data.loading.decode import decode_reduced
from twincar.data.loading.surroundings import Pixels


@dataclass(frozen=True)
class View:
    """A part of a photo, and the car's box in it."""

    photo_size: tuple[int, int]
    """Width and height of the photo, pixels."""
    window: Box
    """The part, in pixels of the photo."""
    box: Box
    """The crop of the data set, or all of the photo, in pixels of the part."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the part, pixels."""
        left, top, right, bottom = self.window
        return right - left, bottom - top

    @property
    def box_size(self) -> tuple[int, int]:
        """Width and height of the box, pixels."""
        left, top, right, bottom = self.box
        return right - left, bottom - top

    def decode(self, path: Path, shrink: float) -> Pixels:
        """Decode this part of a photo file, RGB, h×w×3, see `decode_reduced`.

        Raises:
            PhotoError: the photo cannot be read.
        """
        pixels = decode_reduced(read_photo_bytes(path), str(path), max(1.0, shrink))
        x, y = pixels.shape[1] / self.photo_size[0], pixels.shape[0] / self.photo_size[1]
        left, top, right, bottom = self.window
        left, top = min(round(left * x), pixels.shape[1] - 1), min(round(top * y), pixels.shape[0] - 1)
        return pixels[top : max(round(bottom * y), top + 1), left : max(round(right * x), left + 1)]


def view_of(annotation: Annotation, augment: AugmentConfig) -> View:
    """The part of a photo that a training with these strengths can show."""
    photo = 0, 0, annotation.width, annotation.height
    x1, y1, x2, y2 = annotation.crop or photo
    _, outwards = augment.box_jitter
    x, y = math.ceil(outwards * (x2 - x1)), math.ceil(outwards * (y2 - y1))
    window = clip_box((x1 - x, y1 - y, x2 + x, y2 + y), photo)
    left, top, *_ = window
    return View((annotation.width, annotation.height), window, (x1 - left, y1 - top, x2 - left, y2 - top))
