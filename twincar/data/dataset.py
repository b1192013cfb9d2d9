"""The format of a prepared data set: one folder that gives the class and the split of every photo.

    annotations.csv   one row per photo: file,label,class_name,split,width,height,x1,y1,x2,y2 (the source's box),
                      crop_x1,crop_y1,crop_x2,crop_y2 (the part that is used, if not all of the photo),sha256
    classes.json      one row per class, see `ClassNames.to_rows`
    manifest.json     source, settings, counts, and the hashes of the two other files; written last
    photos/           the photos, if the source does not have them as files

A folder without a manifest is not prepared, and one whose hashes do not match is damaged.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, TypeVar

import numpy as np

from twincar.core.errors import DataError, UsageError
from twincar.core.files import read_json, sha256_of, write_csv, write_json
from twincar.core.labels import ClassNames
from twincar.core.options import Framing
from twincar.core.photos import Box, PhotoCrop
from twincar.core.runs import RunFolder
from twincar.core.wording import command

Parsed = TypeVar("Parsed")

SPLITS = ("train", "val", "test")
FORMAT = 2
ANNOTATIONS, CLASSES, MANIFEST = "annotations.csv", "classes.json", "manifest.json"
CACHE = ".cache"
"""Folder for what can be recomputed; it lies below the data, so that it is deleted with them."""
_SPLIT = re.compile(r"[\w-]{1,100}")
_LONGEST_PATH = 4000  # characters
_BOX_COLUMNS = ("x1", "y1", "x2", "y2")
_CROP_COLUMNS = ("crop_x1", "crop_y1", "crop_x2", "crop_y2")
_COLUMNS = ("file", "label", "class_name", "split", "width", "height", *_BOX_COLUMNS, *_CROP_COLUMNS, "sha256")


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """One valid photo."""

    file: str
    """Path relative to the photo folder, with forward slashes."""
    label: int | None
    """Index of its class; None in a test split whose labels are not published."""
    split: str
    """'train', 'val', 'test', or the name of another split of the source."""
    width: int
    """Width of the upright photo, pixels."""
    height: int
    """Height of the upright photo, pixels."""
    box: Box | None
    """Bounding box of the car; None if the source has none."""
    crop: Box | None = None
    """The part of the photo that is trained on and judged; None is all of it."""
    sha256: str
    """SHA-256 of the file's bytes, hexadecimal."""

    @property
    def box_in_crop(self) -> Box | None:
        """The part of `box` inside `crop`, in pixels of the crop; None if there is none."""
        if self.box is None or self.crop is None:
            return self.box
        x, y, *_ = self.crop
        x1, y1, x2, y2 = clip_box(self.box, self.crop)
        return (x1 - x, y1 - y, x2 - x, y2 - y) if x1 < x2 and y1 < y2 else None


