"""Where the car is in each photo of a source: at the source's box, or where the detector finds it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from twincar.core.files import sha256_of_file
from twincar.core.options import Crop
from twincar.core.photos import Box
from twincar.data.boxes import MIN_SIDE, BoxFault
from twincar.data.validate import Inspect
from twincar.detection import Car, Detector, cut_box, load_detector
from twincar.detection.detector import BUNDLED
from twincar.detection.framing import frame_cars

_LEAST_SURE = 0.5  # of the detector's threshold: a person has said that there is a car
_LEAST_IOU = 0.3  # of a box with a car that is found, to hold it; boxes of people are loose


@dataclass(frozen=True)
class BoxCropper:
    """Cuts photos to the boxes of their source; a photo without a box is kept whole."""

    margin: float
    """Around the box, a share of its width and height on each side."""

    def __call__(self, photo: Image.Image, box: Box | None) -> Box | BoxFault | None:
        """The part to cut out; see `Inspect`."""
        if box is None:
            return None
        left, top, right, bottom = box
        return cut_box(Car(left, top, right, bottom, 1.0), photo.width, photo.height, self.margin)


@dataclass(frozen=True)
class DetectedCropper:
    """Cuts photos to their main car; a photo in which none is found is kept whole."""

    detector: Detector
    margin: float
    """As in `BoxCropper`."""

    def __call__(self, photo: Image.Image, box: Box | None) -> Box | BoxFault | None:  # noqa: ARG002  # as `Inspect`
        """The part to cut out; see `Inspect`."""
        boxes = frame_cars(self.detector, photo, self.margin)
        return next((box for box in boxes if min(box[2] - box[0], box[3] - box[1]) >= MIN_SIDE), BoxFault.NO_CAR)


@dataclass(frozen=True)
class CarChecker:
    """Looks whether there is a car in the box of a photo, or in a photo without one; nothing is cut."""

    detector: Detector

    def __call__(self, photo: Image.Image, box: Box | None) -> Box | BoxFault | None:
        """What is wrong with the box; see `Inspect`."""
        cars = self.detector.find(photo, threshold=_LEAST_SURE * self.detector.header.threshold)
        held = any(box is None or _iou(box, car) >= _LEAST_IOU for car in cars)
        return None if held else BoxFault.NO_CAR


def open_cropper(crop: Crop, margin: float, detector: Path | None) -> Inspect | None:
    """What cuts the photos of a data set; None if they stay as they are.

    Raises:
        UsageError, CheckpointError: the detector cannot be opened; see `load_detector`.
    """
    if crop == "detect":
        return DetectedCropper(load_detector(detector), margin)
    return BoxCropper(margin) if crop == "box" else None


def open_car_checker(detector: Path | None = None) -> Inspect:
    """What looks for a car in every box.

    Raises:
        UsageError, CheckpointError: the detector cannot be opened; see `load_detector`.
    """
    return CarChecker(load_detector(detector))


def digest_of_detector(detector: Path | None) -> str:
    """A hash by which the data sets of two detectors differ."""
    return sha256_of_file(detector or BUNDLED)[:16]


def _iou(box: Box, car: Car) -> float:
    """Intersection over union of a box and a car."""
    width = min(box[2], car.right) - max(box[0], car.left)
    height = min(box[3], car.bottom) - max(box[1], car.top)
    shared = max(0.0, width) * max(0.0, height)
    areas = (box[2] - box[0]) * (box[3] - box[1]) + (car.right - car.left) * (car.bottom - car.top)
    return shared / (areas - shared)
