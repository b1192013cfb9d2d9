"""Which photos a run has seen: those it was trained on, and those that chose its best epoch and calibrated it.

A run keeps the hashes of their files in `trained_on.csv`, `sha256,split`, a row a photo. A copy of a photo that is not
the same file byte by byte is not found so; `audit --deep` finds those.
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
    """It was trained on these."""
    val: int
    """By these its best epoch was chosen."""


def record_seen(run: RunFolder, data: PreparedData) -> None:
    """Write down which photos a run sees in training; of the same file in both splits that it was trained on it.

    Raises:
        StorageError: the disk is full, read-only, or not writable.
    """
    splits = {photo.sha256: split for split in ("val", "train") for photo in data.split(split)}
    rows = ({"sha256": digest, "split": split} for digest, split in splits.items())
    write_csv(run.trained_on, rows, ("sha256", "split"))


def read_seen(run: RunFolder) -> dict[str, str] | None:
    """The split, 'train' or 'val', of every photo that a run has seen, by its hash; None where that was not recorded.

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
            "Delete it; of no photo is it then said that the run had never seen it."
        ) from None


def count_seen(run: RunFolder, photos: Iterable[Annotation]) -> Seen | None:
    """How many of these photos a run has seen; None where that was not recorded.

    Raises:
        DataError: the record is damaged.
    """
    splits = read_seen(run)
    if splits is None:
        return None
    found = Counter(splits.get(photo.sha256) for photo in photos)
    return Seen(found["train"], found["val"])


def describe(split: str, data: str | None, seen: Seen | None) -> str:
    """The photos of a split in words, and whether the model has seen them.

    Args:
        split: of which data set they are.
        data: its name, if it is another one than the run was trained on.
        seen: how many of them the run has seen; None where that was not checked.
    """
    photos = f"{_NAMES.get(split, split)} photos" + (f" of {data}" if data else "")
    if data is None and split == "train":
        return f"{photos}, from which it has learnt: of new photos it will know fewer"
    if data is None and split == "val":
        return f"{photos}, by which its best epoch was chosen: on new photos expect less"
    if seen is None:
        return f"{photos}; whether it had seen any of them in training was not checked"
    counts = [
        f"{count} of which {how}"
        for count, how in ((seen.train, "it was trained on"), (seen.val, "chose its best epoch"))
        if count
    ]
    return f"{photos}, {' and '.join(counts) or 'which it had never seen'}"
