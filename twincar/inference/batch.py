"""Answers for more photos than anybody waits for: in parts, on one machine or a cluster, and on from where it stopped.

Memory does not grow with the number of photos, a part is there whole or not at all, and both ways answer each part by
the same function, so that they give the same rows.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from twincar.core.errors import DataError, UsageError
from twincar.core.files import sha256_of_file
from twincar.core.listing import Skipped, find_photos
from twincar.core.options import CONFIDENCE, FALSE_REJECTION, EngineName
from twincar.core.photos import is_address
from twincar.core.wording import counted
from twincar.inference.classifier import Classifier
from twincar.inference.cluster import map_on_cluster
from twincar.inference.result_store import ResultFolder
from twincar.inference.results import Failure, Prediction, flat_row
from twincar.models.engines.base import OPENVINO_HEADER, OPENVINO_MODEL

log = logging.getLogger(__name__)

_FAILED = b"twincar.failed"  # in a part's metadata: how many of its photos have no answer


@dataclass(frozen=True)
class Request:
    """What is asked of all photos; an unfinished folder of results is gone on with only if it is the same."""

    photos: tuple[str, ...]
    """Folders, files, patterns: absolute, or addresses."""
    model: str
    """SHA-256 of its files."""
    engine: EngineName
    top_k: int
    tta: bool
    confidence: float
    false_rejection: float


@dataclass(frozen=True)
class BatchResult:
    """What it came to."""

    photos: int
    failed: int
    """Photos that could not be read: their rows tell why."""
    folder: str
    skipped: dict[str, int]
    """Files and folders that were found and are no photos to look at, by reason; see `listing.Skip`."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def predict_many(
    photos: Sequence[str],
    out: str,
    *,
    model: Path,
    engine: EngineName = "auto",
    top_k: int = 3,
    tta: bool = False,
    confidence: float = CONFIDENCE,
    false_rejection: float = FALSE_REJECTION,
    cluster: str | None = None,
    on_photo: Callable[[int, int], None] | None = None,
) -> BatchResult:
    """Answer for photos and write `out`: Parquet, a row a photo. Called again, it goes on where it stopped.

    Args:
        photos: files, folders and patterns, on disk or at addresses; see `find_photos`. They are listed once.
        out: a folder, on disk or at an address.
        model: an exported model, a run folder, or a `.safetensors` file of ours; a copy is kept with the results.
        engine: what computes; see `open_engine`.
        top_k: how many candidates an answer holds.
        tta: average over the mirror image and a wider view.
        confidence: how probable an answer has to be to be given.
        false_rejection: share of the photos of known cars that may be turned away as unknown.
        cluster: address of a Ray cluster, see `map_on_cluster`; this process answers unless given. Its machines have to
            reach the photos and `out` by these names.
        on_photo: called with photos done and in all, for a progress bar.

    Raises:
        UsageError: no such model or photos, or `out` holds something else or the results of another command.
        CheckpointError: the model is damaged.
        StorageError: `out` cannot be written; what was there before is unchanged.
        ClusterError: the cluster cannot be reached, or gave up.
    """
    files = _model_files(model)
    engine = Classifier.load(model, engine=engine).engine.name  # on other machines `auto` may be another one
    asked = tuple(photo if is_address(photo) else str(Path(photo).resolve()) for photo in photos)
    request = Request(asked, _sha256_of(files), engine, top_k, tta, confidence, false_rejection)
    results = ResultFolder.at(out)
    results.begin(json.loads(json.dumps(asdict(request))), files)
    skipped = Skipped()
    count = results.list_photos(find_photos(asked, skipped), skipped.to_dict)
    failed = results.failed
    if failed is None:
        failed = _answer_parts(PartWork(results.address, request), results, count, cluster, on_photo)
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
            rows = table.cast(_schema(sum(name.startswith("class_name") for name in table.column_names))).to_pylist()
        except (pa.ArrowException, OSError, LookupError, ValueError):
            raise _damaged(results, part) from None
        yield from rows


