"""The common interface of all sources of photos."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from twincar.core.errors import DataError, PhotoError, UsageError
from twincar.core.files import sha256_of
from twincar.core.labels import ClassNames, shorten
from twincar.core.photos import Box
from twincar.core.progress import Progress
from twincar.core.wording import first_few
from twincar.data.boxes import BoxFault
from twincar.data.dataset import SPLITS, is_outside, order_splits

OPTIONAL_SPLITS = ("val", "test")
"""Splits that a source may lack; any other requested split must exist."""
_SPLIT_SPELLINGS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
SPLIT_WORDS = {
    word + end: split for split, words in _SPLIT_SPELLINGS.items() for word in words for end in ("", "_set", "set")
}
"""The spellings of splits in sources, and their names in TwinCar; see `split_of`."""
_NO_LABEL = frozenset({"", "-1", "-1.0", "nan", "none", "null", "na", "n/a", "<na>", "#n/a"})


@dataclass(frozen=True, kw_only=True)
class SourceRow:
    """One photo as its source lists it, unchecked."""

    name: str
    """Path relative to the photo folder, with forward slashes."""
    label: int | str | None
    """Index of its class; the text of the label if it names no class; None if the source has no label."""
    split: str
    photo: Path | bytes
    """The file, or its bytes if the source has no files."""
    box: Box | None = None
    """As the source lists it; see `fit_box`."""
    box_fault: BoxFault | None = None
    """Why the source has no box that can be read, although it lists one."""
    line: int = 0
    """Line of the table that lists it; 0 if it is no table."""
    fault: PhotoError | None = None
    """The error of the row, if reading the list has found one."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A list of photos with labels, of any origin."""

    description: str
    """Its name as the user gave it, with the full path of a folder."""
    revision: str
    """Commit of a data set on the hub; empty for other sources."""
    classes: ClassNames
    fingerprint: str
    """A hash that changes when the source changes, as far as can be seen without reading the photos."""
    total: int
    """Number of rows."""
    rows: Callable[[], Iterable[SourceRow]]
    """Iterates over the rows; memory never holds all photos."""
    photo_root: Path | None
    """The folder that the names of the rows are relative to; None if the rows hold bytes."""
    notes: tuple[str, ...] = ()
    """Conclusions drawn while reading it, one sentence each, for the user to confirm."""
    malformed_lines: tuple[int, ...] = ()
    """Lines of a table that have more or fewer cells than its header; `audit` lists them, `prepare` refuses them."""
    class_lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The class names of each split or file in its own order, if the source has more than one list of classes."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Counts of skipped files and folders by reason; see `skipped.Skip`."""
    make: Callable[[Path, Progress | None], Source] | None = None
    """For a source that draws its photos: draws them in a folder, and returns the source of that folder."""


def asked_splits(splits: Iterable[str]) -> tuple[str, ...]:
    """The splits to read, by their names in TwinCar; the source's own validation split comes with 'train'.

    Raises:
        UsageError: there are none.
    """
    requested = {split_of(word) or word for word in map(str.strip, splits) if word}
    if not requested:
        raise UsageError("Expected the names of the splits to read, such as train and test, but there are none.")
    if "train" in requested:
        requested.add("val")
    return order_splits(requested)


def split_of(word: str) -> str | None:
    """The split that a source means by `word`, such as `Training`, `test-set` or `valid`; None if it is not known."""
    return SPLIT_WORDS.get(re.sub(r"[\s-]+", "_", word.strip()).casefold())


def unnamed_split(splits: Sequence[str]) -> str:
    """The split of photos for which the source names none: training, unless only one other split is requested."""
    return splits[0] if len(splits) == 1 else "train"


def is_no_label(text: str) -> bool:
    """Whether a label is missing: empty, -1, or a word that pandas and spreadsheets write for a missing value."""
    return text.strip().casefold() in _NO_LABEL


def check_split_words(splits: Iterable[str]) -> None:
    """Check the splits for sources that can only have train, val and test.

    Raises:
        UsageError: another split is requested.
    """
    unknown = [split for split in splits if split not in SPLITS]
    if unknown:
        raise UsageError(f"Expected splits out of {', '.join(SPLITS)}, but found {shorten(unknown)}.")


def file_key(name: str) -> str:
    """A key that is equal for all spellings of a file name: systems store 'é' as one code point or as two."""
    return unicodedata.normalize("NFC", name)


def no_training_photos(where: str | Path) -> DataError:
    """The error for a source without training photos."""
    return DataError(
        f"Expected labelled training photos in {where}, but there are none. "
        "To prepare test photos only, for evaluate --data, add --split test."
    )


def malformed_rows(where: str | Path, lines: Sequence[int], total: int) -> DataError:
    """The error for a table whose cells would be lost or be in the wrong columns."""
    return DataError(
        f"Expected as many cells in every row of {where} as in its first line, but {len(lines)} of {total} rows have "
        f"more or fewer: line {first_few(map(str, lines), 6)}. Put a text that holds the separator between double "
        "quotes; `twincar audit` shows these rows."
    )


def classes_of_all(
    train: ClassNames | None, others: Mapping[str, Iterable[str]], *, allow_untrained: bool = False
) -> ClassNames:
    """The classes of the training split; with `allow_untrained`, followed by those that only other splits have.

    The training split may have classes that other splits lack.

    Raises:
        DataError: a class of another split is not in the training split, and that is not allowed.
    """
    names = list(train.names) if train else []
    for split, listed in others.items():
        missing = [name for name in listed if train is None or train.find(name) is None]
        if missing and not allow_untrained:
            raise DataError(
                f"Expected every class of the split '{split}' in the training split too, but {len(missing)} "
                f"are not: {shorten(missing)}. Add training photos of them, or take them out of '{split}'."
            )
        names += [name for name in missing if not names or ClassNames(tuple(names)).find(name) is None]
    return ClassNames(tuple(names))


def row_fingerprint(rows: Sequence[SourceRow], *parts: str) -> str:
    """Fingerprint of a source of files: a hash of names, labels, boxes, file sizes and modification times."""
    lines = [f"{row.name}\t{row.label}\t{row.split}\t{row.box}\t{_state_of(row)}" for row in rows]
    return sha256_of("\n".join([*parts, *sorted(lines)]).encode("utf-8", "surrogateescape"))


def _state_of(row: SourceRow) -> str:
    if isinstance(row.photo, bytes) or is_outside(row.name):
        return ""
    try:
        status = row.photo.stat()
    except (OSError, ValueError):
        return "missing"
    return f"{status.st_size} {status.st_mtime_ns}"
