"""An index of photos: a Parquet file with a row for each car, to search for the cars most like one.

    photo, car, car_count, left, top, right, bottom    as in the results of `predict_many`
    embedding    D × float16, of unit length: the column for other programs
    code, scale  the same in 8 bits, D bytes and a float32, see `quantize`: the columns that a search reads

The schema's metadata names the model: the SHA-256 of its files, its backbone and its name. While an index is made, its
finished parts are in the folder `<index>.parts`, from which the same call resumes.

Shapes: N cars, D features.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from twincar.core.errors import DataError, UsageError
from twincar.core.files import atomic_path, spreadsheet_cell, write_csv
from twincar.core.listing import find_photos, refuse_models
from twincar.core.options import Cars, DetectOptions
from twincar.core.photos import absolute_name
from twincar.core.progress import Progress
from twincar.core.skipped import Skipped
from twincar.core.user_files import text_name
from twincar.inference.classifier import Classifier
from twincar.inference.embedding import EmbeddedCar
from twincar.inference.model_files import model_files, sha256_of_files
from twincar.inference.result_store import ResultFolder
from twincar.inference.results import BOX_COLUMNS, Failure
from twincar.models.bundled import MODEL
from twincar.models.locate import find_model

log = logging.getLogger(__name__)

MODEL_KEY, BACKBONE_KEY, NAME_KEY = b"twincar.model", b"twincar.backbone", b"twincar.model_name"
_FAILURES, _NO_CAR = b"twincar.failures", b"twincar.no_car"
"""In a part's metadata: the photos that could not be read, and the number of those in which no car was found."""
_LARGEST = 127
PLACE_COLUMNS = ("photo", "car", "car_count", *BOX_COLUMNS)
"""The columns that say which car a row is."""


@dataclass(frozen=True)
class IndexResult:
    """The result of indexing."""

    photos: int
    cars: int
    """Number of rows: of cars, and of photos in which none was found, which are taken whole."""
    no_car: int
    """Number of photos in which no car was found."""
    failed: int
    """Number of photos that could not be read."""
    path: str
    failures: str
    """A CSV file of the photos that could not be read, with their errors; empty if there are none."""
    skipped: dict[str, int]
    """Counts of skipped files and folders by reason; see `skipped.Skip`."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def index(
    photos: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    model: str | Path | None = None,
    detection: DetectOptions = DetectOptions(),
    cars: Cars = "all",
    on_photo: Progress | None = None,
) -> IndexResult:
    """Embed the cars in photos and write them to one Parquet file, for `similar`; interrupted, the same call resumes.

    Memory does not grow with the number of photos.

    Args:
        photos: files, folders and patterns, on disk or at addresses; see `find_photos`. They are listed once.
        out: the file, which must not exist yet.
        model: an exported model, a run folder, a `.safetensors` file of a run, or one of these on the hub; by default
            the bundled model. Only the same model can search the index.
        detection: whether the cars in photos are found first.
        cars: a row for each car in a photo, or for the main one.
        on_photo: called with the number of photos done and their total, for a progress bar.

    Returns:
        The number of photos and cars, and of photos that could not be read, which are listed beside the index.

    Raises:
        UsageError: there is no such model or photo, `out` exists, or its parts are those of another call.
        CheckpointError: the model is damaged.
        StorageError: `out` cannot be written.
    """
    out = Path(out)
    if out.exists():
        raise UsageError(f"Expected a new file for the index, but {out} exists already. Choose another name.")
    listed = [photos] if isinstance(photos, str | Path) else photos
    refuse_models(map(str, listed))
    path = MODEL if model is None else find_model(model)
    identity = sha256_of_files(model_files(path))
    classifier = Classifier.load(path, detection=detection)
    named = [absolute_name(photo) for photo in listed]
    parts = ResultFolder.at(f"{out.absolute()}.parts")
    parts.begin({"photos": named, "model": identity, "cars": cars, **asdict(detection)}, {})
    skipped = Skipped()
    count = parts.list_photos(find_photos(named, skipped), skipped.to_dict)
    schema = index_schema(
        classifier.engine.head.features,
        {MODEL_KEY: identity, BACKBONE_KEY: classifier.spec.backbone, NAME_KEY: path.stem},
    )
    _write_parts(classifier, parts, schema, count, cars, on_photo)
    result = _join(parts, schema, out, count)
    rmtree(parts.address)
    return result


def index_schema(features: int, metadata: dict[bytes, str]) -> pa.Schema:
    """The columns of an index of D features."""
    columns = {"photo": pa.string(), **dict.fromkeys(PLACE_COLUMNS[1:], pa.int32())}
    columns["embedding"] = pa.list_(pa.field("element", pa.float16(), nullable=False), features)
    fields = [pa.field(name, kind) for name, kind in columns.items()]
    # Without missing values, a column of bytes is read by one copy.
    fields += [pa.field("code", pa.binary(features), nullable=False), pa.field("scale", pa.float32(), nullable=False)]
    return pa.schema(fields, {key: value.encode() for key, value in metadata.items()})


def quantize(vectors: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Vectors, N×D, as integers of 8 bits, N×D, and the scale of each row, N, which gives it unit length.

    The largest value of a row becomes 127, so that a value is off by at most 1/254 of it.
    """
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    codes = np.rint(vectors * (_LARGEST / np.where(largest > 0, largest, 1))).astype(np.int8)
    lengths = np.linalg.norm(codes.astype(np.float32), axis=1)
    return codes, (1 / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def to_table(cars: Sequence[EmbeddedCar], schema: pa.Schema) -> pa.Table:
    """The rows of embedded cars."""
    size = schema.field("code").type.byte_width
    vectors = np.stack([car.vector for car in cars]) if cars else np.zeros((0, size), np.float32)
    codes, scales = quantize(vectors) if cars else (vectors.astype(np.int8), vectors[:, 0])
    places = [(text_name(car.photo), car.car, car.car_count, *(car.box or (None,) * 4)) for car in cars]
    halves = pa.array(vectors.astype(np.float16).ravel())
    columns = [pa.array(column, schema.field(name).type) for name, column in _columns(places)]
    columns.append(pa.FixedSizeListArray.from_arrays(halves, type=schema.field("embedding").type))
    columns.append(pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), len(cars), [None, pa.py_buffer(codes)]))
    columns.append(pa.array(scales))
    return pa.Table.from_arrays(columns, schema=schema)