@dataclass(frozen=True)
class PartWork:
    """Answers for one part, in this process or in any that sees the results and the photos."""

    folder: str
    request: Request

    def __call__(self, part: int) -> dict[str, Any]:
        """Write the answers for a part; gives how many photos it has, and how many of them failed.

        Raises:
            CheckpointError: the model does not answer as it should.
            StorageError: the answers cannot be written.
        """
        results, request = ResultFolder(self.folder), self.request
        photos = results.photos_of(part)
        answers = list(_classifier(self).stream(photos, top_k=request.top_k, tta=request.tta))
        failed = sum(isinstance(answer, Failure) for answer in answers)
        results.write_part(part, _to_parquet(answers, request.top_k, failed))
        return {"photos": len(answers), "failed": failed}


def _answer_parts(
    work: PartWork,
    results: ResultFolder,
    count: int,
    cluster: str | None,
    on_photo: Callable[[int, int], None] | None,
) -> int:
    """Answer for the parts that are not there yet; gives how many photos failed in all parts."""
    done, failed = map(sum, zip(*(_counts(results, part) for part in results.finished()), (0, 0), strict=True))
    left = results.unfinished(count)
    photos = counted(count, "photo")
    log.info("%s, %d of them answered already. If this is stopped, the same command goes on.", photos, done)
    for row in map_on_cluster(work, left, cluster) if cluster and left else map(work, left):
        failed += row["failed"]
        done += row["photos"]
        if on_photo:
            on_photo(done, count)
    return failed


_open_files = ExitStack()  # a copy of a model that is elsewhere has to last as long as the process


@lru_cache(maxsize=1)
def _classifier(work: PartWork) -> Classifier:
    """One model a process."""
    request = work.request
    folder = _open_files.enter_context(ResultFolder(work.folder).model_files())
    model = folder if (folder / OPENVINO_MODEL).exists() else next(folder.iterdir())
    return Classifier.load(
        model, engine=request.engine, confidence=request.confidence, false_rejection=request.false_rejection
    )


def _model_files(model: Path) -> dict[str, Path]:
    """The files that make a model, by the names they are kept under."""
    if (model / OPENVINO_MODEL).is_file():
        names = (OPENVINO_MODEL, "model.bin", OPENVINO_HEADER)
        return {name: model / name for name in names}
    if (model / "best.safetensors").is_file():
        return {"best.safetensors": model / "best.safetensors"}
    if model.suffix in (".onnx", ".safetensors"):
        return {f"model{model.suffix}": model}
    raise UsageError(
        f"Expected an exported model, a run folder or a .safetensors file of ours for many photos, but found {model}. "
        "Published weights have to be exported first (twincar export)."
    )


def _sha256_of(files: dict[str, Path]) -> str:
    digest = hashlib.sha256()
    for name, path in files.items():
        digest.update(f"{name} {sha256_of_file(path)}\n".encode())
    return digest.hexdigest()


def _to_parquet(answers: Sequence[Prediction | Failure], top_k: int, failed: int) -> bytes:
    schema = _schema(top_k).with_metadata({_FAILED: str(failed)})
    rows = [flat_row(answer) for answer in answers]
    file = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows, schema), file)
    return file.getvalue()


def _counts(results: ResultFolder, part: int) -> tuple[int, int]:
    """Of a part that is there: photos, and how many of them failed."""
    try:
        metadata = parquet.read_metadata(io.BytesIO(results.read_part(part)))
        return metadata.num_rows, int(metadata.metadata[_FAILED])
    except (pa.ArrowException, OSError, LookupError, TypeError, ValueError):
        raise _damaged(results, part) from None


def _damaged(results: ResultFolder, part: int) -> DataError:
    return DataError(
        f"Expected answers of ours in part {part} of {results.address}, but it is damaged. Delete it; the command "
        "that made it then makes it again."
    )


def _schema(top_k: int) -> pa.Schema:
    text, share = pa.string(), pa.float64()
    columns = {"photo": text, "answer": text, "level": text, "level_probability": share, "reason": text}
    columns |= {"alternatives": pa.list_(text), "class_name": text, "confidence": share}
    columns |= {"make": text, "model": text, "body": text, "year": pa.int32()}
    for place in range(2, top_k + 1):
        columns |= {f"class_name{place}": text, f"probability{place}": share}
    return pa.schema(list((columns | {"error": text}).items()))
