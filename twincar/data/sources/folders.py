"""A folder a class: below `train/`, `val/` and `test/`, or all in one tree that is taken for training photos.

Which folder means what is told in layouts.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from twincar.data.annotations import Box
from twincar.data.sources.base import (
    Source,
    SourceRow,
    check_split_words,
    classes_of_all,
    is_no_label,
    no_training_photos,
    row_fingerprint,
    unnamed_split,
)
from twincar.data.sources.layouts import (
    class_folders,
    class_name,
    no_class_folders,
    read_boxes,
    split_folders,
    unread_folders,
)
from twincar.errors import DataError
from twincar.labels import ClassNames, canonical_name, shorten
from twincar.preprocess import PHOTO_SUFFIXES


def open_folders(folder: Path, splits: tuple[str, ...], *, allow_untrained: bool = False) -> Source:
    """Read the names of folders and photos; for `allow_untrained` see `classes_of_all`.

    Raises:
        DataError: no class folders, an empty one, or a class that has no training folder.
        LabelError: two folders of one split are spellings of one class.
    """
    check_split_words(splits)
    allow_untrained = allow_untrained or "train" not in splits
    tops = split_folders(folder) or {unnamed_split(splits): folder}
    trees = {split: _class_folders(tree) for split, tree in tops.items() if split in splits}
    if "train" not in trees and not allow_untrained:
        raise no_training_photos(folder)
    if not trees:
        raise DataError(
            f"Expected a folder for the split {shorten(splits)} in {folder}, but those are {shorten(tops)}."
        )
    names = {
        split: [_class_of(tops[split], tree) for tree in found if not is_no_label(tree.name)]
        for split, found in trees.items()
    }
    # Every split goes through ClassNames, which refuses two spellings of one class.
    classes = {split: ClassNames(tuple(found)) for split, found in names.items() if found}
    if not classes or ("train" not in classes and not allow_untrained):
        raise no_class_folders(folder)
    train = ClassNames(tuple(sorted(classes["train"].names))) if "train" in classes else None
    lists = {split: found.names for split, found in classes.items()}
    known = classes_of_all(train, lists, allow_untrained=allow_untrained)
    rows, notes = [], _notes(folder, [(tops[split], found) for split, found in trees.items()])
    for split, found in trees.items():
        boxes = read_boxes(folder, tops[split], split)
        rows += _rows_of(folder, split, tops[split], found, known, boxes)
        notes += _lost_boxes(split, boxes, rows)
    return Source(
        description=str(folder),
        revision="",
        classes=known,
        notes=tuple(notes),
        class_lists=lists,
        fingerprint=row_fingerprint(rows),
        total=len(rows),
        rows=lambda: rows,
        photo_root=folder,
    )


def _class_folders(tree: Path) -> list[Path]:
    """The class folders of one split that hold photos; an empty one is a class that got lost on the way."""
    folders = class_folders(tree)
    empty = [folder.name for folder in folders if not _photos_in(folder)]
    if empty and len(empty) < len(folders):
        raise DataError(
            f"Expected photos in every class folder of {tree}, and {len(empty)} of {len(folders)} have none: "
            f"{shorten(empty)}. Fill them, or delete them if these classes are not meant to be there."
        )
    return [] if empty else folders


def _class_of(top: Path, tree: Path) -> str:
    return canonical_name(class_name(top, tree))


def _rows_of(
    folder: Path, split: str, top: Path, trees: list[Path], classes: ClassNames, boxes: Mapping[str, Box]
) -> list[SourceRow]:
    return [
        SourceRow(
            name=photo.relative_to(folder).as_posix(),
            label=None if is_no_label(tree.name) else classes.find(_class_of(top, tree)),
            split=split,
            photo=photo,
            box=boxes.get(photo.name),
        )
        for tree in trees
        for photo in _photos_in(tree)
    ]


def _lost_boxes(split: str, boxes: Mapping[str, Box], rows: list[SourceRow]) -> list[str]:
    lost = boxes.keys() - {row.name.rpartition("/")[2] for row in rows if row.split == split}
    return [f"{len(lost)} of {len(boxes)} boxes for {split} fit no photo, such as {min(lost)}."] if lost else []


def _notes(folder: Path, trees: list[tuple[Path, list[Path]]]) -> list[str]:
    """What the folders were taken for, where that is not plain."""
    deep = [(top, tree) for top, found in trees for tree in found if tree.parent != top]
    notes = []
    if deep:
        top, tree = deep[0]
        path = tree.relative_to(top).as_posix()
        notes.append(f"Folders of makes, models and years: {path} is the class {_class_of(top, tree)!r}.")
    if unread := unread_folders(folder):
        notes.append(f"Not read, as the name means no split: {shorten(unread)}.")
    return notes


def _photos_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.casefold() in PHOTO_SUFFIXES and path.name[0] != ".")
