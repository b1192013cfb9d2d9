"""The folder of a training run and its history."""

from __future__ import annotations

import csv
import errno
import fcntl
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from twincar.core.errors import DataError, UsageError, storage_errors
from twincar.core.files import LOCK, TRAINED_ON, clear_unfinished, is_unfinished, log

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
        """Hashes of the photos it was trained on and validated on, CSV; see `data.training_record`."""
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
