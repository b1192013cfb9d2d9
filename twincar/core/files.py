"""Atomic writes (a file is either whole or not there), JSON, CSV and hashes."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import Any

from twincar.core.errors import DataError, StorageError, storage_errors
from twincar.core.portable import is_running
from twincar.core.user_files import open_regular, read_bounded

_UNFINISHED = re.compile(r"\..+\.twincar-(?P<machine>.+)-(?P<process>\d+)\.\w+\.part")
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
_ABANDONED = 24 * 3600  # seconds without a change after which a file counts as abandoned if its process is unknown


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it is renamed to `path` on success and deleted on failure.

    The data is on disk before the rename, so a crash leaves the old file or the new one, never half of one.

    Raises:
        StorageError: the disk is full, read-only, or not writable; `path` is unchanged.
    """
    with storage_errors(path):
        with _folder_of(path) as parent:
            handle, name = tempfile.mkstemp(prefix=_unfinished_prefix(path), suffix=".part", dir=parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o666 & ~_umask())  # mkstemp and safetensors make files that only their owner can read
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def _folder_of(path: Path) -> Iterator[Path]:
    """The folder of `path`, made if it is missing, for the first file in it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield path.parent
    except (FileExistsError, NotADirectoryError, FileNotFoundError) as error:  # below a file, or as in /proc
        raise StorageError(
            f"Could not write {path}: {path.parent} is not a folder that files can be made in. Choose another folder."
        ) from error


@contextmanager
def working_folder(path: Path) -> Iterator[Path]:
    """Yield a new hidden folder beside `path`; it is deleted at the end unless the caller has renamed it to `path`.

    Raises:
        StorageError: the disk is full, read-only, or not writable.
    """
    with storage_errors(path):
        with _folder_of(path) as parent:
            clear_unfinished(parent)
            folder = Path(tempfile.mkdtemp(prefix=_unfinished_prefix(path), suffix=".part", dir=parent))
        folder.chmod(0o777 & ~_umask())
        try:
            yield folder
        except StorageError as error:
            if str(folder) in str(error) and isinstance(error.__cause__, OSError):
                raise error.__cause__ from None  # so that the message names `path`, not the hidden folder
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def is_free(folder: Path) -> bool:
    """Whether a folder can be written without touching what is there: it does not exist yet, or is empty."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def read_asset(name: str) -> str:
    """The text of a file that comes with the package, by its path in `assets/`."""
    return resources.files("twincar").joinpath("assets", name).read_text(encoding="utf-8")


def clear_unfinished(folder: Path) -> None:
    """Delete the temporary files in a folder whose processes were killed; those still being written are kept."""
    for path in folder.glob(".*.part"):
        if is_unfinished(path) and not _is_being_written(path):
            with suppress(OSError):  # it may belong to another user
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def is_unfinished(path: Path) -> bool:
    """Whether a file or folder is, by its name, a temporary one of `atomic_path` or `working_folder`."""
    return _UNFINISHED.fullmatch(path.name) is not None


def _unfinished_prefix(path: Path) -> str:
    """The beginning of the temporary name for `path`; it names the machine and the process that write it."""
    return f".{path.name}.twincar-{_machine()}-{os.getpid()}."


def _is_being_written(path: Path) -> bool:
    found = _UNFINISHED.fullmatch(path.name)
    running = is_running(int(found["process"])) if found and found["machine"] == _machine() else None
    if running is not None:
        return running
    with suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime < _ABANDONED
    return False


def _machine() -> str:
    return re.sub("[^A-Za-z0-9-]", "_", platform.node())


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8.

    Bytes of a file name that are not UTF-8 become escapes such as `\\udce9`, which JSON reads back as the same name.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, value: object) -> None:
    """Write `value` to `path` atomically, as readable JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file that TwinCar has written.

    Raises:
        DataError: the file is missing or is not JSON.
    """
    try:
        return json.loads(read_bounded(path).decode())
    except FileNotFoundError:
        raise DataError(f"Expected the file {path}, but it is not there.") from None
    except RecursionError:
        raise DataError(f"Expected JSON in {path}, but it is nested too deeply to be read.") from None
    except (ValueError, OSError) as error:
        raise DataError(f"Expected JSON in {path}, but it cannot be read: {error}") from None


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
    """Write rows as CSV, atomically; see `to_csv`."""
    write_bytes(path, to_csv(rows, columns))


def to_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None) -> bytes:
    """Rows as CSV; None becomes an empty cell.

    Args:
        rows: one mapping per row.
        columns: their order; by default that of the first row, in which case there must be at least one row.
    """
    listed = list(rows)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns or list(listed[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(listed)
    # A file name on disk may have bytes that are not UTF-8; Python represents them as surrogates.
    return text.getvalue().encode("utf-8", "surrogateescape")


def spreadsheet_cell(value: object) -> object:
    """Escape a value for a spreadsheet: text that would be run as a formula gets a quote before it.

    See OWASP, 'CSV Injection'. Numbers stay numbers. Text that already begins with such a quote gets another, so that
    `from_spreadsheet_cell` is the exact inverse.
    """
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def from_spreadsheet_cell(text: str) -> str:
    """The inverse of `spreadsheet_cell` for text."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def sha256_of(data: bytes) -> str:
    """SHA-256 of `data`, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file's contents, in hexadecimal, read in blocks."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
