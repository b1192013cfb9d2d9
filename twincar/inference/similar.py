"""Find the cars that look most like the one in a photo, among the photos of a folder or of an index.

Likeness is the cosine similarity of embeddings. All rows are compared, and none is left out by an approximate
structure: a row of an index is D bytes, so that the 1.3 GB of a million rows are read in less than a second.

Shapes: N cars, D features.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from twincar.core.errors import DataError, MissingExtraError, UsageError
from twincar.core.extras import how_to_install_alone
from twincar.core.listing import find_photos, refuse_models
from twincar.core.machine import compute_threads
from twincar.core.options import DetectOptions
from twincar.core.photos import Box, absolute_name
from twincar.core.skipped import Skipped
from twincar.core.user_files import text_name
from twincar.inference.classifier import Classifier
from twincar.inference.embedding import EmbeddedCar
from twincar.inference.results import Failure
from twincar.models.bundled import MODEL
from twincar.models.locate import find_model

if TYPE_CHECKING:
    from pyarrow import parquet

log = logging.getLogger(__name__)

_BLOCK = 256
"""Rows that are compared at once: with D = 1280 their floats fit into a core's cache."""
_SAME_PHOTO = 256
"""Rows that are kept beyond the ones asked for, because those of the photo itself are left out; it has 200 at most."""


@dataclass(frozen=True)
class SimilarCar:
    """A car that looks like the one in the photo."""

    photo: str
    similarity: float
    """The cosine of the angle between the two embeddings, at most 1."""
    car: int = 1
    """The number of the car in its photo, from 1."""
    car_count: int = 1
    """How many cars were found in the photo; 1 if it was taken whole without looking for cars."""
    box: Box | None = None
    """None if the whole photo was compared."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "photo": self.photo,
            "similarity": round(self.similarity, 4),
            "car": self.car,
            "car_count": self.car_count,
            "box": list(self.box) if self.box else None,
        }


@dataclass(frozen=True)
class SimilarCars:
    """The cars that look most like the main one of a photo."""

    photo: str
    box: Box | None
    """Of the car in the photo; None if the whole photo was compared."""
    is_car: bool
    """False if no car was found in the photo, so that the whole photo was compared."""
    cars: tuple[SimilarCar, ...]
    """The most similar first."""
    compared: int
    """Number of cars that the photo was compared with, those of the photo itself included."""
    no_car: int
    """Number of photos that were left out, because no car was found in them."""
    failures: tuple[Failure, ...]
    """The photos of a folder that could not be read."""
    skipped: dict[str, int]
    """Counts of skipped files and folders by reason; see `skipped.Skip`."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "photo": text_name(self.photo),
            "box": list(self.box) if self.box else None,
            "is_car": self.is_car,
            "similar": [car.to_dict() for car in self.cars],
            "compared": self.compared,
            "no_car": self.no_car,
            "failures": [failure.to_dict() for failure in self.failures],
            "skipped": self.skipped,
        }


def similar(
    photo: str | Path,
    among: str | Path,
    *,
    model: str | Path | None = None,
    count: int = 12,
    detection: DetectOptions = DetectOptions(),
) -> SimilarCars:
    """Find the cars that look most like the main car of a photo. The photo itself is left out, if it is among them.

    Args:
        photo: a path or an address.
        among: a folder of photos, a pattern or an address, whose photos are read; or a file that `index` has made. Each
            car in each photo is compared; photos in which none is found are left out and counted.
        model: the model whose features are compared, see `load`; by default the bundled one. For an index, the one that
            made it.
        count: the most cars that are returned.
        detection: whether the cars in photos are found first.

    Returns:
        The cars, the most similar first, the number of those that were compared, and the photos that could not be read.

    Raises:
        MissingExtraError: an index is named, and pyarrow is not installed.
        PhotoError: the photo cannot be read.
        UsageError: there is no such model or photo, the index was made by another model, or `count` is less than 1.
        DataError: the index is damaged.
    """
    if count < 1:
        raise UsageError(f"Expected count to be at least 1, but found {count}.")
    refuse_models([str(photo), str(among)])
    path = MODEL if model is None else find_model(model)
    index = Path(among) if Path(among).is_file() else None
    if index is not None:
        if find_spec("pyarrow") is None:
            raise MissingExtraError(f"Searching an index needs pyarrow: {how_to_install_alone('pyarrow')}")
        _check_model(index, path)
    classifier = Classifier.load(path, detection=detection)
    embedded = classifier.embed([photo])
    for failure in embedded.failures:
        raise failure.error
    (query,) = embedded.cars
    if not query.is_car:
        log.warning("No car was found in %s, so the whole photo is compared.", query.photo)
    failures: list[Failure] = []
    skipped = Skipped()
    if index is not None:
        cars, compared = search_index(index, query.vector, count, _same_photo(photo))
        no_car = _open(index).metadata.num_rows - compared
    else:
        found = classifier.embed_stream(find_photos([str(among)], skipped), cars="all")
        cars, compared, no_car, failures = _search_stream(found, query.vector, count, _same_photo(photo))
        skipped.log()
    return SimilarCars(
        query.photo, query.box, query.is_car, tuple(cars), compared, no_car, tuple(failures), skipped.to_dict()
    )