def open_writer(file: Any, schema: pa.Schema) -> parquet.ParquetWriter:
    """A writer of rows as they are read fastest: neither compressed nor by a dictionary."""
    return parquet.ParquetWriter(file, schema, compression="none", use_dictionary=False, write_statistics=False)


def _columns(places: list[tuple[Any, ...]]) -> Iterable[tuple[str, list[Any]]]:
    return ((name, [place[number] for place in places]) for number, name in enumerate(PLACE_COLUMNS))


def _write_parts(
    classifier: Classifier, parts: ResultFolder, schema: pa.Schema, count: int, cars: Cars, on_photo: Progress | None
) -> None:
    """Write the parts that are not finished."""
    unfinished = parts.unfinished(count)
    done = count - sum(len(parts.photos_of(part)) for part in unfinished)
    log.info("%d photos, %d of them done already. If this is stopped, the same command resumes.", count, done)
    for part in unfinished:
        photos = parts.photos_of(part)
        found = list(classifier.embed_stream(photos, cars=cars))
        parts.write_part(part, _to_bytes(found, schema))
        done += len(photos)
        if on_photo:
            on_photo(done, count)


def _to_bytes(found: Sequence[EmbeddedCar | Failure], schema: pa.Schema) -> bytes:
    cars = [item for item in found if isinstance(item, EmbeddedCar)]
    failures = [item.to_dict() for item in found if isinstance(item, Failure)]
    counts = {_FAILURES: json.dumps(failures), _NO_CAR: str(sum(not car.is_car for car in cars))}
    schema = schema.with_metadata({**schema.metadata, **counts})
    file = io.BytesIO()
    with open_writer(file, schema) as writer:
        writer.write_table(to_table(cars, schema))
    return file.getvalue()


def _join(parts: ResultFolder, schema: pa.Schema, out: Path, count: int) -> IndexResult:
    """Write all parts to one file, a row group for each."""
    cars, no_car = 0, 0
    failures: list[dict[str, str]] = []
    with atomic_path(out) as temporary, open_writer(temporary, schema) as writer:
        for part in sorted(parts.finished()):
            try:
                table = parquet.read_table(io.BytesIO(parts.read_part(part)))
                metadata = table.schema.metadata
                no_car += int(metadata[_NO_CAR])
                failures += json.loads(metadata[_FAILURES])
                if len(table):
                    writer.write_table(table.cast(schema))
            except (pa.ArrowException, LookupError, TypeError, ValueError):
                raise DataError(
                    f"Expected embeddings in part {part} of {parts.address}, but it is damaged. Delete it, and run "
                    "the command again."
                ) from None
            cars += len(table)
    listed = out.with_name(f"{out.name}.failed.csv") if failures else None
    if listed:
        rows = [{name: spreadsheet_cell(row[name]) for name in ("photo", "error")} for row in failures]
        write_csv(listed, rows, ("photo", "error"))
    return IndexResult(count, cars, no_car, len(failures), str(out), str(listed or ""), parts.skipped)
