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
    found = next(finds) or [car for car in next(finds) if _share_of(photo, car) >= _FILLING]
    if found and _share_of(photo, found[0]) >= _FILLING:
        if not any(car.probability >= _SURER * found[0].probability for car in found):
            return [(0, 0, *photo.size)]
        found = found[1:]
    return [cut_box(car, photo.width, photo.height, margin) for car in found]


def _share_of(photo: Image.Image, car: Car) -> float:
    return (car.right - car.left) * (car.bottom - car.top) / (photo.width * photo.height)
