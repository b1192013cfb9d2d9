"""Files that are either whole or not there: atomic writes, hashes, run folders.

A run is one folder, `config.yaml trained_on.csv metrics.csv best.safetensors last.ckpt reports/ evaluations/`;
`RunFolder` names its parts, and locks it.
"""

from __future__ import annotations

import csv
import errno
import fcntl
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from twincar.core.errors import DataError, StorageError, UsageError, storage_errors
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


Epoch = dict[str, float]
"""One row of `metrics.csv`: `epoch` (from 1), `learning_rate` (in its last step, of all layers the highest), `seconds`,
`train_loss`, `train_acc`, and validation metrics prefixed `val_`."""

MONITOR = "val_f1_macro"
"""The column that decides which epoch is the best: macro-F1 on the validation photos."""


def best_epoch(history: Sequence[Epoch]) -> Epoch:
    """The epoch with the highest macro-F1 on validation, the first of equals: the one whose weights are kept."""
    return max(history, key=lambda epoch: epoch[MONITOR])


def ending(history: Sequence[Epoch], *, epochs: int, patience: int) -> str:
    """Why a training has gone no further than its last epoch, a sentence; empty where it has done all its epochs.

    Args:
        history: what it has done.
        epochs: how many it may do.
        patience: after how many epochs that are no better than the best one it stops.
    """
    later = len(history) - int(best_epoch(history)["epoch"])
    if len(history) >= epochs:
        return ""
    if later >= patience:
        what = "the one after the best was no better" if later == 1 else f"the {later} after the best were no better"
        return f"It stopped early, after {len(history)} of at most {epochs} epochs: {what}."
    return f"It is not finished: {len(history)} of at most {epochs} epochs are done."


@dataclass(frozen=True)
class RunFolder:
    """The parts of a training run, `runs/<name>/`."""

    path: Path

    @staticmethod
    def check_free(path: Path) -> None:
        """Check that a run can be made at `path`.

        Raises:
            UsageError: something is there already; a run is never overwritten.
        """
        if path.exists() and (not path.is_dir() or not all(map(_is_of_none_begun, path.iterdir()))):
            raise UsageError(
                f"A run is never overwritten, and {path} exists. "
                f"Go on with it (--resume {path}), choose another --name, or delete it."
            )

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Make a new run folder.

        Raises:
            UsageError: something is there already; a run is never overwritten.
            StorageError: the folder cannot be made.
        """
        cls.check_free(path)
        with storage_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        clear_unfinished(path)
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open an existing run folder.

        Raises:
            UsageError: `path` is not a run folder.
        """
        run = cls(path)
        if not run.config.is_file():
            found = "there is no such folder" if not path.exists() else f"{path.name} has no config.yaml"
            raise UsageError(f"Expected the folder of a training run at {path}, but {found}.")
        return run

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the run, so that no other process trains it; it ends with this process, even if killed.

        It is a POSIX record lock: unlike that of flock(2) it is not inherited by the processes that load photos, which
        outlive a killed one for seconds, and NFS keeps it for all hosts.

        Raises:
            UsageError: another process holds it.
            StorageError: the run folder cannot be written to.
        """
        with storage_errors(self.path):
            file = (self.path / LOCK).open("a+", encoding="utf-8")
        with file:
            self._lock(file)
            with storage_errors(self.path):
                file.truncate(0)
                file.write(f"process {os.getpid()} on {platform.node()}")
                file.flush()
            yield

    def _lock(self, file: TextIO) -> None:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                log.warning("%s cannot be locked (%s): see that nothing else trains it.", self.path, error.strerror)
                return
            file.seek(0)
            raise UsageError(
                f"Expected no other process to train {self.path}, but {file.read(200) or 'one'} is training it. "
                "Wait until it has ended, or stop it."
            ) from None

    def read_history(self) -> list[Epoch]:
        """The rows of `metrics.csv`.

        Raises:
            DataError: no epoch was finished, or the file is damaged.
        """
        try:
            with self.metrics.open(newline="", encoding="utf-8") as file:
                history = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
        except FileNotFoundError:
            raise DataError(
                f"Expected the finished epochs of a run in {self.metrics}, and none was finished. "
                f"Go on with it: twincar train --resume {self.path}"
            ) from None
        except (OSError, ValueError, TypeError, csv.Error) as error:
            raise DataError(f"Expected a table of numbers in {self.metrics}, and it is damaged: {error}") from None
        if not history or any(MONITOR not in epoch for epoch in history):
            raise DataError(f"Expected one row an epoch with {MONITOR} in {self.metrics}, and found none.")
        return history

    @property
    def config(self) -> Path:
        """The resolved configuration, YAML."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """One row an epoch, CSV."""
        return self.path / "metrics.csv"

    @property
    def trained_on(self) -> Path:
        """Hashes of the photos it was trained on and validated on, CSV; see `data.seen`."""
        return self.path / TRAINED_ON

    @property
    def best(self) -> Path:
        """The weights of the best epoch, with all that is needed to use them."""
        return self.path / "best.safetensors"

    @property
    def last(self) -> Path:
        """The state after the last whole epoch, to resume from."""
        return self.path / "last.ckpt"

    @property
    def reports(self) -> Path:
        """Tables and pictures, of the data set it was trained on."""
        return self.path / "reports"

    @property
    def evaluations(self) -> Path:
        """The same of other data sets, each in a folder of its own."""
        return self.path / "evaluations"


def _is_of_none_begun(path: Path) -> bool:
    """Whether a file is one that a run leaves which was stopped before it began."""
    return path.name in (LOCK, TRAINED_ON) or is_unfinished(path)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
