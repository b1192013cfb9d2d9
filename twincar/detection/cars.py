"""Cars found in a photo: their boxes, the main one, and where to cut."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_MOSTLY_WITHIN, _WITHIN = 0.85, 0.95  # least share of a part's area that lies within the box of its car
_AS_LARGE = 0.3  # least area of a part, as a share of that of its car; what is smaller is mostly a car far behind
_SURER = 1.25  # how many times as probable a car is at least as a part that is mostly within it; a part that is within
# its car is at most as many times as probable. Chosen on every other labelled street photo, where none of the 208 cars
# found is lost, and 8 of 14 second boxes of a car remain. See docs/detect.md for the others.


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
        return self.probability * math.sqrt(self.area)

    @property
    def area(self) -> float:
        """Of the box, square pixels."""
        return (self.right - self.left) * (self.bottom - self.top)

    def is_part_of(self, other: Car) -> bool:
        """Whether this box is only a part of another car: within its box, not much smaller, and not surer.

        A car that is seen behind another one is much smaller, or as probable and not quite within its box.
        """
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        within = max(width, 0) * max(height, 0)
        surer = 1 / _SURER if within >= _WITHIN * self.area else _SURER
        return (
            self.area >= _AS_LARGE * other.area
            and within >= _MOSTLY_WITHIN * self.area
            and other.probability >= surer * self.probability
        )


def without_parts(cars: Sequence[Car]) -> list[Car]:
    """The cars that are no part of a more prominent one, of cars with the most prominent first."""
    return [car for k, car in enumerate(cars) if not any(car.is_part_of(other) for other in cars[:k])]


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
