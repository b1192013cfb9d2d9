"""The folder of a training run, its lock and its history.

A run is one folder, `config.yaml trained_on.csv metrics.csv best.safetensors last.ckpt reports/ evaluations/`.
"""

from __future__ import annotations

import csv
import errno
import logging
import os
import platform
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from twincar.core.config import TrainConfig, read_yaml
from twincar.core.errors import DataError, UsageError, storage_errors
from twincar.core.files import clear_unfinished, is_unfinished
from twincar.core.portable import lock
from twincar.core.run_files import (
    CHECKPOINT_FILE,
    CONFIG_FILE,
    HISTORY_FILE,
    LOCK_FILE,
    TRAINED_ON_FILE,
    WEIGHTS_FILE,
)
from twincar.core.wording import command

log = logging.getLogger(__name__)

Epoch = dict[str, float]
"""One row of `metrics.csv`: `epoch` (from 1), `learning_rate` (the highest of all layers in the last step), `seconds`,
`train_loss`, `train_acc`, and validation metrics with the prefix `val_`."""

MONITOR = "val_f1_macro"
"""The column by which the best epoch is chosen: macro-F1 on the validation photos."""


def best_epoch(history: Sequence[Epoch]) -> Epoch:
    """The epoch with the highest validation macro-F1, whose weights are kept; the first of equal ones."""
    return max(history, key=lambda epoch: epoch[MONITOR])


def is_finished(config: TrainConfig, history: Sequence[Epoch]) -> bool:
    """Whether a run has done all its epochs, or stopped early: its patience ended without a better one."""
    return len(history) >= config.epochs or _epochs_after_best(history) >= config.patience


def ending(config: TrainConfig, history: Sequence[Epoch]) -> str:
    """A sentence on why a run ended before its last possible epoch; empty if all epochs were done."""
    if len(history) >= config.epochs:
        return ""
    if is_finished(config, history):
        later = _epochs_after_best(history)
        what = "the one after the best was no better" if later == 1 else f"the {later} after the best were no better"
        return f"It stopped early, after {len(history)} of at most {config.epochs} epochs: {what}."
    return f"It is not finished: {len(history)} of at most {config.epochs} epochs are done."


def _epochs_after_best(history: Sequence[Epoch]) -> int:
    return len(history) - int(best_epoch(history)["epoch"])


@dataclass(frozen=True)
class RunFolder:
    """The parts of a training run, `runs/<name>/`."""

    path: Path

    @staticmethod
    def check_free(path: Path) -> None:
        """Check that a new run can be created at `path`.

        Raises:
            UsageError: `path` exists; a run is never overwritten.
        """
        if path.exists() and (not path.is_dir() or not all(map(_is_of_none_begun, path.iterdir()))):
            run = RunFolder(path)
            empty = ", although no epoch of it is finished" if run.config.exists() and not run.metrics.exists() else ""
            raise UsageError(
                f"A run is never overwritten, but {path} exists{empty}. "
                f"Resume it (--resume {shlex.quote(str(path))}), choose another --name, or delete it."
            )

    def continuation(self, data: str) -> str:
        """The command that starts another run with the settings and the best weights of this one."""
        begin = ("--config", self.config, "--pretrained", self.best)
        return command("train", data, *begin, "--name", f"{self.path.resolve().name}-longer")

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Create a new run folder.

        Raises:
            UsageError: `path` exists; a run is never overwritten.
            StorageError: the folder cannot be created.
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
        """Hold the lock of the run, so that no other process trains it; a killed process loses it too; see `lock`.

        Raises:
            UsageError: another process holds it.
            StorageError: the run folder cannot be written to.
        """
        with storage_errors(self.path):
            file = (self.path / LOCK_FILE).open("a+", encoding="utf-8")
        with file:
            self._lock(file)
            with storage_errors(self.path):
                file.truncate(0)
                file.write(f"process {os.getpid()} on {platform.node()}")
                file.flush()
            yield

    def _lock(self, file: TextIO) -> None:
        try:
            lock(file)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                log.warning(
                    "%s cannot be locked (%s): make sure that no other process trains it.", self.path, error.strerror
                )
                return
            file.seek(0)
            raise UsageError(
                f"Expected no other process to train {self.path}, but {file.read(200) or 'one'} is training it. "
                "Wait until it has ended, or stop it."
            ) from None

    def read_config(self) -> TrainConfig:
        """The settings in `config.yaml`.

        Raises:
            UsageError: the file is missing, or a setting in it is unknown or not valid.
        """
        return TrainConfig.from_values(read_yaml(self.config))

    def read_history(self) -> list[Epoch]:
        """The rows of `metrics.csv`.

        Raises:
            DataError: no epoch is finished, or the file is damaged.
        """
        try:
            with self.metrics.open(newline="", encoding="utf-8") as file:
                history = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
        except FileNotFoundError:
            raise DataError(
                f"Expected the finished epochs of a run in {self.metrics}, but no epoch is finished. "
                f"Resume it: {command('train', '--resume', self.path)}"
            ) from None
        except (OSError, ValueError, TypeError, csv.Error) as error:
            raise DataError(f"Expected a table of numbers in {self.metrics}, but it is damaged: {error}") from None
        if not history or any(MONITOR not in epoch for epoch in history):
            raise DataError(f"Expected one row per epoch with {MONITOR} in {self.metrics}, but found none.")
        return history

    @property
    def config(self) -> Path:
        """The resolved configuration, YAML."""
        return self.path / CONFIG_FILE

    @property
    def metrics(self) -> Path:
        """The history, CSV: one row per epoch."""
        return self.path / HISTORY_FILE

    @property
    def trained_on(self) -> Path:
        """Hashes of the photos of its training and validation splits, CSV; see `data.training_record`."""
        return self.path / TRAINED_ON_FILE

    @property
    def best(self) -> Path:
        """The model file of the best epoch: weights and metadata."""
        return self.path / WEIGHTS_FILE

    @property
    def last(self) -> Path:
        """The training state after the last finished epoch, to resume from."""
        return self.path / CHECKPOINT_FILE

    @property
    def reports(self) -> Path:
        """Results on the data set the run was trained on."""
        return self.path / "reports"

    @property
    def evaluations(self) -> Path:
        """Results on other data sets, one folder for each."""
        return self.path / "evaluations"


def _is_of_none_begun(path: Path) -> bool:
    """Whether a file may be left by a run that was stopped before its first epoch."""
    return path.name in (LOCK_FILE, TRAINED_ON_FILE) or is_unfinished(path)
