"""A folder a class: below `train/`, `val/` and `test/`, or all in one tree that is taken for training photos.

Photos in folders below a class folder belong to the class, unless these may be classes themselves: several of them, and
no photo beside them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from twincar.data.sources.base import (
    SPLIT_WORDS,
    Source,
    SourceRow,
    check_split_words,
    classes_of_all,
    row_fingerprint,
)
from twincar.errors import DataError
from twincar.labels import ClassNames, canonical_name, shorten
from twincar.listing import Skip, Skipped, look_into, photos_below

log = logging.getLogger(__name__)

_Tree = dict[Path, list[Path]]
"""The class folders of one split, and the photos of each."""


def open_folders(folder: Path, splits: tuple[str, ...], *, allow_untrained: bool = False) -> Source:
    """Read the names of folders and photos; for `allow_untrained` see `classes_of_all`.

    Raises:
        DataError: no class folders, an empty one, or a class that has no training folder.
        LabelError: two folders of one split are spellings of one class.
    """
    check_split_words(splits)
    skipped = Skipped()
    found = _split_folders(folder, skipped)
    trees = {split: _class_folders(folder, tree, skipped) for split, tree in found.items() if split in splits}
    if "train" not in trees:
        raise DataError(f"Expected training photos in {folder / 'train'}, and there is no such folder.")
    names = {split: [canonical_name(tree.name) for tree in tree_photos] for split, tree_photos in trees.items()}
    # Every split goes through ClassNames, which refuses two spellings of one class.
    classes = {split: ClassNames(tuple(listed)) for split, listed in names.items() if listed}
    if "train" not in classes:
        raise _no_class_folders(folder)
    skipped.log()
    train = ClassNames(tuple(sorted(classes["train"].names)))
    lists = {split: listed.names for split, listed in classes.items()}
    known = classes_of_all(train, lists, allow_untrained=allow_untrained)
    rows = [row for split, tree in trees.items() for row in _rows_of(folder, split, tree, known)]
    return Source(
        description=str(folder),
        revision="",
        classes=known,
        class_lists=lists,
        fingerprint=row_fingerprint(rows),
        total=len(rows),
        rows=lambda: rows,
        photo_root=folder,
        skipped=skipped.to_dict(),
    )


def _split_folders(folder: Path, skipped: Skipped) -> Mapping[str, Path]:
    """The tree of each split; one tree alone is all training photos."""
    found: dict[str, Path] = {}
    folders, _ = look_into(folder, Skipped())
    others = []
    for tree in folders:
        split = SPLIT_WORDS.get(tree.name.casefold())
        if split in found:
            raise DataError(f"Expected one folder for the split '{split}', and found {found[split]} and {tree}.")
        if split:
            found[split] = tree
        else:
            others.append(tree)
    if not found:
        return {"train": folder}
    for photo in look_into(folder, skipped)[1]:
        skipped.add(Skip.NO_CLASS, str(photo))
    for tree in others:
        _count_other(tree, skipped)
    return found


def _count_other(tree: Path, skipped: Skipped) -> None:
    """The photos of a folder beside those of the splits: nobody knows what they are for, but they must be told of."""
    photos = 0
    for photo in photos_below(tree, Skipped(), within=[tree.parent]):
        skipped.add(Skip.OTHER_FOLDER, str(photo))
        photos += 1
    if photos:
        log.warning(
            "%s holds %d photos that are not read: it is none of the folders %s. Rename it if they belong to a split.",
            tree,
            photos,
            ", ".join(SPLIT_WORDS),
        )


def _class_folders(source: Path, tree: Path, skipped: Skipped) -> _Tree:
    """The class folders of one split with their photos; an empty one is a class that got lost on the way."""
    folders, loose = look_into(tree, skipped)
    within = {source, tree}
    found = {folder: sorted(photos_below(folder, skipped, within=within)) for folder in folders}
    empty = [folder.name for folder, photos in found.items() if not photos]
    if empty and len(empty) < len(folders):
        raise DataError(
            f"Expected photos in every class folder of {tree}, and {len(empty)} of {len(folders)} have none: "
            f"{shorten(empty)}. Fill them, or delete them if these classes are not meant to be there."
        )
    if empty or not folders:
        return {}
    for photo in loose:
        skipped.add(Skip.NO_CLASS, str(photo))
    for folder, photos in found.items():
        _check_unambiguous(folder, photos)
    return found


def _check_unambiguous(folder: Path, photos: list[Path]) -> None:
    """Refuse a class folder that may be a folder of classes."""
    below = {photo.relative_to(folder).parts[0] for photo in photos if photo.parent != folder}
    if len(below) > 1 and not any(photo.parent == folder for photo in photos):
        raise DataError(
            f"Expected the photos of a class in {folder}, but found folders only, which may be classes themselves: "
            f"{shorten(sorted(below))}. Put the folders of all classes side by side, or list the photos in a CSV file."
        )


def _rows_of(folder: Path, split: str, tree: _Tree, classes: ClassNames) -> list[SourceRow]:
    return [
        SourceRow(
            name=photo.relative_to(folder).as_posix(),
            label=classes.find(canonical_name(class_folder.name)),
            split=split,
            photo=photo,
        )
        for class_folder, photos in tree.items()
        for photo in photos
    ]


def _no_class_folders(folder: Path) -> DataError:
    entries = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    _, loose = look_into(folder, Skipped())
    if not entries:
        found = "the folder is empty"
    elif loose:
        found = f"{len(loose)} photos lie in it without a folder that names their class"
    else:
        found = f"found {shorten(entries)}"
    return DataError(
        f"Expected a data set in {folder} (parquet files, cars_meta.mat, annotations.csv, or a folder of photos "
        f"for each class), and {found}."
    )
