"""Problems with the classes of a data set as a whole: their order, their splits, their balance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from twincar.core.labels import ClassNames, class_key, shorten
from twincar.core.wording import counted
from twincar.data.dataset import Annotation, order_splits

IMBALANCE = 10
"""Ratio of training photos between the largest and the smallest class from which imbalance is reported; Stanford Cars
has 2.8."""
FEW_TO_TRAIN = 5
"""Training photos of a class below which `prepare` says that they are few."""
_HARM = {"train": "nothing to learn them from", "val": "the best epoch is chosen without them"}
"""The consequence of a class without photos in a split."""


@dataclass(frozen=True)
class ClassIssue:
    """One problem with the classes."""

    reason: str
    detail: str


def find_class_issues(
    annotations: Sequence[Annotation], classes: ClassNames, lists: Mapping[str, tuple[str, ...]]
) -> list[ClassIssue]:
    """Differences between the splits' classes, and imbalance.

    Args:
        annotations: the valid photos, with indices into `classes`.
        classes: of all splits.
        lists: the class names of each part of the source in its own order; the reference is the first.
    """
    counts = count_by_split(annotations, len(classes))
    return [*_order_issues(lists), *find_lacking(annotations, classes), *_balance_issues(counts, classes)]


def find_lacking(annotations: Sequence[Annotation], classes: ClassNames) -> list[ClassIssue]:
    """The splits that lack a class of another split."""
    return list(_set_issues(count_by_split(annotations, len(classes)), classes))


def describe_names(classes: ClassNames) -> list[str]:
    """A sentence on the names that do not end in a year, and how the first of them is read."""
    odd = [index for index, car in enumerate(classes.cars) if car.year is None]
    if not odd:
        return []
    car = classes.cars[odd[0]]
    read = ", ".join(f"{part} {text!r}" for part in ("make", "model", "body") if (text := getattr(car, part)))
    return [
        f"{len(odd)} of {counted(len(classes), 'class name')} not of the form Make Model Body Year: "
        f"{shorten([classes[index] for index in odd], 20)}. The first is read as {read}; rename the class if an answer "
        "should not say so."
    ]


def describe_few(annotations: Sequence[Annotation], classes: ClassNames) -> list[str]:
    """A sentence on the classes of which there are few photos to train on, those with the fewest first."""
    counts = count_by_split(annotations, len(classes)).get("train", [])
    few = sorted((count, classes[label]) for label, count in enumerate(counts) if 0 < count < FEW_TO_TRAIN)
    if not few:
        return []
    return [
        f"{len(few)} of {counted(len(classes), 'class', 'classes')} with fewer than {FEW_TO_TRAIN} training photos, "
        f"from which a car is hardly learned: {shorten([f'{name}: {count}' for count, name in few], 5)}. Add photos, "
        "or leave such a car out and teach it to the trained model (twincar teach)."
    ]


def count_by_split(annotations: Iterable[Annotation], classes: int) -> dict[str, list[int]]:
    """For each split with labels, the number of photos of each class; K numbers."""
    counts = Counter((photo.split, photo.label) for photo in annotations if photo.label is not None)
    splits = order_splits(split for split, _ in counts)
    return {split: [counts[split, label] for label in range(classes)] for split in splits}


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
                f"{shorten(moved, 2)}. TwinCar matches classes by name; tools that match them by number mix them up.",
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
                f"{split} has no photos of {len(lacking)} of {len(classes)} classes, {harm}: {shorten(lacking)}",
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
