"""Draw the validation and the test split: shares of each class, chosen by the bytes of the photos and a seed only."""

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
        chosen = _choose(_training(photos), share, str(seed))
    return _moved(photos, chosen, "val")


def with_test(photos: list[Annotation], share: float, seed: int) -> list[Annotation]:
    """All photos, sorted by split and file; some training photos become 'test'.

    A class keeps two different training photos, one to train and one to validate on, or one if the source has its own
    validation split; classes that have no more give none.

    Args:
        photos: as in `with_validation`, which comes after.
        share: share of the training photos of each class to test on.
        seed: of the choice.
    """
    kept = 1 if any(photo.split == "val" for photo in photos) else 2
    return _moved(photos, _choose(_training(photos), share, f"{seed} test", kept), "test")


def _training(photos: list[Annotation]) -> list[Annotation]:
    return [photo for photo in photos if photo.split == "train"]


def _moved(photos: list[Annotation], chosen: set[str], split: str) -> list[Annotation]:
    """The photos with those training photos in `split` whose hashes are chosen."""
    moved = [
        replace(photo, split=split) if photo.split == "train" and photo.sha256 in chosen else photo for photo in photos
    ]
    return sorted(moved, key=lambda photo: (photo.split, photo.file))


def _choose(train: list[Annotation], share: float, order: str, kept: int = 1) -> set[str]:
    """Hashes of the photos of another split: a `share` of each class, at least one photo if `kept` different ones are
    left.

    Photos with the same bytes stay in one split, and photos with several labels stay in training. The order in which
    photos are chosen is that of the hashes of `order` with their own.
    """
    labels = _labels_by_photo(train)
    by_class: defaultdict[int, list[str]] = defaultdict(list)
    for digest in sorted(labels, key=lambda digest: sha256_of(f"{order} {digest}".encode())):
        if len(set(labels[digest])) == 1:
            by_class[labels[digest][0]].append(digest)
    totals = Counter(label for listed in labels.values() for label in listed)
    different = Counter(label for listed in labels.values() for label in set(listed))
    chosen: set[str] = set()
    for label, total in sorted(totals.items()):
        # What is left holds `kept` different photos, all but one of them without another label.
        most = min(different[label] - kept, len(by_class[label]) - (kept - 1))
        chosen |= _pick([(digest, len(labels[digest])) for digest in by_class[label]], total, share, most)
    return chosen


def _labels_by_photo(train: Iterable[Annotation]) -> dict[str, list[int]]:
    """All labels of each photo, by its hash; a photo that is listed several times has as many labels."""
    labels: defaultdict[str, list[int]] = defaultdict(list)
    for photo in train:
        labels[photo.sha256].append(photo.label or 0)
    return labels


def _pick(candidates: list[tuple[str, int]], total: int, share: float, most: int) -> set[str]:
    """The first photos, at most `most`, whose copies fit into `share` of `total`; if none fit, that with the fewest."""
    if most < 1:
        return set()
    room = min(max(1, round(share * total)), total - 1)
    picked: set[str] = set()
    for digest, copies in candidates:
        if copies <= room and len(picked) < most:
            picked.add(digest)
            room -= copies
    fewest = min(candidates, key=lambda candidate: candidate[1], default=("", total))
    return picked or ({fewest[0]} if fewest[1] < total else set())
