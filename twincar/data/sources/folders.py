"""A folder a class: below `train/`, `val/` and `test/`, or all in one tree that is taken for training photos."""

from __future__ import annotations

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
from twincar.preprocess import PHOTO_SUFFIXES


def open_folders(folder: Path, splits: tuple[str, ...], *, allow_untrained: bool = False) -> Source:
    """Read the names of folders and photos; for `allow_untrained` see `classes_of_all`.

    Raises:
        DataError: no class folders, an empty one, or a class that has no training folder.
        LabelError: two folders of one split are spellings of one class.
    """
    check_split_words(splits)
    trees = {split: _class_folders(tree) for split, tree in _split_folders(folder).items() if split in splits}
    if "train" not in trees:
        raise DataError(f"Expected training photos in {folder / 'train'}, and there is no such folder.")
    names = {split: [canonical_name(tree.name) for tree in found] for split, found in trees.items()}
    # Every split goes through ClassNames, which refuses two spellings of one class.
    classes = {split: ClassNames(tuple(found)) for split, found in names.items() if found}
    if "train" not in classes:
        raise _no_class_folders(folder)
    train = ClassNames(tuple(sorted(classes["train"].names)))
    lists = {split: found.names for split, found in classes.items()}
    known = classes_of_all(train, lists, allow_untrained=allow_untrained)
    rows = [row for split, found in trees.items() for row in _rows_of(folder, split, found, known)]
    return Source(
        description=str(folder),
        revision="",
        classes=known,
        class_lists=lists,
        fingerprint=row_fingerprint(rows),
        total=len(rows),
        rows=lambda: rows,
        photo_root=folder,
    )


def _split_folders(folder: Path) -> Mapping[str, Path]:
    """The tree of each split; one tree alone is all training photos."""
    found: dict[str, Path] = {}
    for tree in _folders_in(folder):
        split = SPLIT_WORDS.get(tree.name.casefold())
        if split in found:
            raise DataError(f"Expected one folder for the split '{split}', and found {found[split]} and {tree}.")
        if split:
            found[split] = tree
    return found or {"train": folder}


def _class_folders(tree: Path) -> list[Path]:
    """The class folders of one split that hold photos; an empty one is a class that got lost on the way."""
    folders = _folders_in(tree)
    empty = [folder.name for folder in folders if not _photos_in(folder)]
    if empty and len(empty) < len(folders):
        raise DataError(
            f"Expected photos in every class folder of {tree}, and {len(empty)} of {len(folders)} have none: "
            f"{shorten(empty)}. Fill them, or delete them if these classes are not meant to be there."
        )
    return [] if empty else folders


def _rows_of(folder: Path, split: str, trees: list[Path], classes: ClassNames) -> list[SourceRow]:
    return [
        SourceRow(
            name=photo.relative_to(folder).as_posix(),
            label=classes.find(canonical_name(tree.name)),
            split=split,
            photo=photo,
        )
        for tree in trees
        for photo in _photos_in(tree)
    ]


def _folders_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _photos_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.casefold() in PHOTO_SUFFIXES and path.name[0] != ".")


def _no_class_folders(folder: Path) -> DataError:
    entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
    loose = sum(path.suffix.casefold() in PHOTO_SUFFIXES for path in entries)
    if not entries:
        found = "the folder is empty"
    elif loose:
        found = f"{loose} photos lie in it without a folder that names their class"
    else:
        found = f"found {shorten(sorted(path.name for path in entries))}"
    return DataError(
        f"Expected a data set in {folder} (parquet files, cars_meta.mat, annotations.csv, or a folder of photos "
        f"for each class), and {found}."
    )
