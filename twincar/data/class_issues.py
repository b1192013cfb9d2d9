"""What is wrong with the classes of a data set as a whole: their order, their splits, their balance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from twincar.core.labels import ClassNames, class_key, shorten
from twincar.data.dataset import SPLITS, Annotation

IMBALANCE = 10
"""Times as many training photos of the largest class as of the smallest, from which that is worth a line; Stanford Cars
has 2.8."""
_HARM = {"train": "nothing to learn them from", "val": "the best epoch is chosen without them"}
"""What it does that a split has no photo of some classes."""


@dataclass(frozen=True)
class ClassIssue:
    """One thing that is wrong with the classes."""

    reason: str
    detail: str


def find_class_issues(
    annotations: Sequence[Annotation], classes: ClassNames, lists: Mapping[str, tuple[str, ...]]
) -> list[ClassIssue]:
    """Differences between the splits' classes, and imbalance.

    Args:
        annotations: the sound photos, with indices into `classes`.
        classes: of all splits.
        lists: the classes as each part of the source names and orders them, the one that counts first.
    """
    counts = count_by_split(annotations, len(classes))
    return [*_order_issues(lists), *find_lacking(annotations, classes), *_balance_issues(counts, classes)]


def find_lacking(annotations: Sequence[Annotation], classes: ClassNames) -> list[ClassIssue]:
    """Splits that lack a class which another split has."""
    return list(_set_issues(count_by_split(annotations, len(classes)), classes))


def count_by_split(annotations: Iterable[Annotation], classes: int) -> dict[str, list[int]]:
    """For each split that has labels, photos of each class; K numbers."""
    counts = Counter((photo.split, photo.label) for photo in annotations if photo.label is not None)
    splits = {split for split, _ in counts}
    ordered = [*(split for split in SPLITS if split in splits), *sorted(splits - set(SPLITS))]
    return {split: [counts[split, label] for label in range(classes)] for split in ordered}


def _order_issues(lists: Mapping[str, tuple[str, ...]]) -> Iterable[ClassIssue]:
    if not lists:
        return
    (reference, first), *others = lists.items()
    numbers = {class_key(name): index for index, name in enumerate(first)}
    for part, names in others:
        moved = [name for index, name in enumerate(names) if numbers.get(class_key(name), index) != index]
        if moved:
            yield ClassIssue(
                "class order",
                f"{part} numbers {len(moved)} of its {len(names)} classes differently from {reference}, such as "
                f"{shorten(moved, 2)}. TwinCar matches classes by name; what matches them by number mixes them up.",
            )


def _set_issues(counts: Mapping[str, list[int]], classes: ClassNames) -> Iterable[ClassIssue]:
    for split in counts:
        others = [other for other in counts if other != split]
        if not others:
            continue
        lacking = [
            name
            for index, name in enumerate(classes.names)
            if counts[split][index] == 0 and any(counts[other][index] for other in others)
        ]
        if lacking:
            harm = _HARM.get(split, "nothing to measure them on")
            yield ClassIssue(
                "class set",
                f"{split} has no photo of {len(lacking)} of {len(classes)} classes, {harm}: {shorten(lacking)}",
            )


def _balance_issues(counts: Mapping[str, list[int]], classes: ClassNames) -> Iterable[ClassIssue]:
    numbers = {name: count for name, count in zip(classes.names, counts.get("train", []), strict=False) if count}
    if not numbers:
        return
    fewest, most = min(numbers, key=numbers.__getitem__), max(numbers, key=numbers.__getitem__)
    if numbers[most] >= IMBALANCE * numbers[fewest]:
        yield ClassIssue(
            "class balance",
            f"{numbers[most]} training photos of {most!r} and {numbers[fewest]} of {fewest!r}",
        )
