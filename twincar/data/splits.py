"""Draw the validation split: a share of each class, chosen by the bytes of the photos and a seed only."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace

from twincar.core.files import sha256_of
from twincar.data.dataset import Annotation


def singletons(photos: list[Annotation]) -> list[int]:
    """The classes that cannot spare a training photo for validation, if the source has no validation split.

    They have a single training photo, perhaps with copies, or only photos that other classes have too.
    """
    if any(photo.split == "val" for photo in photos):
        return []
    labels = _labels_by_photo(photo for photo in photos if photo.split == "train")
    totals = Counter(label for listed in labels.values() for label in listed)
    spare = {listed[0] for listed in labels.values() if len(set(listed)) == 1 and len(listed) < totals[listed[0]]}
    return sorted(totals.keys() - spare)


def with_validation(photos: list[Annotation], share: float, seed: int) -> list[Annotation]:
    """All photos, sorted by split and file; some training photos become 'val' if the source has no such split.

    Photos of the classes in `singletons` all stay in training.

    Args:
        photos: valid photos; those of the training split have labels.
        share: share of the training photos of each class to validate on.
        seed: of the choice.
    """
    chosen: set[str] = set()
    if not any(photo.split == "val" for photo in photos):
        chosen = _choose_validation([photo for photo in photos if photo.split == "train"], share, seed)
    assigned = [
        replace(photo, split="val") if photo.split == "train" and photo.sha256 in chosen else photo for photo in photos
    ]
    return sorted(assigned, key=lambda photo: (photo.split, photo.file))


def _choose_validation(train: list[Annotation], share: float, seed: int) -> set[str]:
    """Hashes of the validation photos: a `share` of each class, at least one photo and never all.

    Photos with the same bytes stay in one split, and photos with several labels stay in training.
    """
    labels = _labels_by_photo(train)
    by_class: defaultdict[int, list[str]] = defaultdict(list)
    for digest in sorted(labels, key=lambda digest: sha256_of(f"{seed} {digest}".encode())):
        if len(set(labels[digest])) == 1:
            by_class[labels[digest][0]].append(digest)
    totals = Counter(label for listed in labels.values() for label in listed)
    chosen: set[str] = set()
    for label, total in sorted(totals.items()):
        chosen |= _pick([(digest, len(labels[digest])) for digest in by_class[label]], total, share)
    return chosen


def _labels_by_photo(train: Iterable[Annotation]) -> dict[str, list[int]]:
    """All labels of each photo, by its hash; a photo that is listed several times has as many labels."""
    labels: defaultdict[str, list[int]] = defaultdict(list)
    for photo in train:
        labels[photo.sha256].append(photo.label or 0)
    return labels


def _pick(candidates: list[tuple[str, int]], total: int, share: float) -> set[str]:
    """The first photos whose copies fit into `share` of `total`; if none fit, the photo with the fewest copies."""
    room = min(max(1, round(share * total)), total - 1)
    picked: set[str] = set()
    for digest, copies in candidates:
        if copies <= room:
            picked.add(digest)
            room -= copies
    fewest = min(candidates, key=lambda candidate: candidate[1], default=("", total))
    return picked or ({fewest[0]} if fewest[1] < total else set())
