"""What every source of photos looks like to the rest of the package."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from twincar.core.errors import DataError, PhotoError, UsageError
from twincar.core.files import sha256_of
from twincar.core.labels import ClassNames, shorten
from twincar.data.dataset import SPLITS, Box, is_outside

OnPhoto = Callable[[int, int], None]
"""Called with the photos done and the photos there are."""

OPTIONAL_SPLITS = ("val", "test")
"""Splits that a source may lack without a complaint; any other that is asked for must be there."""
_SPLIT_SPELLINGS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
SPLIT_WORDS = {
    word + end: split for split, words in _SPLIT_SPELLINGS.items() for word in words for end in ("", "_set", "set")
}
"""What sources call their splits, and what we call them; see `split_of`."""
_NO_LABEL = frozenset({"", "-1", "-1.0", "nan", "none", "null", "na", "n/a", "<na>", "#n/a"})


@dataclass(frozen=True, kw_only=True)
class SourceRow:
    """One photo as its source lists it; nothing of it has been checked."""

    name: str
    """Its place below the photo folder, with forward slashes."""
    label: int | str | None
    """Index of its class; the text found where that names no class; None where the source keeps the label back."""
    split: str
    photo: Path | bytes
    """The file, or its bytes where the source has no files."""
    box: Box | None = None
    fault: PhotoError | None = None
    """What is wrong with the row, where reading the list has shown it already."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Photos with labels, wherever they come from."""

    description: str
    """What the user calls it, with a folder's whole path."""
    revision: str
    """Commit of a hub data set; empty for other sources."""
    classes: ClassNames
    fingerprint: str
    """Changes when the source does, as far as can be told without reading photos."""
    total: int
    """Number of rows."""
    rows: Callable[[], Iterable[SourceRow]]
    """The rows, one after the other; memory never holds all photos."""
    photo_root: Path | None
    """The folder the names of the rows start from; None where the rows bring bytes."""
    notes: tuple[str, ...] = ()
    """What was concluded while reading it, a sentence each, for the user to confirm."""
    malformed_lines: tuple[int, ...] = ()
    """Lines of a table that have more or fewer cells than its header; `audit` lists them, `prepare` refuses them."""
    class_lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The classes as each split or file of the source names and orders them, where they do so on their own."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Files and folders that were found and are no rows, by reason; see `listing.Skip`."""
    make: Callable[[Path, OnPhoto | None], Source] | None = None
    """For a source that draws its photos: does so in a folder, and gives the source of what it drew."""


def asked_splits(splits: Iterable[str]) -> tuple[str, ...]:
    """The splits to read, in our words; a validation split of the source's own comes with 'train'.

    Raises:
        UsageError: there are none.
    """
    asked = {split_of(word) or word for word in map(str.strip, splits) if word}
    if not asked:
        raise UsageError("Expected the names of the splits to read, such as train and test, but there are none.")
    if "train" in asked:
        asked.add("val")
    return (*(split for split in SPLITS if split in asked), *sorted(asked - set(SPLITS)))


def split_of(word: str) -> str | None:
    """What we call a split that a source calls `word`, such as `Training`, `test-set` or `valid`."""
    return SPLIT_WORDS.get(re.sub(r"[\s-]+", "_", word.strip()).casefold())


def unnamed_split(splits: Sequence[str]) -> str:
    """What photos are for where nothing says it: training, unless one other split alone is asked for."""
    return splits[0] if len(splits) == 1 else "train"


def is_no_label(text: str) -> bool:
    """Whether a label says that there is none: empty, -1, or a word that pandas and spreadsheets write for a gap."""
    return text.strip().casefold() in _NO_LABEL


def check_split_words(splits: Iterable[str]) -> None:
    """For sources that have no splits but train, val and test.

    Raises:
        UsageError: another split is asked for.
    """
    unknown = [split for split in splits if split not in SPLITS]
    if unknown:
        raise UsageError(f"Expected splits out of {', '.join(SPLITS)}, and found {shorten(unknown)}.")


def file_key(name: str) -> str:
    """What two spellings of one file name have in common: systems store 'é' as one sign or as two."""
    return unicodedata.normalize("NFC", name)


def no_training_photos(where: str | Path) -> DataError:
    """For a source that was to be trained on and has nothing for that."""
    return DataError(
        f"Expected labelled training photos in {where}, but there are none. "
        "To prepare test photos only, for evaluate --data, add --split test."
    )


def malformed_rows(where: str | Path, lines: Sequence[int], total: int) -> DataError:
    """For a table in which cells would be lost, or lie in the wrong column."""
    first = ", ".join(map(str, lines[:6])) + (f" and {len(lines) - 6} more" if len(lines) > 6 else "")
    return DataError(
        f"Expected as many cells in every row of {where} as in its first line, but {len(lines)} of {total} rows have "
        f"more or fewer: line {first}. Put a text that holds the separator between double quotes; `twincar audit` "
        "shows these rows."
    )


def classes_of_all(
    train: ClassNames | None, others: Mapping[str, Iterable[str]], *, allow_untrained: bool = False
) -> ClassNames:
    """The classes of the training split; with `allow_untrained`, followed by those that only other splits have.

    That the training split has classes that others lack is no harm.

    Raises:
        DataError: a class of another split has nothing to learn from, and that is not allowed.
    """
    names = list(train.names) if train else []
    for split, listed in others.items():
        missing = [name for name in listed if train is None or train.find(name) is None]
        if missing and not allow_untrained:
            raise DataError(
                f"Expected every class of the split '{split}' in the training split too, and {len(missing)} "
                f"are not: {shorten(missing)}. Add training photos of them, or take them out of '{split}'."
            )
        names += [name for name in missing if not names or ClassNames(tuple(names)).find(name) is None]
    return ClassNames(tuple(names))


def row_fingerprint(rows: Sequence[SourceRow], *parts: str) -> str:
    """Fingerprint of a source of files: names, labels and boxes, and each file's size and time of change."""
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
