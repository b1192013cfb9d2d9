"""A CSV file that lists photos: filename,label[,split][,x1,y1,x2,y2].

A label is a class name, or a class number from 0 where a class list says what the numbers mean. Boxes count pixels from
0, the last one excluded. Without a split column all photos are for training.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from twincar.data.annotations import Box, is_outside
from twincar.data.sources.base import (
    SPLIT_WORDS,
    Source,
    SourceRow,
    check_split_words,
    classes_of_all,
    row_fingerprint,
)
from twincar.errors import DataError, UsageError
from twincar.files import read_json, sha256_of_file
from twincar.labels import ClassNames, canonical_name, shorten
from twincar.user_files import read_bounded

_CLASS_LISTS = ("classes.txt", "classes.json", "cars_meta.mat")
_PHOTO_FOLDERS = ("", "images", "photos")
_BOX = ("x1", "y1", "x2", "y2")
_NUMBER = re.compile(r"-?\d{1,9}(\.0)?")  # '3.0' is what a column of numbers with a gap is often saved as


@dataclass(frozen=True, kw_only=True)
class _Line:
    """One line of the file, before its label means anything."""

    name: str
    label: str
    split: str
    box: Box | None


def open_table(
    path: Path, splits: tuple[str, ...], classes_file: Path | None = None, *, allow_untrained: bool = False
) -> Source:
    """Read a CSV file; its photos lie beside it, or beside it in `images/` or `photos/`.

    For `allow_untrained` see `classes_of_all`.

    Raises:
        UsageError: `classes_file` is not there.
        DataError: a column is missing, a split has no known name, or numbers for labels without a class list.
    """
    check_split_words(splits)
    class_list = classes_file or next((p for name in _CLASS_LISTS if (p := path.parent / name).is_file()), None)
    lines = [line for line in _read_lines(path) if line.split in splits]
    listed = read_class_file(class_list) if class_list else None
    numbered = _is_numbered(path, lines, listed)
    classes = listed or _classes_of(path, lines, allow_untrained=allow_untrained)
    root = _photo_root(path.parent, lines)
    rows = [
        SourceRow(
            name=name,
            label=_label(line.label, classes, numbered),
            split=line.split,
            photo=root / name,
            box=line.box,
        )
        for line in lines
        for name in [_spelling_on_disk(root, line.name)]
    ]
    parts = [sha256_of_file(file) for file in (path, class_list) if file]
    return Source(
        description=str(path),
        revision="",
        classes=classes,
        fingerprint=row_fingerprint(rows, *parts),
        total=len(rows),
        rows=lambda: rows,
        photo_root=root,
    )


def read_class_file(path: Path) -> ClassNames:
    """The class names in a text file (one a line), a `classes.json` or a `cars_meta.mat`, in their order.

    Raises:
        UsageError: there is no such file.
        DataError: the file is something else.
        LabelError: a class is listed twice.
    """
    if not path.is_file():
        raise UsageError(f"Expected a class list at {path}, and there is no such file.")
    if path.suffix == ".mat":
        from twincar.data.sources.devkit import read_class_names  # deferred: few need it

        return ClassNames(tuple(read_class_names(path)))
    if path.suffix == ".json":
        rows = read_json(path)
        listed = rows if isinstance(rows, list) else []
        names = [row.get("name", "") if isinstance(row, dict) else row for row in listed]
    else:
        names = [line for line in _read_text(path).splitlines() if line.strip()]
    if not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise DataError(f"Expected class names in {path}, one a line or as classes.json lists them, and found none.")
    return ClassNames(tuple(canonical_name(name) for name in names))


def _read_lines(path: Path) -> list[_Line]:
    # strict: a quote that is never closed would otherwise swallow the rest of the file in silence.
    reader = csv.DictReader(io.StringIO(_read_text(path), newline=""), restval="", strict=True)
    try:
        columns = {name.strip().casefold(): name for name in reader.fieldnames or ()}
        if not {"filename", "label"} <= columns.keys():
            raise DataError(
                f"Expected the columns filename and label in the first line of {path}, and found "
                f"{shorten(columns, 6) or 'an empty file'}."
            )
        return [
            _as_line({key: row[name] or "" for key, name in columns.items()}, path, reader.line_num) for row in reader
        ]
    except csv.Error as error:
        raise DataError(f"Expected CSV in {path}, and line {reader.line_num} cannot be read: {error}.") from None


def _as_line(cells: Mapping[str, str], path: Path, number: int) -> _Line:
    word = cells.get("split", "train").strip()
    if word.casefold() not in SPLIT_WORDS:
        raise DataError(
            f"Expected one of {', '.join(SPLIT_WORDS)} in the column split of {path}, and line {number} has {word!r}."
        )
    name = cells["filename"].strip().replace("\\", "/")
    return _Line(
        name=PurePosixPath(name).as_posix() if name else "",
        label=cells["label"].strip(),
        split=SPLIT_WORDS[word.casefold()],
        box=_box(cells, path, number),
    )


def _box(cells: Mapping[str, str], path: Path, number: int) -> Box | None:
    sides = [cells.get(side, "").strip() for side in _BOX]
    if not all(sides):
        return None
    try:
        x1, y1, x2, y2 = (round(float(side)) for side in sides)
    except (ValueError, OverflowError):
        raise DataError(
            f"Expected pixels in the columns {', '.join(_BOX)} of {path}, and line {number} has {', '.join(sides)}."
        ) from None
    return (x1, y1, x2, y2) if x2 > x1 and y2 > y1 else None


def _is_numbered(path: Path, lines: Iterable[_Line], listed: ClassNames | None) -> bool:
    """Whether the labels are numbers; they must be numbers from 0 of a class list."""
    labels = {line.label for line in lines if line.label}
    if not labels or not all(_NUMBER.fullmatch(label) for label in labels):
        return False
    if listed is None:
        raise DataError(
            f"Expected class names in the column label of {path}, and found numbers. Say what they mean: "
            "give a class list (--classes FILE: one name a line, classes.json or cars_meta.mat), or put "
            "classes.txt beside the CSV file."
        )
    numbers = {int(float(label)) for label in labels}
    if 0 not in numbers and max(numbers) == len(listed):
        raise DataError(
            f"Expected class numbers from 0 to {len(listed) - 1} in {path}, and found {min(numbers)} to "
            f"{max(numbers)}: these count from 1. Subtract 1 from every label, or write class names."
        )
    return True


def _classes_of(path: Path, lines: Iterable[_Line], *, allow_untrained: bool) -> ClassNames:
    """The classes of a file without a class list: those of the training photos, sorted; see `classes_of_all`."""
    names: dict[str, set[str]] = {}
    for line in lines:
        if line.label:
            names.setdefault(line.split, set()).add(canonical_name(line.label))
    if "train" not in names:
        raise DataError(f"Expected labelled training photos in {path}, and found none.")
    train = ClassNames(tuple(sorted(names["train"])))
    others = {split: sorted(found) for split, found in names.items()}
    return classes_of_all(train, others, allow_untrained=allow_untrained)


def _label(text: str, classes: ClassNames, numbered: bool) -> int | str:
    if numbered and text:
        index = int(float(text))
        return index if 0 <= index < len(classes) else text
    found = classes.find(text)
    return text if found is None else found


def _photo_root(folder: Path, lines: Iterable[_Line]) -> Path:
    """Beside the file or in a folder there, wherever more of the photos are."""
    names = [line.name for line in lines if not is_outside(line.name)]

    def photos_there(root: Path) -> int:
        return sum(_is_file(root / _spelling_on_disk(root, name)) for name in names) if root.is_dir() else -1

    return max((folder / place for place in _PHOTO_FOLDERS), key=photos_there)


def _spelling_on_disk(root: Path, name: str) -> str:
    """The name as the disk has it: some systems store 'é' as one sign and some as two, whatever the list says."""
    if is_outside(name):
        return name
    spellings = (name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name))
    return next((spelling for spelling in spellings if _is_file(root / spelling)), name)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name no file can have: too long, or with a zero byte
        return False


def _read_text(path: Path) -> str:
    try:
        return read_bounded(path).decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"Expected a text file at {path}, and it cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise DataError(f"Expected UTF-8 text in {path}, and byte {error.start} is not; save it as UTF-8.") from None
