"""The result folder of batch prediction, on disk or at an address: numbered parts, each complete or absent.

    part-000000.parquet    predictions, one row per photo, in the order of its list
    _photos/000000.json    names of that part's photos
    _model/                a copy of the model
    _run.json              the request; the number of photos, once they are listed; at the end, how many failed

Readers of a folder of Parquet skip names that begin with `_`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from twincar.core.addresses import open_address
from twincar.core.errors import DataError, StorageError, UsageError, storage_errors
from twincar.core.files import clear_unfinished, write_bytes
from twincar.core.photos import is_address

PART = 1000
"""Photos in a part, whose predictions are written together, and lost together when a worker dies."""

_RUN, _PHOTOS, _MODEL = "_run.json", "_photos", "_model"


def is_result_folder(path: Path) -> bool:
    """Whether a local folder holds results of batch prediction."""
    return (path / _RUN).is_file()


@dataclass(frozen=True)
class ResultFolder:
    """A folder of results; any process that can reach its address can read it and write its parts."""

    address: str
    """An absolute path, or an address that fsspec opens."""

    @classmethod
    def at(cls, out: str) -> ResultFolder:
        """The folder at a path or an address; it need not exist yet."""
        return cls(out if is_address(out) else str(Path(out).absolute()))

    def begin(self, request: Mapping[str, Any], model: Mapping[str, Path]) -> None:
        """Start the folder for a request, with a copy of the model's files, by name; or resume it.

        Raises:
            UsageError: it holds something else, or the results of another request.
        """
        if self._on_disk:
            for folder in ("", _PHOTOS, _MODEL):
                clear_unfinished(Path(self._root, folder))
        existing = self._names("")
        if _RUN not in existing and any(not name.startswith(".") for name in existing):
            raise UsageError(f"Results go to a new folder, but {self.address} already holds something else.")
        before = self._run() if _RUN in existing else {}
        if "photos" not in before:  # no photos have been listed yet
            self._write_run({"request": request})
            for name in self._names(_MODEL) - set(model):  # left by a command that has listed no photos
                self._delete(f"{_MODEL}/{name}")
            for name, path in model.items():
                self._write(f"{_MODEL}/{name}", path.read_bytes())
            return
        for name, value in request.items():
            if before["request"].get(name) != value:
                raise UsageError(
                    f"{self.address} holds the results of another command: {name} was {before['request'].get(name)!r} "
                    f"there, and is {value!r} now. Choose another --out, or delete them."
                )

    def list_photos(self, photos: Iterable[str], skipped: Callable[[], dict[str, int]]) -> int:
        """Write the lists of the parts, unless they exist; returns the number of photos.

        Args:
            photos: their names.
            skipped: called when all are listed; returns the counts of skipped files by reason.
        """
        run = self._run()
        if "photos" in run:
            return int(run["photos"])
        names, part, count = iter(photos), 0, 0
        while listed := list(islice(names, PART)):
            self._write(_list_name(part), json.dumps(listed).encode())
            part, count = part + 1, count + len(listed)
        self._write_run({**run, "photos": count, "skipped": skipped()})
        return count

    @property
    def skipped(self) -> dict[str, int]:
        """Counts of skipped files and folders by reason."""
        return dict(self._run().get("skipped", {}))

    def photos_of(self, part: int) -> list[str]:
        """Names of the photos of a part."""
        with self._whole(_list_name(part)):
            names = json.loads(self._read(_list_name(part)))
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise ValueError("not a list of names")
        return names

    def finished(self) -> set[int]:
        """Numbers of the finished parts."""
        return {int(name[5:-8]) for name in self._names("") if name.startswith("part-") and name.endswith(".parquet")}

    def unfinished(self, photos: int) -> list[int]:
        """Numbers of the parts that are not finished, given the total number of photos."""
        return sorted(set(range(-(-photos // PART))) - self.finished())

    def read_part(self, part: int) -> bytes:
        """A part's Parquet file."""
        return self._read(_part_name(part))

    def write_part(self, part: int, data: bytes) -> None:
        """Write a part's Parquet file atomically."""
        self._write(_part_name(part), data)

    @property
    def failed(self) -> int | None:
        """Number of photos that could not be read; None before all parts are finished."""
        return self._run().get("failed")

    def finish(self, failed: int) -> None:
        """Record that all parts are finished."""
        self._write_run({**self._run(), "failed": failed})

    @contextmanager
    def model_files(self) -> Iterator[Path]:
        """A local folder with the model's files: a temporary copy if the results are remote."""
        if self._on_disk:
            yield Path(self._root, _MODEL)
            return
        with tempfile.TemporaryDirectory() as folder:
            with storage_errors(folder):
                for name in self._names(_MODEL):
                    Path(folder, name).write_bytes(self._read(f"{_MODEL}/{name}"))
            yield Path(folder)

    def _run(self) -> dict[str, Any]:
        with self._whole(_RUN):
            run: dict[str, Any] = json.loads(self._read(_RUN))
            counts = (run.get(name, 0) for name in ("photos", "failed"))
            if not isinstance(run["request"], dict) or not all(isinstance(count, int) for count in counts):
                raise ValueError("not a request and counts")
        return run

    @contextmanager
    def _whole(self, name: str) -> Iterator[None]:
        try:
            yield
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            raise DataError(
                f"Expected a request or a list of photos in {self._path(name)}, but it is damaged. Choose another "
                "--out."
            ) from None

    def _write_run(self, run: Mapping[str, Any]) -> None:
        self._write(_RUN, (json.dumps(run, indent=2) + "\n").encode())

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        return open_address(self.address)

    @property
    def _root(self) -> str:
        return self._opened[1]

    @property
    def _on_disk(self) -> bool:
        return "file" in self._opened[0].protocol

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _names(self, folder: str) -> set[str]:
        """Names of the entries of a folder; empty if it does not exist."""
        with _address_errors(self.address):
            try:
                entries = self._opened[0].ls(self._path(folder).rstrip("/"), detail=False, refresh=True)
            except FileNotFoundError:
                return set()
        return {entry.rstrip("/").rpartition("/")[2] for entry in entries}

    def _read(self, name: str) -> bytes:
        with _address_errors(self.address):
            data: bytes = self._opened[0].cat_file(self._path(name))
        return data

    def _delete(self, name: str) -> None:
        with _address_errors(self.address):
            self._opened[0].rm_file(self._path(name))

    def _write(self, name: str, data: bytes) -> None:
        """Write atomically: object stores do so by themselves, and on disk a rename does."""
        if self._on_disk:
            write_bytes(Path(self._path(name)), data)
            return
        with _address_errors(self.address):
            self._opened[0].pipe_file(self._path(name), data)


@contextmanager
def _address_errors(address: str) -> Iterator[None]:
    """Raise any error in reading or writing at an address as one `StorageError`; each kind of address has its own."""
    try:
        yield
    except Exception as error:
        raise StorageError(f"Expected to read and write the results in {address}, but that failed: {error}") from None


def _list_name(part: int) -> str:
    return f"{_PHOTOS}/{part:06d}.json"


def _part_name(part: int) -> str:
    return f"part-{part:06d}.parquet"