def search_index(path: Path, vector: NDArray[np.float32], count: int, own: str = "") -> tuple[list[SimilarCar], int]:
    """The cars of an index most similar to a vector of unit length, D, and how many cars it has.

    The similarities of its 8-bit codes differ from those of the embeddings by less than a thousandth, see
    `photo_index.quantize`. Memory is a row group for each thread, and 4 bytes a row.

    Args:
        path: the index.
        vector: the embedding.
        count: the most cars that are returned.
        own: name of the photo whose cars are left out.

    Raises:
        DataError: the index is damaged.
    """
    with _damaged(path):
        file = _open(path)
        groups = range(file.num_row_groups)
        threads = max(1, min(compute_threads(), len(groups)))
        shares = [groups[start::threads] for start in range(threads)]
        with ThreadPoolExecutor(threads) as pool:
            found = dict(pair for pairs in pool.map(partial(_similarities, path, vector), shares) for pair in pairs)
        similarities = np.concatenate([found[group] for group in groups] or [np.zeros(0, np.float32)])
        starts = np.cumsum([0, *(len(found[group]) for group in groups)])
        cars_there = int(np.isfinite(similarities).sum())
        kept = min(count + _SAME_PHOTO, cars_there)
        best = np.argpartition(-similarities, kept - 1)[:kept] if kept else np.zeros(0, np.int64)
        best = best[np.lexsort((best, -similarities[best]))]  # of equal ones the first row comes first
        cars = (_place(file, starts, int(row), float(similarities[row])) for row in best)
        return list(_others(cars, own, count)), cars_there


def _similarities(
    path: Path, vector: NDArray[np.float32], groups: Iterable[int]
) -> list[tuple[int, NDArray[np.float32]]]:
    """The similarities of the rows of some row groups; each thread has a reader of its own."""
    file = _open(path)
    return [(group, _similarities_of(file, group, vector)) for group in groups]


def _similarities_of(file: parquet.ParquetFile, group: int, vector: NDArray[np.float32]) -> NDArray[np.float32]:
    table = file.read_row_group(group, columns=["code", "scale", "car"], use_threads=False).combine_chunks()
    (column,) = table["code"].chunks
    size = column.type.byte_width
    codes = np.frombuffer(column.buffers()[1], np.int8, len(column) * size, column.offset * size).reshape(-1, size)
    similarities: NDArray[np.float32] = _products(codes, vector) * table["scale"].to_numpy()
    return np.where(table["car"].is_valid().to_numpy(), similarities, -np.inf)


def _products(codes: NDArray[np.int8], vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """The products, N, of rows of integers, N×D, with a vector, D; block by block, so that the floats stay in cache."""
    blocks = (codes[start : start + _BLOCK] for start in range(0, len(codes), _BLOCK))
    return np.concatenate([block.astype(np.float32) @ vector for block in blocks])


def _place(file: parquet.ParquetFile, starts: NDArray[np.int64], row: int, similarity: float) -> SimilarCar:
    """The photo and the box of a row, from the first row of each row group."""
    group = int(np.searchsorted(starts, row, side="right")) - 1
    names = ["photo", "car", "car_count", "left", "top", "right", "bottom"]
    (found,) = file.read_row_group(group, columns=names).slice(row - int(starts[group]), 1).to_pylist()
    box = tuple(found[edge] for edge in names[3:])
    return SimilarCar(
        found["photo"], min(similarity, 1.0), found["car"], found["car_count"], None if None in box else box
    )


def _search_stream(
    found: Iterable[EmbeddedCar | Failure], vector: NDArray[np.float32], count: int, own: str
) -> tuple[list[SimilarCar], int, int, list[Failure]]:
    """The embedded cars most similar to a vector, D; how many cars, and photos without one, there are; the failures."""
    failures: list[Failure] = []
    compared = no_car = 0
    best: list[tuple[float, int, SimilarCar]] = []  # a heap, the least similar first
    for item in found:
        if isinstance(item, Failure):
            failures.append(item)
            continue
        if item.car is None:
            no_car += 1
            continue
        compared += 1
        if _same_photo(item.photo) == own:
            continue
        similarity = min(float(item.vector @ vector), 1.0)
        car = SimilarCar(text_name(item.photo), similarity, item.car, item.car_count, item.box)
        heapq.heappush(best, (similarity, -compared, car))
        if len(best) > count:
            heapq.heappop(best)
    return [car for _, _, car in sorted(best, reverse=True)], compared, no_car, failures


def _others(cars: Iterable[SimilarCar], own: str, count: int) -> Iterator[SimilarCar]:
    """The first cars that are not those of a photo."""
    for car in cars:
        if count == 0:
            return
        if car.photo != own:
            count -= 1
            yield car


def _same_photo(photo: str | Path) -> str:
    """The name of a photo, by which it is recognised, as in an index."""
    return text_name(absolute_name(photo))


def _open(path: Path) -> parquet.ParquetFile:
    from pyarrow import parquet  # deferred: it is not needed to search a folder

    return parquet.ParquetFile(path, memory_map=True)


def _check_model(index: Path, model: Path) -> None:
    """Check that an index was made by a model.

    Raises:
        UsageError: it was made by another one, or is no index.
    """
    from twincar.inference.model_files import model_files, sha256_of_files
    from twincar.inference.photo_index import BACKBONE_KEY, MODEL_KEY, NAME_KEY

    with _damaged(index):
        metadata = _open(index).schema_arrow.metadata or {}
        made_by = metadata[MODEL_KEY].decode()
        name, backbone = metadata[NAME_KEY].decode(), metadata[BACKBONE_KEY].decode()
    if made_by != sha256_of_files(model_files(model)):
        raise UsageError(
            f"Expected an index made by {model.name}, but {index} was made by another model, {name} ({backbone}, "
            f"SHA-256 {made_by[:12]}): name that one, or index the photos again with this one."
        )


@contextmanager
def _damaged(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, LookupError, TypeError, ValueError) as error:
        raise DataError(
            f"Expected an index that 'twincar index' made in {path}, but it cannot be read as one ({error}). Make it "
            "again, or name a folder of photos."
        ) from None
