"""Boxes of cars as sources list them: which can be used, and what is wrong with the others. Nothing is guessed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from twincar.core.labels import shorten
from twincar.core.photos import Box
from twincar.core.wording import counted, first_few

MIN_SIDE = 16
"""Least length of the shorter side of a photo, or of a part that is cut out of it, pixels."""
_MOST_OUTSIDE = 0.5  # share of a box's area; with more outside, it was drawn on another photo, or at another size
_SHOWN = 6


class BoxFault(StrEnum):
    """What can be wrong with the box of a photo; the values appear in tables and JSON."""

    INCOMPLETE = "incomplete box"
    SWAPPED = "swapped box"
    EMPTY = "empty box"
    FRACTIONS = "box in fractions"
    ELSEWHERE = "box outside the photo"
    BEYOND = "box beyond the edge"
    TINY = "tiny box"
    NO_CAR = "no car found"


_SENTENCES = {
    BoxFault.INCOMPLETE: "Expected all four sides of a box or none, but found fewer in {boxes}",
    BoxFault.SWAPPED: "Expected left before right and top before bottom, but found them swapped in {boxes}",
    BoxFault.EMPTY: "Expected boxes with an area, but found none in {boxes}",
    BoxFault.FRACTIONS: "Expected boxes in pixels, but found fractions of the photo, 0 to 1, in {boxes}",
    BoxFault.ELSEWHERE: "Expected boxes in pixels of their photo, but found {boxes} mostly outside of it, as in other "
    "units or for another size",
    BoxFault.BEYOND: "Expected boxes inside their photo, but found {boxes} beyond its edge or negative",
    BoxFault.TINY: f"Expected boxes of at least {MIN_SIDE} pixels a side, but found {{boxes}} smaller than that",
    BoxFault.NO_CAR: "Expected a car in the box, or in a photo without one, but the detector finds none in {boxes}",
}
_OUTCOMES = {
    BoxFault.BEYOND: "the part inside is used",
    BoxFault.TINY: "no photo is cut to them",
    BoxFault.NO_CAR: "look at them",
}
_KEPT = "the photos are kept, without a box"


@dataclass(frozen=True)
class BoxFinding:
    """The box of one photo, and what is wrong with it."""

    file: str
    """As the source lists it."""
    fault: BoxFault
    box: Box | None
    """None if it could not be read as pixels."""
    line: int = 0
    """Of the table that lists it; 0 if it is no table."""

    @property
    def detail(self) -> str:
        """What was expected of this box, and what was found."""
        line = f"line {self.line}" if self.line else ""
        sides = "" if self.box is None else ", ".join(map(str, self.box))
        where = ": ".join(filter(None, (line, sides)))
        return _sentence(self.fault, 1) + (f" ({where})." if where else ".")


def read_box(sides: Sequence[str]) -> Box | BoxFault | None:
    """A box from the texts of its left, top, right and bottom; None if all are empty.

    Raises:
        ValueError: a side is not a finite number.
    """
    if not any(sides):
        return None
    if not all(sides):
        return BoxFault.INCOMPLETE
    left, top, right, bottom = (float(side) for side in sides)
    if max(map(abs, (left, top, right, bottom))) <= 1:
        return BoxFault.FRACTIONS
    try:
        return round(left), round(top), round(right), round(bottom)
    except OverflowError:
        raise ValueError("a side is infinite") from None


def fit_box(box: Box, width: int, height: int) -> tuple[Box | None, BoxFault | None]:
    """The part of a box inside a width×height photo, None if the box cannot be used; and what is wrong with it."""
    left, top, right, bottom = box
    if right < left or bottom < top:
        return None, BoxFault.SWAPPED
    if right == left or bottom == top:
        return None, BoxFault.EMPTY
    inside = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    sides = inside[2] - inside[0], inside[3] - inside[1]
    if min(sides) <= 0 or sides[0] * sides[1] < (1 - _MOST_OUTSIDE) * (right - left) * (bottom - top):
        return None, BoxFault.ELSEWHERE
    if min(sides) < MIN_SIDE:
        return inside, BoxFault.TINY
    return inside, None if inside == box else BoxFault.BEYOND


def describe_boxes(findings: Iterable[BoxFinding]) -> list[str]:
    """One sentence for each kind of fault, with the number of boxes, and the lines or files of the first few."""
    by_fault: dict[BoxFault, list[BoxFinding]] = {}
    for finding in findings:
        by_fault.setdefault(finding.fault, []).append(finding)
    return [
        f"{_sentence(fault, len(found))} ({_places(found)}); {_OUTCOMES.get(fault, _KEPT)}."
        for fault, found in by_fault.items()
    ]


def _sentence(fault: BoxFault, count: int) -> str:
    what = ("photo", "") if fault is BoxFault.NO_CAR else ("box", "boxes")
    return _SENTENCES[fault].format(boxes=counted(count, *what))


def _places(findings: Sequence[BoxFinding]) -> str:
    if not findings[0].line:
        return shorten(finding.file for finding in findings)
    lines = first_few((str(finding.line) for finding in findings), _SHOWN)
    return f"{'line' if len(findings) == 1 else 'lines'} {lines}"
