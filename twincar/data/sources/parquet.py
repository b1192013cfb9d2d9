"""Parquet files in the format of data sets on the hub: photos as bytes, class names in the schema.

data/<split>-00000-of-00002.parquet     columns image (struct of bytes and path) and label (index from 0); the column
                                        bbox, if there is one, is left, top, right and bottom of the car in pixels
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from twincar.core.errors import DataError
from twincar.core.files import sha256_of
from twincar.core.labels import ClassNames, canonical_name, shorten
from twincar.core.photos import MAX_BYTES, Box
from twincar.data.boxes import BoxFault, read_box
from twincar.data.sources.base import (
    OPTIONAL_SPLITS,
    SPLIT_WORDS,
    Source,
    SourceRow,
    classes_of_all,
    is_no_label,
    no_training_photos,
)

_FILE_NAME = re.compile(r"(?P<split>\w+)(-[^.]*)?\.parquet")
_SHARD = re.compile(r"-\d+-of-(\d+)\.parquet")
_BOX = "bbox"
_BATCH = 1  # rows read at once: a few bytes can decompress to many large photos, and more rows are not faster


@dataclass(frozen=True, kw_only=True)
class _ParquetFile:
    """One parquet file."""

    path: Path
    split: str
    names: tuple[str, ...]
    """The file's own class names, in the order of its labels."""
    total: int
    """Number of rows."""
    has_boxes: bool


def holds_parquet(folder: Path) -> bool:
    """Whether `folder` or its `data/` has a parquet file that is named after a split."""
    return bool(_files_by_split(folder))


