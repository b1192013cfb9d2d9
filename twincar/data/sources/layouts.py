"""Which folder means which split and which class, in the ways in which photos are kept in folders.

train/CLASS/ and test/CLASS/        also training/, testing/, test_set/, val/, valid/, validation/
CLASS/                              one tree, all for training
MAKE/MODEL/YEAR/                    the class is 'MAKE MODEL YEAR'; known by the years
car_data/car_data/train/CLASS/      folders that hold one folder only, above the splits; a copy of Stanford Cars by
                                    classes has its boxes beside them, in anno_train.csv and anno_test.csv
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from pathlib import Path

from twincar.data.annotations import MANIFEST, Box
from twincar.data.sources.base import split_of
from twincar.data.sources.csv_file import read_text
from twincar.errors import DataError
from twincar.labels import shorten
from twincar.preprocess import PHOTO_SUFFIXES

_YEAR = re.compile(r"(18|19|20)\d\d")
_DEEPEST = 5  # folders one in another that are looked at for photos


def split_folders(folder: Path) -> Mapping[str, Path]:
    """The tree of each split; empty where no folder is named after one.

    Raises:
        DataError: two folders mean one split.
    """
    top = _below_wrappings(folder)
    found: dict[str, Path] = {}
    for tree in folders_in(top):
        split = split_of(tree.name)
        if split in found:
            raise DataError(f"Expected one folder for the split '{split}', and found {found[split]} and {tree}.")
        if split:
            found[split] = tree
    return found


def unread_folders(folder: Path) -> list[str]:
    """Folders beside those of the splits that mean no split, though they hold folders of photos."""
    top = _below_wrappings(folder)
    beside = folders_in(top)
    if not any(split_of(tree.name) for tree in beside):
        return []
    return [tree.name for tree in beside if not split_of(tree.name) and any(map(holds_photos, folders_in(tree)))]


def class_folders(tree: Path) -> list[Path]:
    """The folders of one split that mean a class each: those in it, or the years of a tree of makes and models.

    Raises:
        DataError: no class folder holds a photo, and what lies deeper is no such tree.
    """
    classes = folders_in(tree)
    if any(map(holds_photos, classes)):
        return classes
    deeper = [folder for path in classes for folder in _folders_of_photos(path)]
    if deeper and all(_is_year(folder, tree, deeper) for folder in deeper):
        return deeper
    if deeper:
        first = deeper[0].relative_to(tree)
        raise DataError(
            f"Expected the photos of each class directly in its folder in {tree}, but they lie deeper, such as in "
            f"{first.as_posix()}. Give the folder that holds the class folders, or name one folder a class, such as "
            f"{' '.join(first.parts)!r}."
        )
    return classes


def class_name(tree: Path, folder: Path) -> str:
    """What the class of a class folder is called: the folder, with those above it in a tree of makes."""
    return " ".join(folder.relative_to(tree).parts)


def read_boxes(folder: Path, tree: Path, split: str) -> dict[str, Box]:
    """Boxes by file name, of an `anno_train.csv` or `anno_test.csv` above the tree of that split, if there is one.

    Its columns are name, left, top, right, bottom and class, without a header; they count from 1, the last included.

    Raises:
        DataError: a line has something else.
    """
    above = [place for place in (tree, *tree.parents) if place.is_relative_to(folder)]
    path = next((file for place in above if (file := place / f"anno_{split}.csv").is_file()), None)
    boxes: dict[str, Box] = {}
    if path is None:
        return boxes
    reader = csv.reader(io.StringIO(read_text(path), newline=""))
    try:
        for name, *numbers in filter(None, reader):
            x1, y1, x2, y2, _ = map(int, numbers)
            boxes[name] = (x1 - 1, y1 - 1, x2, y2)
    except (csv.Error, ValueError):
        raise DataError(
            f"Expected a name and five whole numbers in every line of {path}, but line {reader.line_num} has something "
            "else. Mend it, or take the file out: it is needed for boxes only."
        ) from None
    return boxes


def no_class_folders(folder: Path) -> DataError:
    """For a folder that is no data set: what it holds, and what to do about it."""
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    loose = sum(map(_is_photo, entries))
    prepared = [path for path in entries if (path / MANIFEST).is_file()]
    tables = [path.name for path in entries if path.suffix.casefold() in (".csv", ".tsv")]
    if not entries:
        found = "the folder is empty"
    elif prepared:
        found = f"{prepared[0]} in it is prepared already: give that to twincar train"
    elif tables:
        found = f"found {shorten(path.name for path in entries)}; give {tables[0]} itself if it lists the photos"
    elif loose:
        found = f"{loose} photos lie in it without a folder that names their class"
    else:
        found = f"found {shorten(path.name for path in entries)}"
    return DataError(
        f"Expected a data set in {folder} (parquet files, cars_meta.mat, annotations.csv, or a folder of photos "
        f"for each class), and {found}."
    )


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder but for hidden ones, sorted."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def holds_photos(folder: Path) -> bool:
    """Whether photos lie directly in a folder."""
    return any(_is_photo(path) for path in folder.iterdir())


def _is_photo(path: Path) -> bool:
    return path.suffix.casefold() in PHOTO_SUFFIXES and not path.name.startswith(".")


def _below_wrappings(folder: Path) -> Path:
    """Down through folders that hold one folder only, if the splits lie there; else the folder itself."""
    top = folder
    for _ in range(_DEEPEST):
        inside = folders_in(top)
        if any(split_of(path.name) for path in inside):
            return top
        if len(inside) != 1 or holds_photos(top):
            break
        top = inside[0]
    return folder


def _folders_of_photos(folder: Path, depth: int = 1) -> list[Path]:
    found = [folder] if holds_photos(folder) else []
    if depth < _DEEPEST:
        found += [deeper for path in folders_in(folder) for deeper in _folders_of_photos(path, depth + 1)]
    return found


def _is_year(folder: Path, tree: Path, beside: list[Path]) -> bool:
    """Whether a folder of photos is named after a year, as deep as the others."""
    depth = len(beside[0].relative_to(tree).parts)
    return bool(_YEAR.fullmatch(folder.name)) and len(folder.relative_to(tree).parts) == depth