@dataclass(frozen=True)
class PreparedData:
    """A prepared data set, opened."""

    folder: Path
    photo_root: Path
    classes: ClassNames
    annotations: tuple[Annotation, ...]
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> PreparedData:
        """Open a folder that `prepare` has written.

        Raises:
            UsageError: there is no such folder, or it is not a prepared data set.
            DataError: the folder is damaged, of another format, or its photos are missing.
        """
        folder = Path(folder)
        manifest = _read_manifest(folder)
        classes = _parsed(_parse_classes, folder, manifest, CLASSES)
        annotations = _parsed(_parse_annotations, folder, manifest, ANNOTATIONS)
        if any(annotation.label is not None and annotation.label >= len(classes) for annotation in annotations):
            raise _damaged(folder, f"{ANNOTATIONS} has labels that {CLASSES} has no names for")
        photo_root = folder / manifest["photo_root"]
        if not photo_root.is_dir():
            raise DataError(
                f"Expected the photos of {folder} in {photo_root}, but there is no such folder. "
                "Put them back there, or prepare the data set again from where they are now."
            )
        return cls(folder, photo_root, classes, annotations, manifest)

    @classmethod
    def of_run(cls, run: RunFolder, folder: Path | None = None) -> PreparedData:
        """Open the data set a run was trained on, or the one in `folder` instead.

        Raises:
            UsageError, DataError: as for `open`.
        """
        return cls.open(folder or Path(run.read_config().data))

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.resolve().name

    def split(self, name: str) -> list[Annotation]:
        """The photos of one split.

        Raises:
            DataError: the split has no photos.
        """
        chosen = [annotation for annotation in self.annotations if annotation.split == name]
        if not chosen:
            counts = count_splits(self.annotations)
            found = ", ".join(f"{split} ({count})" for split, count in counts.items())
            raise DataError(
                f"Expected photos in the split {name!r} of {self.folder}, but it has none; there are {found}. "
                "Choose one of these, or prepare a source that has the split."
            )
        return chosen

    def has_split(self, name: str) -> bool:
        """Whether the split has photos."""
        return any(annotation.split == name for annotation in self.annotations)

    def classes_without(self, split: str) -> list[str]:
        """The classes without photos in a split."""
        present = {annotation.label for annotation in self.annotations if annotation.split == split}
        return [name for index, name in enumerate(self.classes.names) if index not in present]

    def labelled_split(self, name: str) -> list[Annotation]:
        """The photos of one split, checked to have labels.

        Raises:
            DataError: the split has no photos, or a photo without a label.
        """
        chosen = self.split(name)
        if any(annotation.label is None for annotation in chosen):
            raise DataError(
                f"Expected labels in the split {name!r} of {self.folder}, but it has photos without labels. "
                "Evaluate another split, or look at the predictions with twincar predict."
            )
        return chosen

    @property
    def framing(self) -> Framing:
        """'car' if photos were cut to their cars, else 'photo'."""
        return "car" if self.manifest.get("framing") == "car" else "photo"

    def path(self, annotation: Annotation) -> Path:
        """The file of a photo."""
        return self.photo_root / annotation.file

    def photo(self, annotation: Annotation) -> Path | PhotoCrop:
        """The photo as it is trained on and judged: its file, or the part that is cut out of it."""
        return photo_of(self.photo_root, annotation)

    def photos(self) -> dict[str, Path | PhotoCrop]:
        """All photos by file; see `photo`."""
        return {annotation.file: self.photo(annotation) for annotation in self.annotations}


def photo_of(root: Path, annotation: Annotation) -> Path | PhotoCrop:
    """The photo of an annotation, or its crop, below the folder `root`."""
    path = root / annotation.file
    return path if annotation.crop is None else PhotoCrop(path, annotation.crop)


def clip_box(box: Box, to: Box) -> Box:
    """The part of a box inside another one; its right edge is not right of the left one if there is none."""
    return max(box[0], to[0]), max(box[1], to[1]), min(box[2], to[2]), min(box[3], to[3])


def write_prepared(
    folder: Path, classes: ClassNames, annotations: Iterable[Annotation], manifest: Mapping[str, Any]
) -> None:
    """Write the three files of a prepared data set into `folder`, the manifest last.

    Raises:
        StorageError: the disk is full, read-only, or not writable.
    """
    write_json(folder / CLASSES, classes.to_rows())
    write_csv(folder / ANNOTATIONS, (_to_row(annotation, classes) for annotation in annotations), _COLUMNS)
    hashes = {name: sha256_of((folder / name).read_bytes()) for name in (ANNOTATIONS, CLASSES)}
    write_json(folder / MANIFEST, {"format": FORMAT, **manifest, "sha256": hashes})


def order_splits(splits: Iterable[str]) -> tuple[str, ...]:
    """Different splits in the order in which they are shown: train, val, test, then any others by name."""
    found = set(splits)
    return (*(split for split in SPLITS if split in found), *sorted(found - set(SPLITS)))


def count_splits(annotations: Iterable[Annotation]) -> dict[str, int]:
    """The number of photos in each split, in the order of `order_splits`."""
    counts = Counter(annotation.split for annotation in annotations)
    return {split: counts[split] for split in order_splits(counts)}


def spread(photos: Sequence[Annotation], count: int) -> list[Annotation]:
    """At most `count` photos, spread evenly over all, the first and the last among them."""
    positions = np.linspace(0, len(photos) - 1, min(count, len(photos))).round().astype(int)
    return [photos[position] for position in positions]


def is_outside(name: str) -> bool:
    """Whether a file name leads out of the photo folder, judged by its text: absolute, or with '..' in it."""
    windows = PureWindowsPath(name)
    return PurePosixPath(name).is_absolute() or windows.is_absolute() or ".." in windows.parts


