"""Where answers for many photos go, a folder on disk or at an address: numbered parts, each whole or absent.

    part-000000.parquet    answers, one row a photo, in the order of its list
    _photos/000000.json    names of that part's photos
    _model/                the model that answers
    _run.json              what was asked; once they are listed, how many photos there are; last, how many failed

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

from twincar.core.errors import DataError, StorageError, UsageError, storage_errors
from twincar.core.files import clear_unfinished, write_bytes
from twincar.core.listing import open_address
from twincar.core.photos import is_address

PART = 1000
"""Photos whose answers are written together, and lost together when a worker dies."""

_RUN, _PHOTOS, _MODEL = "_run.json", "_photos", "_model"


def is_result_folder(path: Path) -> bool:
    """Whether a folder on this machine's disk holds results."""
    return (path / _RUN).is_file()


@dataclass(frozen=True)
class ResultFolder:
    """A folder of results; any process that sees its address can read it and write its parts."""

    address: str
    """An absolute path, or an address that fsspec opens."""

    @classmethod
    def at(cls, place: str) -> ResultFolder:
        """The folder at a path or an address, whether there yet or not."""
        return cls(place if is_address(place) else str(Path(place).absolute()))

    def begin(self, request: Mapping[str, Any], model: Mapping[str, Path]) -> None:
        """Claim the folder for a request, with a copy of the model's files, by name; or go on with it.

        Raises:
            UsageError: it holds something else.
        """
        if self._on_disk:
            for folder in ("", _PHOTOS, _MODEL):
                clear_unfinished(Path(self._root, folder))
        there = self._names("")
        if _RUN not in there and any(not name.startswith(".") for name in there):
            raise UsageError(f"Results go to a new folder, and {self.address} holds something else already.")
        before = self._run() if _RUN in there else {}
        if "photos" not in before:  # nothing has been answered yet
            self._write_run({"request": request})
            for name in self._names(_MODEL) - set(model):  # of a command that listed no photo
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
        """Write the lists of the parts, unless they are there; gives the number of photos.

        Args:
            photos: their names.
            skipped: asked once they are all listed: what was found beside them, by reason.
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
        """What was found beside the photos, by reason."""
        return dict(self._run().get("skipped", {}))

    def photos_of(self, part: int) -> list[str]:
        """Names of the photos of a part."""
        with self._whole(_list_name(part)):
            names = json.loads(self._read(_list_name(part)))
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise ValueError("not a list of names")
        return names

    def finished(self) -> set[int]:
        """Numbers of the parts that are there."""
        return {int(name[5:-8]) for name in self._names("") if name.startswith("part-") and name.endswith(".parquet")}

    def unfinished(self, photos: int) -> list[int]:
        """Numbers of the parts of so many photos that are not there yet."""
        return sorted(set(range(-(-photos // PART))) - self.finished())

    def read_part(self, part: int) -> bytes:
        """A part's Parquet file."""
        return self._read(_part_name(part))

    def write_part(self, part: int, data: bytes) -> None:
        """Write a part's Parquet file; it is there whole or not at all."""
        self._write(_part_name(part), data)

    @property
    def failed(self) -> int | None:
        """How many photos have no answer; None before all parts are there."""
        return self._run().get("failed")

    def finish(self, failed: int) -> None:
        """Note that all parts are there."""
        self._write_run({**self._run(), "failed": failed})

    @contextmanager
    def model_files(self) -> Iterator[Path]:
        """The folder of the model's files on this machine, a copy of it where the results are elsewhere."""
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
                f"Expected what was asked and of which photos in {self._path(name)}, but it is damaged. Choose another "
                "--out."
            ) from None

    def _write_run(self, run: Mapping[str, Any]) -> None:
        self._write(_RUN, (json.dumps(run, indent=2) + "\n").encode())

    @cached_property
    def _place(self) -> tuple[Any, str]:
        return open_address(self.address)

    @property
    def _root(self) -> str:
        return self._place[1]

    @property
    def _on_disk(self) -> bool:
        return "file" in self._place[0].protocol

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _names(self, folder: str) -> set[str]:
        """Names in a folder, whatever they are of; none where there is no such folder."""
        with _refusals(self.address):
            try:
                entries = self._place[0].ls(self._path(folder).rstrip("/"), detail=False, refresh=True)
            except FileNotFoundError:
                return set()
        return {entry.rstrip("/").rpartition("/")[2] for entry in entries}

    def _read(self, name: str) -> bytes:
        with _refusals(self.address):
            data: bytes = self._place[0].cat_file(self._path(name))
        return data

    def _delete(self, name: str) -> None:
        with _refusals(self.address):
            self._place[0].rm_file(self._path(name))

    def _write(self, name: str, data: bytes) -> None:
        """Whole or not at all: object stores do so by themselves, and on a disk a rename does."""
        if self._on_disk:
            write_bytes(Path(self._path(name)), data)
            return
        with _refusals(self.address):
            self._place[0].pipe_file(self._path(name), data)


@contextmanager
def _refusals(address: str) -> Iterator[None]:
    """Turn whatever reading or writing at an address raises into one error; each kind of address has its own."""
    try:
        yield
    except Exception as error:
        raise StorageError(f"Expected to read and write the results in {address}, but it cannot be: {error}") from None


def _list_name(part: int) -> str:
    return f"{_PHOTOS}/{part:06d}.json"


def _part_name(part: int) -> str:
    return f"part-{part:06d}.parquet"
