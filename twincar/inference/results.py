"""The results of prediction: the most likely classes, the answer and its level, and the heatmap.

Shapes: a feature map of h×w cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twincar.core.errors import PhotoError
from twincar.core.labels import CarName
from twincar.core.photos import Box, Photo, read_photo
from twincar.core.user_files import as_text, text_name
from twincar.models.cam.overlay import heat_overlay

BOX_COLUMNS = ("left", "top", "right", "bottom")
"""The box in tables."""
_OF_PHOTO = ("photo", "car_count")


class Status(StrEnum):
    """What came of a car or of a photo; the values are shown to people and appear in tables and JSON."""

    NAMED = "named"
    """The answer is a class: make, model, body and year."""
    NAMED_IN_PART = "named in part"
    """The answer is a group of classes, such as a make."""
    NOT_SURE = "not sure"
    """No level is probable enough."""
    CUT_OFF = "cut off"
    """The edge of the photo cuts off most of the car."""
    UNKNOWN_CAR = "unknown car"
    """The car was rejected as unlike those that the model knows."""
    TOO_SMALL = "too small"
    """The car, or the photo, has fewer pixels than `Preprocessing.least_side` on its shorter side."""
    NO_CAR = "no car found"
    """The detector found no car in the photo."""
    NOT_CALIBRATED = "not calibrated"
    """The model, such as third-party weights, has no calibration, so that its probabilities are not reliable."""
    UNREADABLE = "unreadable"
    """The photo could not be read."""

    @property
    def rejects(self) -> bool:
        """Whether the car, or the whole photo, was rejected, so that not even its make is reported."""
        return self in (Status.TOO_SMALL, Status.CUT_OFF, Status.UNKNOWN_CAR, Status.NO_CAR)


@dataclass(frozen=True)
class Candidate:
    """One of the most likely classes."""

    name: str
    """Class name."""
    probability: float
    car: CarName
    """Make, model, body and year."""


@dataclass(frozen=True)
class LevelAnswer:
    """The most likely group of classes at one level, such as a make."""

    level: str
    """'class', 'model and body', 'model', 'make and body', 'make', 'body' or 'year'."""
    name: str
    """What all classes of the group share, such as 'BMW Sedan'."""
    probability: float
    """The sum of the calibrated probabilities of these classes."""
    car: CarName
    """Make, model, body and year, as far as the level says them; the others are empty."""
    alternatives: tuple[str, ...] = ()
    """The most likely classes of the group, most likely first; empty if the level is the class itself."""


@dataclass(frozen=True, repr=False)
class Prediction:
    """The prediction for one car in a photo, or for the whole photo.

    `make`, `model`, `body`, `year` and `confidence` are those of the answer: as specific as its level, and empty or
    None without an answer. What the model thinks without being sure enough is in `topk` and `levels` only.
    """

    photo: str
    """Path of the photo, or a description if it has none."""
    topk: tuple[Candidate, ...]
    """The most likely classes, most likely first, whether or not there is an answer; empty if no car was found."""
    answer: LevelAnswer | None
    """The most specific level that is probable enough; None if there is none, or if the car was rejected."""
    levels: tuple[LevelAnswer, ...]
    """The most likely make, model, body and year, independently of each other, as far as class names contain them;
    empty if the car was rejected."""
    status: Status
    """Whether the car is named, or why not."""
    box: Box | None = None
    """The part of the photo that was cut out for this car; None if the whole photo was taken."""
    car: int | None = 1
    """The number of the car in the photo, from 1; the most prominent car comes first. None if no car was found."""
    car_count: int = 1
    """How many cars were found in the photo; 1 if the photo was taken whole without looking for cars."""

    def __repr__(self) -> str:
        """A line: the car and how sure the answer is, or why there is none and what is most likely."""
        if self.answer is not None:
            return f"<Prediction {self.answer.name!r} {self.answer.probability:.1%}, {self.photo!r}>"
        likely = f", most likely {self.topk[0].name!r} {self.topk[0].probability:.1%}" if self.topk else ""
        return f"<Prediction {self.status}{likely}, {self.photo!r}>"

    @property
    def top1(self) -> Candidate | None:
        """The most likely class, whether or not it is the answer; None if no car was found."""
        return self.topk[0] if self.topk else None

    @property
    def confidence(self) -> float | None:
        """Calibrated probability of the answer; None without one."""
        return self.answer.probability if self.answer else None

    @property
    def make(self) -> str:
        """Make of the car; empty without an answer, or if its level leaves it open."""
        return self._named.make

    @property
    def model(self) -> str:
        """Model of the car; empty without an answer, or if its level leaves it open."""
        return self._named.model

    @property
    def body(self) -> str:
        """Body of the car; empty without an answer, or if its level leaves it open."""
        return self._named.body

    @property
    def year(self) -> int | None:
        """Model year of the car; None without an answer, or if its level leaves it open."""
        return self._named.year

    @property
    def _named(self) -> CarName:
        return self.answer.car if self.answer else CarName(make="")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        answer = self.answer
        return {
            "photo": text_name(self.photo),
            "car": self.car,
            "car_count": self.car_count,
            "status": str(self.status),
            "answer": answer.name if answer else "",
            "level": answer.level if answer else "",
            "confidence": round(answer.probability, 6) if answer else None,
            "make": self.make,
            "model": self.model,
            "body": self.body,
            "year": self.year,
            "alternatives": list(answer.alternatives) if answer else [],
            "box": list(self.box) if self.box else None,
            "levels": {found.level: [found.name, round(found.probability, 6)] for found in self.levels},
            "topk": [{"class_name": c.name, "probability": round(c.probability, 6)} for c in self.topk],
        }


@dataclass(frozen=True)
class Explanation:
    """The prediction for one photo, with a heatmap for one class."""

    prediction: Prediction
    target: str
    """Name of the class that is explained."""
    heatmap: NDArray[np.float32]
    """Grad-CAM++ for the target, from 0 to 1, on the h×w cells of the feature map."""
    visible_box: tuple[float, float, float, float]
    """The part of the photo that the heatmap covers: left, top, right, bottom, pixels of the upright photo."""

    def overlay(self, photo: Photo) -> Image.Image:
        """The photo with the heatmap over it: yellow is the strongest evidence; what the network did not see is dark.

        Args:
            photo: the one that was explained: path, bytes, PIL image or uint8 array (height×width×3).

        Raises:
            PhotoError: the photo cannot be read.
        """
        pixels = np.asarray(read_photo(photo))
        return Image.fromarray(heat_overlay(pixels, self.heatmap, self.visible_box))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON: those of the prediction, and `explanation`."""
        explanation = {
            "target": self.target,
            "heatmap": [[round(float(cell), 4) for cell in row] for row in self.heatmap],
            "visible_box": [round(edge, 1) for edge in self.visible_box],
        }
        return {**self.prediction.to_dict(), "explanation": explanation}


