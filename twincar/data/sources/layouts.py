"""Folder layouts: the split and the class that each folder means.

train/CLASS/ and test/CLASS/        also training/, testing/, test_set/, val/, valid/, validation/
CLASS/                              one tree, all for training
MAKE/MODEL/YEAR/                    the class is 'MAKE MODEL YEAR'; recognized by the years
car_data/car_data/train/CLASS/      single folders above the splits; a copy of Stanford Cars in class folders has its
                                    boxes beside them, in anno_train.csv and anno_test.csv
"""

from __future__ import annotations

import csv
import io
import logging
import re
from collections.abc import Mapping
from pathlib import Path

from twincar.core.errors import DataError
from twincar.core.labels import shorten
from twincar.core.listing import look_into, photos_below
from twincar.core.photos import Box
from twincar.core.skipped import Skip, Skipped
from twincar.data.dataset import MANIFEST
from twincar.data.sources.base import split_of
from twincar.data.sources.csv_file import read_text

log = logging.getLogger(__name__)

_YEAR = re.compile(r"(18|19|20)\d\d")
_DEEPEST = 5  # levels of folders that are searched for photos


def split_folders(folder: Path, skipped: Skipped) -> Mapping[str, Path]:
    """The folder tree of each split; empty if no folder has the name of a split.

    Photos beside the splits are counted in `skipped`, because their split is unknown.

    Raises:
        DataError: two folders stand for one split.
    """
    top = _below_wrappings(folder)
    found: dict[str, Path] = {}
    folders, loose = look_into(top, Skipped())
    for tree in folders:
        split = split_of(tree.name)
        if split in found:
            raise DataError(f"Expected one folder for the split '{split}', but found {found[split]} and {tree}.")
        if split:
            found[split] = tree
    if found:
        for photo in loose:
            skipped.add(Skip.NO_CLASS, str(photo))
        for tree in folders:
            if tree not in found.values():
                _count_unread(tree, skipped)
    return found


def class_folders(folder: Path, tree: Path, skipped: Skipped) -> dict[Path, list[Path]]:
    """The class folders of one split, with the photos of each.

    They are its subfolders, with all photos below them, or the year folders in a tree of makes and models; none if all
    of them are empty.

    Args:
        folder: the source.
        tree: the folder of the split, or the source itself.
        skipped: counts what is skipped.

    Raises:
        DataError: a class folder holds folders that may be classes themselves.
    """
    classes, loose = look_into(tree, skipped)
    if not any(look_into(path, Skipped())[1] for path in classes):
        classes = _years(tree, classes)
    found = {path: sorted(photos_below(path, skipped, within={folder, tree})) for path in classes}
    if not any(found.values()):
        return {}
    for photo in loose:
        skipped.add(Skip.NO_CLASS, str(photo))
    for path, photos in found.items():
        _check_unambiguous(path, photos)
    return found


def class_name(tree: Path, folder: Path) -> str:
    """The class name of a class folder: its path below the tree, joined by spaces."""
    return " ".join(folder.relative_to(tree).parts)


def read_boxes(folder: Path, tree: Path, split: str) -> dict[str, Box]:
    """Boxes by file name, from an `anno_train.csv` or `anno_test.csv` in or above the tree of that split, if any.

    Its columns are name, left, top, right, bottom and class, without a header; pixels count from 1, the last included.

    Raises:
        DataError: a line has other content.
    """
    above = [parent for parent in (tree, *tree.parents) if parent.is_relative_to(folder)]
    path = next((file for parent in above if (file := parent / f"anno_{split}.csv").is_file()), None)
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
            f"Expected a name and five whole numbers in every line of {path}, but line {reader.line_num} has other "
            "content. Correct it, or remove the file: it is needed for boxes only."
        ) from None
    return boxes


def no_class_folders(folder: Path) -> DataError:
    """The error for a folder that is not a data set: what it holds, and what to do."""
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    loose = look_into(folder, Skipped())[1]
    prepared = [path for path in entries if (path / MANIFEST).is_file()]
    tables = [path.name for path in entries if path.suffix.casefold() in (".csv", ".tsv")]
    if not entries:
        found = "the folder is empty"
    elif prepared:
        found = f"{prepared[0]} in it is prepared already: use that for twincar train"
    elif tables:
        found = f"found {shorten(path.name for path in entries)}; give the path of {tables[0]} if it lists the photos"
    elif loose:
        found = f"it has {len(loose)} photos without a folder that names their class"
    else:
        found = f"found {shorten(path.name for path in entries)}"
    return DataError(
        f"Expected a data set in {folder} (parquet files, cars_meta.mat, annotations.csv, or a folder of photos "
        f"for each class), but {found}."
    )


def _count_unread(tree: Path, skipped: Skipped) -> None:
    """Count the photos in a folder beside the splits, and log a warning."""
    photos = 0
    for photo in photos_below(tree, Skipped(), within=[tree.parent]):
        skipped.add(Skip.OTHER_FOLDER, str(photo))
        photos += 1
    if photos:
        log.warning(
            "%s is not read, because its name is not that of a split (train, val or test), but it has %d photo%s. "
            "Rename it if they belong to a split.",
            tree,
            photos,
            "s" * (photos != 1),
        )


def _check_unambiguous(folder: Path, photos: list[Path]) -> None:
    """Raise an error for a class folder that may be a folder of classes."""
    below = {photo.relative_to(folder).parts[0] for photo in photos if photo.parent != folder}
    if len(below) > 1 and not any(photo.parent == folder for photo in photos):
        raise DataError(
            f"Expected the photos of a class in {folder}, but it has only folders, which may be classes themselves: "
            f"{shorten(sorted(below))}. Put the folders of all classes side by side, or list the photos in a CSV file."
        )


def _below_wrappings(folder: Path) -> Path:
    """Descend through folders that contain a single folder, if the splits lie below; else the folder itself."""
    top = folder
    for _ in range(_DEEPEST):
        inside, photos = look_into(top, Skipped())
        if any(split_of(path.name) for path in inside):
            return top
        if len(inside) != 1 or photos:
            break
        top = inside[0]
    return folder


def _years(tree: Path, folders: list[Path]) -> list[Path]:
    """The year folders, all at one depth, of a tree of makes and models; none if there are no photos at all."""
    deeper = [found for folder in folders for found in _folders_of_photos(folder)]
    depths = {len(folder.relative_to(tree).parts) for folder in deeper}
    if len(depths) > 1 or not all(_YEAR.fullmatch(folder.name) for folder in deeper):
        first = deeper[0].relative_to(tree)
        raise DataError(
            f"Expected the photos of each class directly in its folder in {tree}, but they lie deeper, such as in "
            f"{first.as_posix()}. Give the folder that contains the class folders, or make one folder a class, such as "
            f"{' '.join(first.parts)!r}."
        )
    return deeper


def _folders_of_photos(folder: Path, depth: int = 1) -> list[Path]:
    folders, photos = look_into(folder, Skipped())
    found = [folder] if photos else []
    if depth < _DEEPEST:
        found += [deeper for path in folders for deeper in _folders_of_photos(path, depth + 1)]
    return found
