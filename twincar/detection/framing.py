"""Where to cut the cars out of a photo: the same for data sets, which are trained on, and for prediction."""

from __future__ import annotations

from PIL import Image

from twincar.core.photos import Box
from twincar.detection.cars import Car, cut_box
from twincar.detection.detector import Detector

_FILLING = 0.8  # least share of a photo that a car's box covers if the photo is of this car from edge to edge
_FILLING_THRESHOLD = 0.5  # least probability of such a car, as a share of the detector's threshold
_SURER = 1.4  # how many times as probable a smaller car is if such a box is only a frame around it, as black bars are
# A detector is less sure of a car without surroundings, and its boxes cut off parts of it. The first two were chosen on
# 1,200 training photos of Stanford Cars, cut to the car: the bundled detector found no car in 3 by its own threshold,
# in 1 at half of it; shares of 0.6 to 0.85 gave the same, one of 0.9 lost more. See docs/deploy.md for the test. Of 724
# validation photos that are such cuts, 24 have a smaller car that is surer, by at most 1.32 times.

_NARROWEST, _WIDEST = 0.6, 4.0  # width over height
_AT_EDGE = 0.01  # most distance of a box from the edge that it reaches, as a share of the photo's width or height
# Of 6,528 training photos of Stanford Cars, cut to the car, none is narrower or wider. An edge left 20%, 30%, 40%
# and 50% of 373 validation photos each: of the names of cars that were narrower 38 of 67 were wrong, of the others 39
# of 366, and in 95% the box ended within the distance from the edge. See docs/detect.md.


def frame_cars(detector: Detector, photo: Image.Image, margin: float) -> list[Box]:
    """The boxes to cut the cars out of an upright RGB photo, the most prominent first; empty if there is none.

    A photo that one car fills from edge to edge is taken whole, as that one car, unless a car within it is far surer.

    Args:
        detector: finds the cars.
        photo: the photo.
        margin: around each car, a share of its width and height on each side.
    """
    threshold = detector.header.threshold
    finds = detector.find_at(photo, [threshold, _FILLING_THRESHOLD * threshold])
    whole = [(0, 0, *photo.size)]
    found = next(finds)
    if not found:
        faint = next(finds)
        filling = next((car for car in faint if _share_of(photo, car) >= _FILLING), None)
        return whole if filling and not _is_frame(filling, faint) else []
    if _share_of(photo, found[0]) >= _FILLING:
        if not _is_frame(found[0], found):
            return whole
        found = found[1:]
    return [cut_box(car, photo.width, photo.height, margin) for car in found]


def is_cut_off(box: Box, photo_width: int, photo_height: int) -> bool:
    """Whether the photo's edge cuts off so much of a car that what is left has proportions that no whole car has.

    Its box reaches either the left or the right edge and is narrow, or either the top or the bottom and is wide. A box
    from edge to edge can be a photo that was cut to the car.
    """
    left, top, right, bottom = box
    proportion = (right - left) / (bottom - top)
    x, y = _AT_EDGE * photo_width, _AT_EDGE * photo_height
    beside = (left <= x) != (right >= photo_width - x)
    above_or_below = (top <= y) != (bottom >= photo_height - y)
    return (beside and proportion < _NARROWEST) or (above_or_below and proportion > _WIDEST)


def _is_frame(box: Car, cars: list[Car]) -> bool:
    """Whether a box around the photo is only a frame around a car within that is far surer."""
    return any(car.probability >= _SURER * box.probability for car in cars)


def _share_of(photo: Image.Image, car: Car) -> float:
    return (car.right - car.left) * (car.bottom - car.top) / (photo.width * photo.height)
