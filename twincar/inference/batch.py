"""Resumable batch prediction: in parts, on one machine or on a cluster.

Memory does not grow with the number of photos, a part is written completely or not at all, and one machine and a
cluster use the same function for each part, so that both give the same rows.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from twincar.core.errors import DataError
from twincar.core.listing import find_photos, refuse_models
from twincar.core.options import PredictOptions
from twincar.core.photos import absolute_name
from twincar.core.progress import Progress
from twincar.core.skipped import Skipped
from twincar.core.wording import counted
from twincar.inference.classifier import Classifier
from twincar.inference.cluster import map_on_cluster
from twincar.inference.model_files import model_files, sha256_of_files
from twincar.inference.result_store import ResultFolder
from twincar.inference.results import BOX_COLUMNS, Failure, Prediction, table_columns, table_row
from twincar.models.bundled import MODEL
from twincar.models.engines.base import OPENVINO_MODEL
from twincar.models.locate import find_model

log = logging.getLogger(__name__)

_PHOTOS, _FAILED = b"twincar.photos", b"twincar.failed"
"""In a part's metadata: the number of its photos, and how many of them could not be read."""
_DETECTOR = "detector.onnx"
"""The copy of another detector than the bundled one, beside that of the model."""


@dataclass(frozen=True)
class Request:
    """The settings of a batch run; an unfinished folder of results is resumed only if they are the same."""

    photos: tuple[str, ...]
    """Folders, files and patterns as absolute paths, or addresses."""
    model: str
    """SHA-256 of the model's files, and of the detector's unless that is the bundled one."""
    options: PredictOptions

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name, for JSON; those of the options are among them."""
        return {"photos": list(self.photos), "model": self.model, **asdict(self.options)}


@dataclass(frozen=True)
class BatchResult:
    """The result of a batch run."""

    photos: int
    failed: int
    """Number of photos that could not be read; their rows hold the error."""
    folder: str
    skipped: dict[str, int]
    """Counts of skipped files and folders by reason; see `skipped.Skip`."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def predict_many(
    photos: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    model: str | Path | None = None,
    options: PredictOptions = PredictOptions(),
    cluster: str | None = None,
    on_photo: Progress | None = None,
) -> BatchResult:
    """Predict for photos and write the results to `out` as Parquet; called again, it resumes.

    There is a row for each photo, or for each car in it if the cars are found first.

    Args:
        photos: a file, folder or pattern, on disk or at an address, or several; see `find_photos`. Photos are listed
            once.
        out: a folder, on disk or at an address.
        model: an exported model, a run folder, a `.safetensors` file of a run, or one of these on the hub; by default
            the bundled model. A copy is kept with the results.
        options: the engine, the number of candidates, and when an answer is given.
        cluster: address of a Ray cluster, see `map_on_cluster`; by default this process does the work. The machines of
            the cluster must reach the photos and `out` by the same names.
        on_photo: called with the number of photos done and their total, for a progress bar.

    Returns:
        The number of photos, of those that failed, and of the files that were skipped, by reason.

    Raises:
        UsageError: there is no such model or photo, or `out` holds something else or the results of another command.
        CheckpointError: the model is damaged.
        StorageError: `out` cannot be written; what was there before is unchanged.
        ClusterError: the cluster cannot be reached, or its work failed.
    """
    photos = [photos] if isinstance(photos, str | Path) else photos
    refuse_models(map(str, photos))
    path = MODEL if model is None else find_model(model, engine=options.engine)
    files = model_files(path)
    detector = options.detector
    if detector is not None:
        files[_DETECTOR], detector = Path(detector), Path(detector).name
    classifier = Classifier.load(path, engine=options.engine, detection=options)
    named = tuple(map(absolute_name, photos))
    # The engine `auto` may be another one on other machines.
    options = replace(options, engine=classifier.engine.name, detector=detector)
    request = Request(named, sha256_of_files(files), options)
    results = ResultFolder.at(str(out))
    results.begin(request.to_dict(), files)
    skipped = Skipped()
    count = results.list_photos(find_photos(named, skipped), skipped.to_dict)
    failed = results.failed
    if failed is None:
        failed = _predict_parts(PartWork(results.address, request), results, count, cluster, on_photo)
        results.finish(failed)
    return BatchResult(count, failed, results.address, results.skipped)


