"""Draws the photos to validate on: of every class its share, by the photos' bytes and a seed alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

from twincar.data.annotations import Annotation
from twincar.errors import DataError
from twincar.files import sha256_of
from twincar.labels import ClassNames


def with_validation(photos: list[Annotation], classes: ClassNames, share: float, seed: int) -> list[Annotation]:
    """All photos, in order of split and file; some training photos are 'val' where the source has no such split.

    Args:
        photos: every one of them sound; those to train on have labels.
        classes: of the labels.
        share: of the training photos of each class, to validate on.
        seed: of the draw.

    Raises:
        DataError: a class has too few different photos for both.
    """
    chosen: set[str] = set()
    if not any(photo.split == "val" for photo in photos):
        chosen = _choose_validation([photo for photo in photos if photo.split == "train"], classes, share, seed)
    placed = [
        replace(photo, split="val") if photo.split == "train" and photo.sha256 in chosen else photo for photo in photos
    ]
    return sorted(placed, key=lambda photo: (photo.split, photo.file))


def _choose_validation(train: list[Annotation], classes: ClassNames, share: float, seed: int) -> set[str]:
    """Hashes of the photos to validate on: of each class `share` of its photos, at least one, and never all.

    Photos with the same bytes stay together, and those that have several labels stay in training.
    """
    labels: defaultdict[str, list[int]] = defaultdict(list)
    for photo in train:
        labels[photo.sha256].append(photo.label or 0)
    by_class: defaultdict[int, list[str]] = defaultdict(list)
    for digest in sorted(labels, key=lambda digest: sha256_of(f"{seed} {digest}".encode())):
        if len(set(labels[digest])) == 1:
            by_class[labels[digest][0]].append(digest)
    totals = Counter(label for listed in labels.values() for label in listed)
    chosen: set[str] = set()
    for label, total in sorted(totals.items()):
        picked = _pick([(digest, len(labels[digest])) for digest in by_class[label]], total, share)
        if not picked:
            raise DataError(
                f"Expected at least two different training photos of every class, one to train on and one to validate "
                f"on, and {classes[label]!r} has fewer. Add photos of it, leave the class out, or give the source "
                "a validation split."
            )
        chosen |= picked
    return chosen


def _pick(candidates: list[tuple[str, int]], total: int, share: float) -> set[str]:
    """Of photos and how often each is there, the first that fit in `share` of `total`; else the one that is fewest."""
    room = min(max(1, round(share * total)), total - 1)
    picked: set[str] = set()
    for digest, copies in candidates:
        if copies <= room:
            picked.add(digest)
            room -= copies
    fewest = min(candidates, key=lambda candidate: candidate[1], default=("", total))
    return picked or ({fewest[0]} if fewest[1] < total else set())
