"""The record of the photos that a run has seen: its training photos, and the validation photos.

The best epoch was chosen and the model calibrated on the validation photos. A run keeps the hashes of the files in
`trained_on.csv`, one row `sha256,split` per photo. This finds only copies that are identical byte by byte;
`audit --deep` finds others.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from twincar.core.errors import DataError
from twincar.core.files import write_csv
from twincar.core.runs import RunFolder
from twincar.data.dataset import Annotation, PreparedData

_NAMES = {"val": "validation", "train": "training"}


@dataclass(frozen=True)
class Seen:
    """How many of some photos a run has seen."""

    train: int
    """Photos it was trained on."""
    val: int
    """Photos by which its best epoch was chosen."""


def record_seen(run: RunFolder, data: PreparedData) -> None:
    """Record which photos a run sees; a file in both splits counts as a training photo.

    Raises:
        StorageError: the disk is full, read-only, or not writable.
    """
    splits = {photo.sha256: split for split in ("val", "train") for photo in data.split(split)}
    rows = ({"sha256": digest, "split": split} for digest, split in splits.items())
    write_csv(run.trained_on, rows, ("sha256", "split"))


def read_seen(run: RunFolder) -> dict[str, str] | None:
    """The split, 'train' or 'val', of every photo that a run has seen, by hash; None if there is no record.

    Raises:
        DataError: the record is damaged.
    """
    try:
        with run.trained_on.open(newline="", encoding="utf-8") as file:
            return {row["sha256"]: row["split"] for row in csv.DictReader(file)}
    except FileNotFoundError:
        return None
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise DataError(
            f"Expected the hashes of the photos a run has seen in {run.trained_on}, but it is damaged: {error!r}. "
            "Delete it; reports then no longer say whether the run has seen a photo."
        ) from None


def count_seen(run: RunFolder, photos: Iterable[Annotation]) -> Seen | None:
    """How many of these photos a run has seen; None if there is no record.

    Raises:
        DataError: the record is damaged.
    """
    splits = read_seen(run)
    if splits is None:
        return None
    found = Counter(splits.get(photo.sha256) for photo in photos)
    return Seen(found["train"], found["val"])


def describe(split: str, data: str | None, seen: Seen | None) -> str:
    """Describe the photos of a split in words, and whether the model has seen them.

    Args:
        split: the name of the split.
        data: the name of the data set, if the run was trained on another one.
        seen: how many of the photos the run has seen; None if that was not checked.
    """
    photos = f"{_NAMES.get(split, split)} photos" + (f" of {data}" if data else "")
    if data is None and split == "train":
        return f"{photos}, on which the model was trained: expect less on new photos"
    if data is None and split == "val":
        return f"{photos}, by which the best epoch was chosen: expect less on new photos"
    if seen is None:
        return f"{photos}; whether the model had seen any of them in training was not checked"
    counts = [
        f"{count} of which {how}"
        for count, how in ((seen.train, "the model was trained on"), (seen.val, "chose the best epoch"))
        if count
    ]
    return f"{photos}, {' and '.join(counts) or 'which the model had never seen'}"
