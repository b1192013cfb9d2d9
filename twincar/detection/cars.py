"""Cars found in a photo: their boxes, the main one, and where to cut."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Car:
    """A car in a photo; its box is in pixels of the upright photo, from 0 to its width and height."""

    left: float
    top: float
    right: float
    bottom: float
    probability: float
    """The detector's, 0 to 1."""
    kind: str = "car"
    """The detector's class."""

    @property
    def prominence(self) -> float:
        """Probability × √area, by which the main car of a photo is chosen."""
        return self.probability * math.sqrt((self.right - self.left) * (self.bottom - self.top))


def main_car(cars: Sequence[Car]) -> Car | None:
    """The most prominent car, or None if there is none."""
    return max(cars, key=lambda car: car.prominence, default=None)


def cut_box(car: Car, width: int, height: int, margin: float) -> tuple[int, int, int, int]:
    """Left, top, right, bottom, in whole pixels, to cut a car out of a width×height photo.

    The box grows by `margin`, a share of its own width and height, on each side, and is clipped to the photo. It has at
    least one pixel.
    """
    x, y = margin * (car.right - car.left), margin * (car.bottom - car.top)
    left, top = min(max(math.floor(car.left - x), 0), width - 1), min(max(math.floor(car.top - y), 0), height - 1)
    right, bottom = min(math.ceil(car.right + x), width), min(math.ceil(car.bottom + y), height)
    return left, top, max(right, left + 1), max(bottom, top + 1)
