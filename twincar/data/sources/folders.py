"""Class folders: below `train/`, `val/` and `test/`, or all in one tree that is taken for training photos.

layouts.py decides what each folder means. Photos in subfolders of a class folder belong to the class, unless these may
be classes themselves: several subfolders without a photo beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from twincar.core.errors import DataError
from twincar.core.labels import ClassNames, canonical_name, shorten
from twincar.core.photos import Box
from twincar.core.skipped import Skipped
from twincar.core.wording import counted
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
from twincar.data.sources.layouts import class_folders, class_name, no_class_folders, read_boxes, split_folders

_Tree = dict[Path, list[Path]]
"""The class folders of one split, with the photos of each."""


def open_folders(folder: Path, splits: tuple[str, ...], *, allow_untrained: bool = False) -> Source:
    """Read the names of folders and photos; for `allow_untrained` see `classes_of_all`.

    Raises:
        DataError: there are no class folders with photos, or a class has no training folder.
        LabelError: two folders of one split are spellings of one class.
    """
    check_split_words(splits)
    skipped = Skipped()
    allow_untrained = allow_untrained or "train" not in splits
    tops, trees = _trees(folder, splits, skipped)
    empty_notes = [note for tree in trees.values() for note in _drop_empty(tree)]
    if "train" not in trees and not allow_untrained:
        raise no_training_photos(folder)
    lists = _class_lists(tops, trees)
    if not lists or ("train" not in lists and not allow_untrained):
        raise no_class_folders(folder)
    train = ClassNames(tuple(sorted(lists["train"]))) if "train" in lists else None
    known = classes_of_all(train, lists, allow_untrained=allow_untrained)
    skipped.log()
    rows, notes = [], [*empty_notes, *_notes([(tops[split], tree) for split, tree in trees.items()])]
    for split, tree in trees.items():
        boxes = read_boxes(folder, tops[split], split)
        rows += _rows_of(folder, split, tops[split], tree, known, boxes)
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
        skipped=skipped.to_dict(),
    )


def _trees(folder: Path, splits: tuple[str, ...], skipped: Skipped) -> tuple[Mapping[str, Path], dict[str, _Tree]]:
    """The folder of each split, and the class folders of the requested ones; a single tree is one split."""
    tops = split_folders(folder, skipped) or {unnamed_split(splits): folder}
    trees: dict[str, _Tree] = {
        split: class_folders(folder, top, skipped) for split, top in tops.items() if split in splits
    }
    if not trees:
        raise DataError(
            f"Expected a folder for the split {shorten(splits)} in {folder}, but its splits are {shorten(tops)}."
        )
    return tops, trees


def _drop_empty(tree: _Tree) -> list[str]:
    """Take the class folders without photos out of a tree, and name them in a note."""
    folders, empty = len(tree), [path for path, photos in tree.items() if not photos]
    for path in empty:
        del tree[path]
    if not empty:
        return []
    names = shorten((path.name for path in empty), 20)
    return [f"{len(empty)} of {counted(folders, 'class folder')} without photos, left out: {names}."]


def _class_lists(tops: Mapping[str, Path], trees: Mapping[str, _Tree]) -> dict[str, tuple[str, ...]]:
    """The classes of each split that has any, checked by ClassNames, which refuses two spellings of one class."""
    names = {
        split: tuple(_class_of(tops[split], path) for path in tree if not is_no_label(path.name))
        for split, tree in trees.items()
    }
    return {split: ClassNames(found).names for split, found in names.items() if found}


def _class_of(top: Path, class_folder: Path) -> str:
    return canonical_name(class_name(top, class_folder))


def _rows_of(
    folder: Path, split: str, top: Path, tree: _Tree, classes: ClassNames, boxes: Mapping[str, Box]
) -> list[SourceRow]:
    return [
        SourceRow(
            name=photo.relative_to(folder).as_posix(),
            label=None if is_no_label(path.name) else classes.find(_class_of(top, path)),
            split=split,
            photo=photo,
            box=boxes.get(photo.name),
        )
        for path, photos in tree.items()
        for photo in photos
    ]


def _lost_boxes(split: str, boxes: Mapping[str, Box], rows: list[SourceRow]) -> list[str]:
    lost = boxes.keys() - {row.name.rpartition("/")[2] for row in rows if row.split == split}
    return [f"{len(lost)} of {len(boxes)} boxes for {split} match no photo, such as {min(lost)}."] if lost else []


def _notes(trees: list[tuple[Path, _Tree]]) -> list[str]:
    """How the folders were interpreted, if that is not obvious."""
    deep = [(top, path) for top, tree in trees for path in tree if path.parent != top]
    if not deep:
        return []
    top, path = deep[0]
    example = path.relative_to(top).as_posix()
    return [f"Folders of makes, models and years: {example} is the class {_class_of(top, path)!r}."]
