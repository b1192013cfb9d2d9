"""Taxonomy levels such as make or body: groups of classes, whose probabilities are summed; torch-free.

The answer is the most specific level whose probability is high enough: 'BMW Sedan' and right is better than a model
year and wrong. Sums over one set of probabilities are consistent: a make is at least as probable as its models.

Shapes: N photos, K classes, G groups of classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from twincar.core.labels import CarName, ClassNames

Floats = NDArray[np.float32]

_PARTS = {
    "model and body": ("make", "model", "body"),
    "model": ("make", "model"),
    "make and body": ("make", "body"),
    "make": ("make",),
    "body": ("body",),
    "year": ("year",),
}
LevelName = Literal["class", "model and body", "model", "make and body", "make", "body", "year"]
"""The levels."""
CLASS: LevelName = "class"
"""The most specific level: the class itself."""
ANSWERED: tuple[LevelName, ...] = (CLASS, "model and body", "model", "make and body", "make", "body")
"""Levels that an answer may have, most specific first."""
SINGLE = ("make", "model", "body", "year")
"""Levels that are reported separately in every prediction."""


@dataclass(frozen=True)
class Level:
    """The classes, grouped by some parts of their names."""

    name: str
    groups: tuple[str, ...]
    """What all classes of a group share, such as 'BMW Sedan'; empty for classes whose names lack these parts."""
    group_of: NDArray[np.int64]
    """The index of the group of each class, K."""

    def sums(self, probabilities: Floats) -> Floats:
        """Probabilities of the groups, N×G, from those of the classes, N×K."""
        order, starts = self._by_group
        sums: Floats = np.add.reduceat(probabilities[:, order], starts, axis=1)
        return sums

    def most_likely(self, probabilities: Floats) -> tuple[NDArray[np.int64], Floats]:
        """The most likely group with a name of each photo, N, and its probability, N; 0 if no group has a name."""
        sums = np.where(self._named, self.sums(probabilities), 0)
        best = sums.argmax(axis=1)
        return best, np.take_along_axis(sums, best[:, None], axis=1)[:, 0]

    @cached_property
    def _named(self) -> NDArray[np.bool_]:
        return np.array([bool(group) for group in self.groups])

    @cached_property
    def _by_group(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        order = np.argsort(self.group_of, kind="stable")
        return order, np.searchsorted(self.group_of[order], np.arange(len(self.groups)))


def levels_of(classes: ClassNames) -> dict[str, Level]:
    """Every level of a set of classes, by name."""
    levels: dict[str, Level] = {CLASS: Level(CLASS, classes.names, np.arange(len(classes)))}
    for name, parts in _PARTS.items():
        texts = [_text(car, parts) for car in classes.cars]
        groups = tuple(sorted(set(texts)))
        index = {text: number for number, text in enumerate(groups)}
        levels[name] = Level(name, groups, np.array([index[text] for text in texts]))
    return levels


def stated(car: CarName, level: str) -> CarName:
    """What an answer at a level says of a car: its parts of that level; the others are empty.

    >>> stated(CarName(make="BMW", model="M3", body="Coupe", year=2012), "make and body")
    CarName(make='BMW', model='', body='Coupe', year=None)
    """
    parts = _PARTS.get(level)
    if parts is None:
        return car
    return replace(CarName(make=""), **{part: getattr(car, part) for part in parts})


def most_specific(probabilities: Mapping[str, Floats], minimum: float) -> NDArray[np.int64]:
    """The index in `ANSWERED` of the first level that is probable enough, for each photo, N; -1 if none is.

    Args:
        probabilities: probability of the most likely group of each level, N.
        minimum: least probability of an answer.
    """
    enough = np.stack([probabilities[level] >= minimum for level in ANSWERED])
    return np.where(enough.any(axis=0), enough.argmax(axis=0), -1)


def _text(car: CarName, parts: tuple[str, ...]) -> str:
    """The parts of a name, joined; empty if it lacks one of them."""
    values = [getattr(car, part) for part in parts]
    return " ".join(str(value) for value in values) if all(values) else ""