def _read_manifest(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise UsageError(
            f"Expected a prepared data set at {folder}, but there is no such folder. "
            f"Make it: twincar prepare SOURCE --out {folder}"
        )
    if not (folder / MANIFEST).is_file():
        raise UsageError(
            f"Expected a prepared data set at {folder}, but the folder has no {MANIFEST}. "
            f"Prepare it into a folder of its own first: {command('prepare', folder, '--out', 'FOLDER')}"
        )
    manifest = read_json(folder / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise DataError(
            f"Expected format {FORMAT} in {folder / MANIFEST}, but found {found}. "
            "Delete the folder and prepare the data set again with this version."
        )
    if not isinstance(root := manifest.get("photo_root"), str) or not isinstance(manifest.get("sha256"), dict):
        raise _damaged(folder, f"{MANIFEST} lacks some of its entries")
    if ".." in Path(root).parts or len(root) > _LONGEST_PATH:  # it may be absolute: files stay where the source is
        raise _damaged(folder, f"{MANIFEST} names {root[:100]!r} as the folder of its photos")
    return manifest


def _read_checked(folder: Path, manifest: Mapping[str, Any], name: str) -> str:
    """The text of a file, checked against its hash in the manifest."""
    try:
        data = (folder / name).read_bytes()
    except OSError as error:
        raise _damaged(folder, f"{name} cannot be read ({error.strerror})") from None
    if sha256_of(data) != manifest["sha256"].get(name):
        raise _damaged(folder, f"{name} was changed")
    return data.decode("utf-8", "surrogateescape")


def _damaged(folder: Path, found: str) -> DataError:
    return DataError(
        f"Expected the data set in {folder} as `twincar prepare` wrote it, but {found}. "
        "Delete the folder and prepare the data set again."
    )


def _to_row(annotation: Annotation, classes: ClassNames) -> dict[str, Any]:
    cells = asdict(annotation)
    boxes = [*(cells.pop("box") or (None,) * 4), *(cells.pop("crop") or (None,) * 4)]
    class_name = "" if annotation.label is None else classes[annotation.label]
    return {**cells, "class_name": class_name, **dict(zip((*_BOX_COLUMNS, *_CROP_COLUMNS), boxes, strict=True))}


def _parsed(parse: Callable[[str], Parsed], folder: Path, manifest: Mapping[str, Any], name: str) -> Parsed:
    """Parse a file defensively: a matching hash proves nothing if somebody else has also written the manifest."""
    text = _read_checked(folder, manifest, name)
    try:
        return parse(text)
    except (csv.Error, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise _damaged(folder, f"{name} cannot be parsed ({error!r})") from None


def _parse_classes(text: str) -> ClassNames:
    return ClassNames(tuple(row["name"] for row in json.loads(text)))


def _parse_annotations(text: str) -> tuple[Annotation, ...]:
    return tuple(_from_row(row) for row in csv.DictReader(io.StringIO(text, newline="")))


def _from_row(row: Mapping[str, str]) -> Annotation:
    if is_outside(row["file"]):
        raise ValueError(f"{row['file']!r} leads out of the photo folder")
    if not _SPLIT.fullmatch(row["split"]):  # it becomes the name of a folder
        raise ValueError(f"a split {row['split']!r}")
    if any(int(row[side]) < 1 for side in ("width", "height")) or (row["label"] and int(row["label"]) < 0):
        raise ValueError(f"a size or label of {row['file']!r}")
    width, height = int(row["width"]), int(row["height"])
    crop = _parse_box(row, _CROP_COLUMNS)
    if crop and not (0 <= crop[0] < crop[2] <= width and 0 <= crop[1] < crop[3] <= height):
        raise ValueError(f"a crop of {row['file']!r}")
    return Annotation(
        file=row["file"],
        label=int(row["label"]) if row["label"] else None,
        split=row["split"],
        width=width,
        height=height,
        box=_parse_box(row, _BOX_COLUMNS),
        crop=crop,
        sha256=row["sha256"],
    )


def _parse_box(row: Mapping[str, str], columns: tuple[str, str, str, str]) -> Box | None:
    left, top, right, bottom = (row[column] for column in columns)
    return (int(left), int(top), int(right), int(bottom)) if left else None