@dataclass(frozen=True)
class Failure:
    """A photo that could not be read."""

    photo: str
    error: PhotoError

    @property
    def status(self) -> Status:
        """Always 'unreadable'."""
        return Status.UNREADABLE

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"photo": text_name(self.photo), "status": str(self.status), "error": as_text(str(self.error))}


def by_photo(predictions: Iterable[Prediction | Failure]) -> Iterator[list[Prediction] | Failure]:
    """Group predictions in the order of photos: the cars of each photo, or its failure.

    A photo without a car is a list of one prediction. A photo is complete when the next one begins.
    """
    cars: list[Prediction] = []
    for prediction in predictions:
        if cars and (isinstance(prediction, Failure) or prediction.car in (None, 1)):
            yield cars
            cars = []
        if isinstance(prediction, Failure):
            yield prediction
        else:
            cars.append(prediction)
    if cars:
        yield cars


def photo_dict(cars: Sequence[Prediction | Explanation]) -> dict[str, Any]:
    """Plain values, for JSON: those of the photo's main car, and `cars`, the list of all; empty if none was found."""
    each = [car.to_dict() for car in cars]
    found = [car for car in each if car["car"] is not None]
    return each[0] | {"cars": [{name: car[name] for name in car if name not in _OF_PHOTO} for car in found]}


def table_row(prediction: Prediction | Failure) -> dict[str, Any]:
    """One row of a table, by the names of `table_columns`; those that are missing are empty."""
    row = prediction.to_dict()
    row |= dict(zip(BOX_COLUMNS, row.pop("box", None) or (None,) * 4, strict=True))
    for rank, candidate in enumerate(row.pop("topk", []), start=1):
        row |= {f"class_{rank}": candidate["class_name"], f"probability_{rank}": candidate["probability"]}
    return row


def table_columns(top_k: int) -> list[str]:
    """The columns of a table of `table_row`s with `top_k` candidates, in their order."""
    columns = ["photo", "car", "car_count", "status", "answer", "level", "confidence", "make", "model", "body", "year"]
    columns += ["alternatives", *BOX_COLUMNS]
    columns += [f"{name}_{rank}" for rank in range(1, top_k + 1) for name in ("class", "probability")]
    return [*columns, "error"]
