"""The original release of Stanford Cars: MATLAB files that list photos, boxes and classes.

    cars_meta.mat                        the class names, in the order of their numbers, which count from 1
    cars_train_annos.mat                 photos, boxes and classes of the training half
    cars_test_annos_withlabels.mat       the same for the test half; a separate download
    cars_test_annos.mat                  the test half without classes
    cars_train/ or cars_train/cars_train/, cars_test/ likewise        the photos

Or the later release of the same photos under other names:

    cars_annos.mat                       class names, photos, boxes, classes, and which photos are for testing
    car_ims/ or car_ims/car_ims/         the photos

Boxes in these files count pixels from 1 and include the last; `Box` counts from 0 and excludes the last.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from twincar.core.errors import DataError
from twincar.core.files import sha256_of_file
from twincar.core.labels import ClassNames, canonical_name, shorten
from twincar.data.dataset import is_outside
from twincar.data.sources.base import Source, SourceRow, check_split_words, row_fingerprint
from twincar.data.sources.matfile import read_variable

META = "cars_meta.mat"
MERGED = "cars_annos.mat"
_ANNOTATIONS = {
    "train": ("cars_train_annos.mat",),
    "test": ("cars_test_annos_withlabels.mat", "cars_test_annos.mat"),
}
_BOX = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
_FOLDERS = ("", "devkit", "car_devkit/devkit", "car_devkit", "cars_devkit/devkit", "cars_devkit")


def find_in_release(folder: Path, *names: str) -> Path | None:
    """The first of `names` that exists, in the folders where the release and its mirrors put them."""
    candidates = [folder / inner / name for name in names for inner in _FOLDERS]
    return next((path for path in candidates if path.is_file()), None)


def open_devkit(folder: Path, splits: tuple[str, ...]) -> Source:
    """Read the lists of the original release.

    Raises:
        DataError: a file or folder is missing or damaged, or a class number is out of range.
    """
    check_split_words(splits)
    meta = find_in_release(folder, META)
    if meta is None:
        raise DataError(f"Expected {META} in {folder} or in its devkit folder, but it is not there.")
    classes = ClassNames(tuple(read_class_names(meta)))
    lists = {split: find_in_release(folder, *names) for split, names in _ANNOTATIONS.items() if split in splits}
    for split, path in lists.items():
        if path is None and (split == "train" or "train" not in splits):
            raise DataError(f"Expected {_ANNOTATIONS[split][0]} beside {meta}, but it is not there.")
    found = {split: path for split, path in lists.items() if path}
    rows = [row for split, path in found.items() for row in _rows_of(folder, split, path, classes)]
    return Source(
        description=str(folder),
        revision="",
        classes=classes,
        fingerprint=row_fingerprint(rows, *(sha256_of_file(path) for path in (meta, *found.values()))),
        total=len(rows),
        rows=lambda: rows,
        photo_root=folder,
    )


def open_merged(folder: Path, splits: tuple[str, ...]) -> Source:
    """Read the list of the later release, whose photos are in `car_ims/`.

    Raises:
        DataError: the photos are missing, the file is damaged, or a class number is out of range.
    """
    check_split_words(splits)
    path = find_in_release(folder, MERGED) or folder / MERGED
    root = next((parent for parent in (folder / "car_ims", folder) if (parent / "car_ims").is_dir()), None)
    if root is None:
        raise DataError(
            f"Expected the photos that {path} lists in {folder / 'car_ims'}, but there is no such folder. Those in "
            "cars_train and cars_test have other numbers: they need cars_train_annos.mat and cars_meta.mat of the "
            "original release."
        )
    classes = ClassNames(tuple(read_class_names(path)))
    rows = []
    for entry in _entries(path, ("relative_im_path", "class", "test", *_BOX)):
        name = str(entry["relative_im_path"])
        x1, y1, x2, y2, number, test = _numbers(entry, name, path, (*_BOX, "class", "test"))
        rows.append(
            SourceRow(
                name=name if is_outside(name) else (root / name).relative_to(folder).as_posix(),
                label=_label(number, name, path, classes),
                split="test" if test else "train",
                photo=root / name,
                box=(x1 - 1, y1 - 1, x2, y2),
            )
        )
    rows = [row for row in rows if row.split in splits]
    return Source(
        description=str(folder),
        revision="",
        classes=classes,
        fingerprint=row_fingerprint(rows, sha256_of_file(path)),
        total=len(rows),
        rows=lambda: rows,
        photo_root=folder,
    )


def read_class_names(meta: Path) -> list[str]:
    """The class names in a `cars_meta.mat`, in their order.

    Raises:
        DataError: the file is of another kind.
    """
    names = _load(meta, "class_names")
    if not all(isinstance(name, str) for name in names):
        raise DataError(f"Expected names in the variable 'class_names' of {meta}, but found other values.")
    return [canonical_name(name) for name in names]


def _rows_of(folder: Path, split: str, path: Path, classes: ClassNames) -> list[SourceRow]:
    photos = _photo_folder(folder, split)
    entries = _entries(path, ("fname", *_BOX))
    has_labels = "class" in entries[0]
    rows = []
    for entry in entries:
        name = str(entry["fname"])
        x1, y1, x2, y2, *number = _numbers(entry, name, path, (*_BOX, *["class"] * has_labels))
        rows.append(
            SourceRow(
                # An absolute name stays absolute; the audit then reports that it leads out of the folder.
                name=name if is_outside(name) else f"{photos.relative_to(folder).as_posix()}/{name}",
                label=_label(number[0], name, path, classes) if number else None,
                split=split,
                photo=photos / name,
                box=(x1 - 1, y1 - 1, x2, y2),
            )
        )
    return rows


def _entries(path: Path, fields: Iterable[str]) -> list[Any]:
    """The photos that a file lists, at least one, checked to have these fields."""
    entries = _load(path, "annotations")
    found = list(entries[0]) if entries and isinstance(entries[0], dict) else []
    if not set(fields) <= set(found):
        raise DataError(f"Expected file names and boxes in {path}, but found the fields {shorten(found, 8) or 'none'}.")
    return entries


def _numbers(entry: Any, name: str, path: Path, fields: Iterable[str]) -> list[int]:
    try:
        return [int(entry[field]) for field in fields]
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"Expected whole numbers in {path} for box and class of {name[:100]!r}.") from None


def _label(number: int, name: str, path: Path, classes: ClassNames) -> int:
    """The index, from 0, of a class number that counts from 1."""
    if not 1 <= number <= len(classes):
        raise DataError(
            f"Expected class numbers from 1 to {len(classes)} in {path}, but {name} has {number}. "
            "Take the file from the same release as cars_meta.mat."
        )
    return number - 1


def _photo_folder(folder: Path, split: str) -> Path:
    """The folder of photos, which unpacking may nest in another one of the same name."""
    name = f"cars_{split}"
    for photos in (folder / name / name, folder / name):
        if photos.is_dir():
            return photos
    advice = f"Unpack {name}.tgz there" + ("." if split == "train" else ", or leave the split out (--split train).")
    raise DataError(f"Expected the photos of '{split}' in {folder / name}, but there is no such folder. {advice}")


def _load(path: Path, variable: str) -> list[Any]:
    try:
        found = read_variable(path, variable)
    except KeyError:
        raise DataError(f"Expected the variable '{variable}' in {path}, but it is not there.") from None
    except (OSError, ValueError) as error:
        raise DataError(f"Expected a MATLAB file of Stanford Cars at {path}, but it cannot be read: {error}") from None
    return found if isinstance(found, list) else [found]
