"""Files that are either whole or not there: atomic writes, hashes, run folders.

A run is one folder, `config.yaml trained_on.csv metrics.csv best.safetensors last.ckpt reports/ evaluations/`;
`RunFolder` names its parts, and locks it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from twincar.core.errors import DataError, StorageError, storage_errors
from twincar.core.user_files import open_regular, read_bounded

log = logging.getLogger(__name__)

LOCK, TRAINED_ON = "train.lock", "trained_on.csv"
"""Files of a run that are there before it has begun: the one whose lock its process holds, and the photos it sees."""
_UNFINISHED = re.compile(r"\..+\.twincar-(?P<machine>.+)-(?P<process>\d+)\.\w+\.part")
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
_ABANDONED = 24 * 3600  # seconds without a change after which what another machine was writing counts as left behind


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it takes the place of `path`, on failure it vanishes.

    The data is on disk before the rename, so a crash leaves the old file or the new one, never half of one.

    Raises:
        StorageError: the disk is full, read-only, or not writable; `path` is unchanged.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=_unfinished_prefix(path), suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o666 & ~_umask())  # mkstemp and safetensors both make files nobody else can read
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def working_folder(path: Path) -> Iterator[Path]:
    """Yield a new hidden folder beside `path`, for what will be `path`; in the end it vanishes, unless it was renamed.

    Raises:
        StorageError: the disk is full, read-only, or not writable.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_unfinished(path.parent)
        folder = Path(tempfile.mkdtemp(prefix=_unfinished_prefix(path), suffix=".part", dir=path.parent))
        folder.chmod(0o777 & ~_umask())
        try:
            yield folder
        except StorageError as error:
            if str(folder) in str(error) and isinstance(error.__cause__, OSError):
                raise error.__cause__ from None  # to be told of `path`: the hidden name means nothing to anybody
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def clear_unfinished(folder: Path) -> None:
    """Delete what processes were writing in a folder when they were killed, and nothing that is still being written."""
    for path in folder.glob(".*.part"):
        if is_unfinished(path) and not _is_being_written(path):
            with suppress(OSError):  # it may be somebody else's
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def is_unfinished(path: Path) -> bool:
    """Whether it is, by its name, what a process was or is writing."""
    return _UNFINISHED.fullmatch(path.name) is not None


def _unfinished_prefix(path: Path) -> str:
    """How the name of what will be `path` begins: it tells who is writing."""
    return f".{path.name}.twincar-{_machine()}-{os.getpid()}."


def _is_being_written(path: Path) -> bool:
    found = _UNFINISHED.fullmatch(path.name)
    if found and found["machine"] == _machine():
        return _is_running(int(found["process"]))
    with suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime < _ABANDONED
    return False


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def _machine() -> str:
    return re.sub("[^A-Za-z0-9-]", "_", platform.node())


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8.

    Bytes of a file's name that are no UTF-8 become escapes such as `\\udce9`, from which JSON makes the name again.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, value: object) -> None:
    """Write `value` to `path` atomically, as readable JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file of ours.

    Raises:
        DataError: the file is missing or is not JSON.
    """
    try:
        return json.loads(read_bounded(path).decode())
    except FileNotFoundError:
        raise DataError(f"Expected the file {path}, and it is not there.") from None
    except RecursionError:
        raise DataError(f"Expected JSON in {path}, and it is nested too deeply to be read.") from None
    except (ValueError, OSError) as error:
        raise DataError(f"Expected JSON in {path}, and it cannot be read: {error}") from None


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
    """Write rows as CSV, atomically; see `to_csv`."""
    write_bytes(path, to_csv(rows, columns))


def to_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None) -> bytes:
    """Rows as CSV; None becomes an empty cell.

    Args:
        rows: one mapping a row.
        columns: their order; by default that of the first row, of which there must then be one.
    """
    listed = list(rows)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns or list(listed[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(listed)
    # A file name on disk may be bytes that are no UTF-8; Python carries those as surrogates.
    return text.getvalue().encode("utf-8", "surrogateescape")


def spreadsheet_cell(value: object) -> object:
    """A value that a spreadsheet shows as it is: text that it would run as a formula gets a quote before it.

    See OWASP, 'CSV Injection'. Numbers stay numbers. What already begins with such a quote gets another, so that
    `from_spreadsheet_cell` leads back.
    """
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def from_spreadsheet_cell(text: str) -> str:
    """The text that `spreadsheet_cell` has quoted."""
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