def read_rows(out: str) -> Iterator[dict[str, Any]]:
    """The rows of a folder of results, in the order of the photos.

    Raises:
        StorageError: it cannot be read.
        DataError: a part is damaged.
    """
    results = ResultFolder.at(out)
    for part in sorted(results.finished()):
        data = results.read_part(part)
        try:
            table = parquet.read_table(io.BytesIO(data))
            rows = table.cast(_schema(sum(name.startswith("class_") for name in table.column_names))).to_pylist()
        except (pa.ArrowException, OSError, LookupError, ValueError):
            raise _damaged(results, part) from None
        yield from rows


@dataclass(frozen=True)
class PartWork:
    """Predicts for one part, in this process or in any other that can read the photos and write the results."""

    folder: str
    request: Request

    def __call__(self, part: int) -> dict[str, Any]:
        """Predict for a part and write it; returns the number of its photos, and of those that failed.

        Raises:
            CheckpointError: the output of the model is not valid.
            StorageError: the part cannot be written.
        """
        results, options = ResultFolder(self.folder), self.request.options
        photos = results.photos_of(part)
        classifier = _classifier(self)
        predictions = list(classifier.stream(photos, cars=options.cars, top_k=options.top_k, tta=options.tta))
        counts = {"photos": len(photos), "failed": sum(isinstance(found, Failure) for found in predictions)}
        results.write_part(part, _to_parquet(predictions, options.top_k, counts))
        return counts


def _predict_parts(
    work: PartWork,
    results: ResultFolder,
    count: int,
    cluster: str | None,
    on_photo: Progress | None,
) -> int:
    """Predict for the parts that are not finished; returns the number of failed photos in all parts."""
    done, failed = map(sum, zip(*(_counts(results, part) for part in results.finished()), (0, 0), strict=True))
    left = results.unfinished(count)
    photos = counted(count, "photo")
    log.info("%s, %d of them done already. If this is stopped, the same command resumes.", photos, done)
    for row in map_on_cluster(work, left, cluster) if cluster and left else map(work, left):
        failed += row["failed"]
        done += row["photos"]
        if on_photo:
            on_photo(done, count)
    return failed


_open_files = ExitStack()  # keeps the local copy of a remote model for as long as the process lives


@lru_cache(maxsize=1)
def _classifier(work: PartWork) -> Classifier:
    """The classifier, loaded once per process."""
    options = work.request.options
    folder = _open_files.enter_context(ResultFolder(work.folder).model_files())
    if options.detector is not None:
        options = replace(options, detector=str(folder / _DETECTOR))
    model = folder
    if not (folder / OPENVINO_MODEL).exists():
        model = next(path for path in folder.iterdir() if path.name != _DETECTOR)
    return Classifier.load(
        model,
        engine=options.engine,
        detection=options,
        min_confidence=options.min_confidence,
        false_rejection=options.false_rejection,
    )


def _to_parquet(predictions: Sequence[Prediction | Failure], top_k: int, counts: Mapping[str, int]) -> bytes:
    schema = _schema(top_k).with_metadata({_PHOTOS: str(counts["photos"]), _FAILED: str(counts["failed"])})
    rows = [table_row(prediction) for prediction in predictions]
    file = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows, schema), file)
    return file.getvalue()


def _counts(results: ResultFolder, part: int) -> tuple[int, int]:
    """The number of photos in a finished part, and of those that failed."""
    try:
        metadata = parquet.read_metadata(io.BytesIO(results.read_part(part))).metadata
        return int(metadata[_PHOTOS]), int(metadata[_FAILED])
    except (pa.ArrowException, OSError, LookupError, TypeError, ValueError):
        raise _damaged(results, part) from None


def _damaged(results: ResultFolder, part: int) -> DataError:
    return DataError(
        f"Expected predictions in part {part} of {results.address}, but it is damaged. Delete it, and run the command "
        "that made it again."
    )


def _schema(top_k: int) -> pa.Schema:
    types = dict.fromkeys(("car", "car_count", "year", *BOX_COLUMNS), pa.int32())
    types |= dict.fromkeys(("confidence", *(f"probability_{rank}" for rank in range(1, top_k + 1))), pa.float64())
    types["alternatives"] = pa.list_(pa.string())
    return pa.schema([(name, types.get(name, pa.string())) for name in table_columns(top_k)])
