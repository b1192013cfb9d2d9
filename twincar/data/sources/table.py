"""A CSV file that lists photos: filename,label[,split][,x1,y1,x2,y2], in one of the usual spellings.

A label is a class name, or a class number together with a class list. Boxes count pixels from 0, the last one excluded.
Without a split column all photos are for training.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from twincar.core.errors import DataError, Defect, PhotoError, UsageError
from twincar.core.files import read_json, sha256_of_file
from twincar.core.labels import ClassNames, canonical_name, shorten
from twincar.core.photos import Box
from twincar.data.boxes import BoxFault, read_box
from twincar.data.dataset import is_outside
from twincar.data.sources.base import (
    Source,
    SourceRow,
    check_split_words,
    classes_of_all,
    is_no_label,
    malformed_rows,
    no_training_photos,
    row_fingerprint,
    split_of,
    unnamed_split,
)
from twincar.data.sources.csv_file import BOX, CsvRow, read_rows, read_text
from twincar.data.sources.file_names import FoundName, PhotoNames, name_below

_CLASS_LISTS = ("classes.txt", "classes.json", "cars_meta.mat")
_PHOTO_FOLDERS = ("", "images", "photos")
_NUMBER = re.compile(r"-?\d{1,9}(\.0)?")  # '3.0' is what a column of numbers with a gap is often saved as


@dataclass(frozen=True, kw_only=True)
class _Line:
    """One line of the file, before its label is looked up."""

    name: str
    label: str
    """Empty if it is missing, in any of the spellings of `is_no_label`."""
    split: str
    box: Box | BoxFault | None
    number: int


def open_table(
    path: Path,
    splits: tuple[str, ...],
    classes_file: Path | None = None,
    *,
    labels_from: int | None = None,
    allow_untrained: bool = False,
) -> Source:
    """Read a CSV file; its photos are in the same folder, or in its subfolder `images/` or `photos/`.

    If labels are numbers and the file does not show whether the first class is 0 or 1, `labels_from` must be given. For
    `allow_untrained` see `classes_of_all`.

    Raises:
        UsageError: `classes_file` does not exist, or `labels_from` is needed, not needed, or contradicted.
        DataError: a column is missing, a split has an unknown name, or labels are numbers without a class list.
    """
    check_split_words(splits)
    class_list = classes_file or next((p for name in _CLASS_LISTS if (p := path.parent / name).is_file()), None)
    rows = read_rows(path)
    malformed = [row for row in rows if row.fault]
    all_lines = [_as_line(row, path, splits) for row in rows if not row.fault]
    lines = [line for line in all_lines if line.split in splits]
    if malformed and not lines:
        raise malformed_rows(path, [row.line for row in malformed], len(rows))
    listed = read_class_file(class_list) if class_list else None
    numbers = _numbers_in(all_lines)  # of all splits: their meaning must not depend on the requested splits
    if numbers and listed is None:
        raise _no_class_list(path)
    if labels_from is not None and not numbers:
        raise UsageError(f"Expected class numbers in the column label of {path} for --labels-from; leave it out.")
    first, notes = _first_number(path, numbers, len(listed), labels_from) if numbers and listed else (None, [])
    classes = listed or _classes_of(path, lines, splits, allow_untrained=allow_untrained)
    root = _photo_root(path.parent, lines)
    names = PhotoNames(root)
    found = [names.find(name_below(root, line.name)) for line in lines]
    wellformed = [_as_source_row(root, line, at, classes, first) for line, at in zip(lines, found, strict=True)]
    listed_rows = [*wellformed, *map(_malformed_row, malformed)]
    return Source(
        description=str(path),
        revision="",
        classes=classes,
        fingerprint=row_fingerprint(listed_rows, *(sha256_of_file(file) for file in (path, class_list) if file)),
        total=len(listed_rows),
        rows=lambda: listed_rows,
        photo_root=root,
        notes=(*notes, *_respelled(lines, found)),
        malformed_lines=tuple(row.line for row in malformed),
    )


def read_class_file(path: Path) -> ClassNames:
    """The class names in a text file (one per line), a `classes.json` or a `cars_meta.mat`, in their order.

    Raises:
        UsageError: there is no such file.
        DataError: the file is of another kind.
        LabelError: a class is listed twice.
    """
    if not path.is_file():
        raise UsageError(f"Expected a class list at {path}, but there is no such file.")
    if path.suffix == ".mat":
        from twincar.data.sources.devkit import read_class_names  # deferred: few need it

        return ClassNames(tuple(read_class_names(path)))
    if path.suffix == ".json":
        rows = read_json(path)
        listed = rows if isinstance(rows, list) else []
        names = [row.get("name", "") if isinstance(row, dict) else row for row in listed]
        if any(isinstance(row, dict) and row.get("index", number) != number for number, row in enumerate(listed)):
            raise DataError(
                f"Expected the classes in {path} in the order of their index, from 0, but it differs. Sort them, "
                "or remove the indices if the order is right."
            )
    else:
        names = [line for line in read_text(path).splitlines() if line.strip()]
    if not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise DataError(f"Expected class names in {path}, one per line or as classes.json lists them, but found none.")
    return ClassNames(tuple(canonical_name(name) for name in names))


def _as_line(row: CsvRow, path: Path, splits: Sequence[str]) -> _Line:
    cells = row.cells
    word = cells.get("split", unnamed_split(splits))
    split = split_of(word)
    if split is None:
        raise DataError(
            f"Expected train, val or test in the column split of {path}, but line {row.line} has {word.strip()!r}."
        )
    name = cells["filename"].strip().replace("\\", "/")
    label = cells["label"].strip()
    return _Line(
        name=PurePosixPath(name).as_posix() if name else "",
        label="" if is_no_label(label) else label,
        split=split,
        box=_box(cells, path, row.line),
        number=row.line,
    )


def _box(cells: Mapping[str, str], path: Path, number: int) -> Box | BoxFault | None:
    sides = [cells.get(side, "").strip() for side in BOX]
    try:
        return read_box(sides)
    except ValueError:
        raise DataError(
            f"Expected pixels in the columns {', '.join(BOX)} of {path}, but line {number} has {', '.join(sides)}."
        ) from None


def _numbers_in(lines: Iterable[_Line]) -> set[int]:
    """The labels as numbers, if all of them are."""
    labels = {line.label for line in lines if line.label}
    return {int(float(label)) for label in labels} if all(map(_NUMBER.fullmatch, labels)) else set()


def _no_class_list(path: Path) -> DataError:
    return DataError(
        f"Expected class names in the column label of {path}, but found numbers. Say what they mean: "
        "give a class list (--classes FILE: one name per line, classes.json or cars_meta.mat), or put "
        "classes.txt beside the CSV file."
    )


def _first_number(path: Path, numbers: set[int], classes: int, asked: int | None) -> tuple[int, list[str]]:
    """The number of the first class, 0 or 1, and a note on how it was inferred if the user has not given it."""
    found = f"{min(numbers)} to {max(numbers)} for {classes} classes"
    if asked is None and 0 not in numbers and max(numbers) != classes:
        raise UsageError(
            f"Expected to know whether the class numbers in {path} count from 0 or from 1, but {found} fit both. "
            "Add --labels-from 0 or --labels-from 1; those of the original release of Stanford Cars count from 1."
        )
    proven = 0 if 0 in numbers else 1 if max(numbers) == classes else asked
    if asked not in (None, proven):
        raise UsageError(
            f"Expected class numbers from {asked} in {path}, as --labels-from says, but {found} count from {proven}."
        )
    return (1, [f"Class numbers count from 1: {found}."]) if proven == 1 and asked is None else (proven or 0, [])


def _classes_of(path: Path, lines: Iterable[_Line], splits: Sequence[str], *, allow_untrained: bool) -> ClassNames:
    """The classes of a file without a class list: those of the training photos, sorted; see `classes_of_all`."""
    names: dict[str, set[str]] = {}
    for line in lines:
        if line.label:
            names.setdefault(line.split, set()).add(canonical_name(line.label))
    allow_untrained = allow_untrained or "train" not in splits
    if not names or ("train" not in names and not allow_untrained):
        raise no_training_photos(path)
    train = ClassNames(tuple(sorted(names["train"]))) if "train" in names else None
    others = {split: sorted(found) for split, found in names.items()}
    return classes_of_all(train, others, allow_untrained=allow_untrained)


def _as_source_row(root: Path, line: _Line, found: FoundName, classes: ClassNames, first: int | None) -> SourceRow:
    return SourceRow(
        name=found.name,
        label=_label(line.label, classes, first),
        split=line.split,
        photo=root / found.name,
        box=None if isinstance(line.box, BoxFault) else line.box,
        box_fault=line.box if isinstance(line.box, BoxFault) else None,
        line=line.number,
        fault=_fault_of(root, found),
    )


def _label(text: str, classes: ClassNames, first: int | None) -> int | str | None:
    if not text:
        return None
    if first is not None:
        index = int(float(text)) - first
        return index if 0 <= index < len(classes) else text
    found = classes.find(text)
    return text if found is None else found


def _fault_of(root: Path, found: FoundName) -> PhotoError | None:
    if found.others:
        return PhotoError(
            Defect.MISSING,
            f"Expected a photo {found.name}, but found {shorten(found.others)}. Write which one is meant.",
        )
    if Path(found.name).is_absolute():
        return PhotoError(
            Defect.OUTSIDE,
            f"Expected a file below {root}, but {found.name} lies elsewhere. Move the CSV file to a folder above all "
            "of its photos.",
        )
    return None


def _malformed_row(row: CsvRow) -> SourceRow:
    fault = PhotoError(Defect.MALFORMED, row.fault)
    return SourceRow(name="", label=None, split="train", photo=b"", fault=fault)


def _photo_root(folder: Path, lines: Iterable[_Line]) -> Path:
    """The folder of the file or a subfolder, wherever most of the photos are; the former if names are absolute."""
    names = [line.name for line in lines if not is_outside(line.name)]

    def count_photos(root: Path) -> int:
        known = PhotoNames(root)
        return sum(known.find(name).exists for name in names) if root.is_dir() else -1

    return max((folder / inner for inner in _PHOTO_FOLDERS), key=count_photos)


def _respelled(lines: Sequence[_Line], found: Sequence[FoundName]) -> list[str]:
    """A note on the names that are spelled differently on disk."""
    pairs = [(line.name, at.name) for line, at in zip(lines, found, strict=True) if at.respelled]
    if not pairs:
        return []
    listed, name = pairs[0]
    return [
        f"The names of {len(pairs)} of {len(lines)} photos differ from those of their only matching files, such as "
        f"{listed!r} for {name!r}."
    ]