def _files_by_split(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted([*folder.glob("*.parquet"), *folder.glob("data/*.parquet")]):
        if match := _FILE_NAME.fullmatch(path.name):
            found.setdefault(SPLIT_WORDS.get(match["split"], match["split"]), []).append(path)
    return found


def open_parquet(
    folder: Path, splits: tuple[str, ...], *, description: str, revision: str = "", allow_untrained: bool = False
) -> Source:
    """Read a folder with such files, directly or in `data/`; for `allow_untrained` see `classes_of_all`.

    Raises:
        DataError: a file is missing, damaged, or has no photos with labels.
    """
    files = _files_by_split(folder)
    optional = OPTIONAL_SPLITS + (("train",) if allow_untrained else ())
    missing = [split for split in splits if split not in files and split not in optional]
    if "train" in missing and "test" in files:
        raise no_training_photos(description)
    if missing or not any(split in files for split in splits):
        missing = missing or list(splits)
        found = f"found those of {', '.join(sorted(files))}" if files else "found none of them"
        raise DataError(
            f"Expected the parquet files of {shorten(missing)} in {description} (data/{missing[0]}-*.parquet), "
            f"but {found}. Look up what its splits are called."
        )
    chosen = {split: files[split] for split in splits if split in files}
    opened = [_read_file(path, split) for split, paths in chosen.items() for path in _all_shards(paths)]
    # The first training file decides the order of the classes.
    first, *others = sorted(opened, key=lambda file: (file.split != "train", file.path))
    classes = ClassNames(first.names)
    for file in others:
        classes = classes_of_all(classes, {file.split: file.names}, allow_untrained=allow_untrained)
    sizes = [f"{file.path.name}\t{file.path.stat().st_size}" for file in opened]
    return Source(
        description=description,
        revision=revision,
        classes=classes,
        class_lists={file.path.name: file.names for file in (first, *others)},
        fingerprint=sha256_of("\n".join([revision, *sorted(sizes)]).encode()),
        total=sum(file.total for file in opened),
        rows=partial(_rows_of, opened, classes),
        photo_root=None,
    )


def _all_shards(paths: list[Path]) -> list[Path]:
    """The files of one split, checked against the number of files in their names."""
    for path in paths:
        shard = _SHARD.search(path.name)
        if shard and int(shard[1]) != len(paths):
            raise DataError(
                f"Expected {int(shard[1])} files such as {path.name} in {path.parent}, but found {len(paths)}. "
                "Download the missing ones, or delete leftovers of another download."
            )
    return paths


def _read_file(path: Path, split: str) -> _ParquetFile:
    try:
        with pq.ParquetFile(path) as file:
            schema, total = file.schema_arrow, file.metadata.num_rows
        types = {name: schema.field(name).type for name in schema.names}  # of two of one name it is an error
    except (pa.ArrowException, OSError, LookupError, ValueError) as error:
        raise _damaged(path, error) from None
    if not _holds_photos(types.get("image", pa.null())) or not pa.types.is_integer(types.get("label", pa.null())):
        found = shorten((f"{name} ({kind})" for name, kind in types.items()), 6)
        raise DataError(f"Expected the columns image (struct) and label (whole numbers) in {path}, but found {found}.")
    names = tuple(canonical_name(name) for name in _names_in(schema.metadata or {}, path))
    _check_numbers(path, len(names))
    has_boxes = _holds_boxes(types.get(_BOX, pa.null()))
    return _ParquetFile(path=path, split=split, names=names, total=total, has_boxes=has_boxes)


def _check_numbers(path: Path, classes: int) -> None:
    """Check that class numbers count from 0; counted from 1, every photo would get the wrong class."""
    try:
        with pq.ParquetFile(path) as file:
            batches = file.iter_batches(1 << 16, columns=["label"])
            numbers = {number for batch in batches for number in batch.column(0).unique().to_pylist()} - {None, -1}
    except (pa.ArrowException, OSError, LookupError, ValueError) as error:
        raise _damaged(path, error) from None
    if numbers and 0 not in numbers and max(numbers) == classes:
        raise DataError(
            f"Expected class numbers from 0 to {classes - 1} in {path}, but {min(numbers)} to {classes} count from 1. "
            "Subtract 1 from the column label, or write the file with a ClassLabel column."
        )


def _holds_photos(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind):
        return False
    fields = {field.name: field.type for field in kind}
    data, path = fields.get("bytes", pa.null()), fields.get("path")
    return (pa.types.is_binary(data) or pa.types.is_large_binary(data)) and (
        path is None or pa.types.is_string(path) or pa.types.is_large_string(path) or pa.types.is_null(path)
    )


def _holds_boxes(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return is_list and bool(pa.types.is_integer(kind.value_type) or pa.types.is_floating(kind.value_type))


def _names_in(metadata: Mapping[bytes, bytes], path: Path) -> list[str]:
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"]["label"]["names"]
    except (LookupError, TypeError, ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(
            f"Expected the names of the classes in the schema of {path}, but found none. Write the file with the "
            "'datasets' library and a ClassLabel column, or give the photos as class folders or with a CSV file."
        )
    return names


def _rows_of(opened: list[_ParquetFile], classes: ClassNames) -> Iterator[SourceRow]:
    used: set[str] = set()
    for file in opened:
        # Two splits may count the same classes in different orders.
        labels = [None if is_no_label(name) else classes.find(name) for name in file.names]
        for number, (image, label, box) in enumerate(_cells_of(file.path, has_boxes=file.has_boxes)):
            photo = (image or {}).get("bytes") or b""
            found = _label(label, labels)
            folder = (_safe(classes[found]) if isinstance(found, int) else "") or "other"
            name = _file_name((image or {}).get("path"), photo, number)
            if f"{file.split}/{folder}/{name}".casefold() in used:
                name = f"{file.path.stem}-{number:05d}-{name}"
            name = f"{file.split}/{folder}/{name}"
            used.add(name.casefold())
            fault = box if isinstance(box, BoxFault) else None
            kept = None if isinstance(box, BoxFault) else box
            yield SourceRow(name=name, label=found, split=file.split, photo=photo, box=kept, box_fault=fault)


def _label(number: int | None, labels: list[int | None]) -> int | str | None:
    if number is None or number == -1:  # data sets that do not publish their labels write -1
        return None
    return labels[number] if 0 <= number < len(labels) else str(number)


def _cells_of(
    path: Path, *, has_boxes: bool = False
) -> Iterator[tuple[dict[str, Any] | None, int | None, Box | BoxFault | None]]:
    """Image, label and box of each row, read in batches."""
    columns = ["image", "label", *([_BOX] if has_boxes else [])]
    try:
        # Pre-buffering would keep all data in memory until the end of the file.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            for batch in file.iter_batches(_BATCH, columns=columns):
                for image, label, *box in zip(*map(batch.column, columns), strict=True):
                    yield _plain(image, path), label.as_py(), _box(box[0].as_py()) if box else None
    except (pa.ArrowException, OSError, LookupError, ValueError) as error:
        raise _damaged(path, error) from None


def _box(sides: list[float | None] | None) -> Box | BoxFault | None:
    if not sides:
        return None
    if len(sides) != 4:
        return BoxFault.INCOMPLETE
    try:
        return read_box(["" if side is None else str(side) for side in sides])
    except ValueError:  # infinite, or not a number
        return BoxFault.ELSEWHERE


def _plain(image: pa.StructScalar, path: Path) -> dict[str, Any] | None:
    data = image["bytes"] if image.is_valid else None
    if data is not None and data.is_valid and len(data.as_buffer()) > MAX_BYTES:
        raise DataError(
            f"Expected photos of at most {MAX_BYTES >> 20} MiB in {path}, but found a larger one. Remove it."
        )
    found: dict[str, Any] | None = image.as_py()
    return found


def _file_name(path: str | None, photo: bytes, number: int) -> str:
    """A file name for a photo: the last part of its path, or its number if it has no path."""
    name = _safe(PurePosixPath((path or "").replace("\\", "/")).name)
    if name:
        return name
    return f"{number:05d}.png" if photo.startswith(b"\x89PNG") else f"{number:05d}.jpg"


def _safe(name: str) -> str:
    """`name` as one part of a path on any system, so that no name leads out of the folder."""
    return re.sub(r'[\\/:*?"<>|\x00-\x1f]', "-", name).strip(". ")[:100]


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"Expected a parquet file at {path}, but it is damaged: {error}. Delete it and download it again.")
