"""What is answered for a photo: the likeliest classes, what can be said at which level, where the model looked.

Shapes: a feature map of h×w cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from twincar.core.errors import PhotoError
from twincar.core.labels import CarName
from twincar.core.user_files import as_text, text_name

Reason = Literal["", "not sure", "not a car this model knows", "not calibrated"]
"""Why there is no answer; empty if there is one.

A model that is 'not calibrated', such as published weights, accepts nothing: how probable its likeliest classes really
are is not known, and it cannot tell whether a photo shows any of them.
"""


@dataclass(frozen=True)
class Candidate:
    """One possible answer."""

    name: str
    """Class name."""
    probability: float
    car: CarName
    """Make, model, body, year."""


@dataclass(frozen=True)
class LevelAnswer:
    """What can be said of a car at one level, such as its make."""

    level: str
    """'class', 'model and body', 'model', 'make and body', 'make', 'body' or 'year'."""
    name: str
    """What all cars of that level's group share, such as 'BMW Sedan'."""
    probability: float
    """The sum over those cars, calibrated."""
    alternatives: tuple[str, ...] = ()
    """Classes of that group that it may be, the likeliest first; empty if the answer is a class itself."""


@dataclass(frozen=True)
class Prediction:
    """The answer for one photo."""

    photo: str
    """Path of the photo, or what it is where it has none."""
    topk: tuple[Candidate, ...]
    """The likeliest classes, the likeliest first."""
    answer: LevelAnswer | None
    """The most specific level that is probable enough; None if none is, or if the car is not a known one."""
    levels: tuple[LevelAnswer, ...]
    """The likeliest make, model, body and year, each for itself, where class names tell them."""
    reason: Reason
    """Why there is no answer; empty if there is one."""

    @property
    def accepted(self) -> bool:
        """Whether there is an answer."""
        return self.answer is not None

    @property
    def top1(self) -> Candidate:
        """The likeliest class."""
        return self.topk[0]

    @property
    def confidence(self) -> float:
        """Probability of the likeliest class."""
        return self.top1.probability

    @property
    def make(self) -> str:
        """Of the likeliest class."""
        return self.top1.car.make

    @property
    def model(self) -> str:
        """Of the likeliest class."""
        return self.top1.car.model

    @property
    def body(self) -> str:
        """Of the likeliest class; empty where its name does not tell."""
        return self.top1.car.body

    @property
    def year(self) -> int | None:
        """Of the likeliest class; None where its name does not tell."""
        return self.top1.car.year

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        answer = self.answer
        return {
            "photo": text_name(self.photo),
            "accepted": self.accepted,
            "reason": self.reason,
            "answer": answer.name if answer else "",
            "level": answer.level if answer else "",
            "level_probability": round(answer.probability, 6) if answer else None,
            "alternatives": list(answer.alternatives) if answer else [],
            "class_name": self.top1.name,
            "confidence": round(self.confidence, 6),
            "make": self.make,
            "model": self.model,
            "body": self.body,
            "year": self.year,
            "levels": {found.level: [found.name, round(found.probability, 6)] for found in self.levels},
            "topk": [{"class_name": c.name, "probability": round(c.probability, 6)} for c in self.topk],
        }


@dataclass(frozen=True)
class Explanation:
    """The answer for one photo, and where the model looked."""

    prediction: Prediction
    target: str
    """Name of the class that is explained."""
    heatmap: NDArray[np.float32]
    """What speaks for it, h×w cells of the feature map, from 0 to 1."""
    visible_box: tuple[float, float, float, float]
    """The part of the photo that the cells cover: left, top, right, bottom, pixels of the upright photo."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON: those of the answer, and `explanation` beside them."""
        explanation = {
            "target": self.target,
            "heatmap": [[round(float(cell), 4) for cell in row] for row in self.heatmap],
            "visible_box": [round(edge, 1) for edge in self.visible_box],
        }
        return {**self.prediction.to_dict(), "explanation": explanation}


@dataclass(frozen=True)
class Failure:
    """A photo without an answer."""

    photo: str
    error: PhotoError

    @property
    def accepted(self) -> bool:
        """False: there is no answer."""
        return False

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"photo": text_name(self.photo), "error": as_text(str(self.error))}


def flat_row(answer: Prediction | Failure) -> dict[str, Any]:
    """One CSV row: the candidates after the first become numbered columns."""
    row = answer.to_dict()
    for place, candidate in enumerate(row.pop("topk", [])[1:], start=2):
        row |= {f"{name}{place}": value for name, value in candidate.items()}
    return row
