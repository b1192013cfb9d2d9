"""Record each epoch of a training run: a row of `metrics.csv`, and the weights if they are the best so far."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from time import perf_counter
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from twincar.core.errors import DataError, TwinCarError
from twincar.core.files import write_csv
from twincar.core.runs import MONITOR, Epoch, RunFolder, best_epoch
from twincar.metrics.classification import Predictions, classification_metrics
from twincar.models.calibration import softmax
from twincar.models.calibration_fit import fit_calibration
from twincar.models.checkpoint import save_model
from twincar.models.spec import ModelSpec
from twincar.training.module import TrainingModule

log = logging.getLogger(__name__)


class Recorder(Callback):
    """Writes `metrics.csv` and the best weights. Its history is part of the checkpoint, so a resumed run rewrites
    `metrics.csv` completely, and no epoch is in it twice."""

    def __init__(self, run: RunFolder, spec: ModelSpec, data_sha256: str) -> None:
        self.run = run
        self.spec = spec
        self.data_sha256 = data_sha256
        self.history: list[Epoch] = []
        self.validation: Epoch = {}
        self.started = 0.0
        self.learning_rate = 0.0

    def state_dict(self) -> dict[str, Any]:
        """The state for the checkpoint."""
        return {"history": self.history, "data_sha256": self.data_sha256}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the history of the run.

        Raises:
            DataError: the data set is not the one with which the run was started.
        """
        if state_dict["data_sha256"] != self.data_sha256:
            raise DataError(
                "Expected the data set with which this run was started, but its annotations have changed since. "
                "Prepare it again as it was, or start a new run."
            )
        for row in state_dict["history"]:
            if not all(isinstance(value, int | float) for value in row.values()):
                raise ValueError("its history has values that are not numbers")
        self.history = list(state_dict["history"])

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Start the clock."""
        self.started = perf_counter()

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Record the highest learning rate of all layers in this step, before the schedule changes it."""
        self.learning_rate = max(group["lr"] for group in trainer.optimizers[0].param_groups)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score the epoch, and save its weights with a calibration if it is the best; with EMA the averaged ones."""
        assert isinstance(pl_module, TrainingModule)
        labels, logits = pl_module.validation_results()
        metrics = classification_metrics(Predictions.from_probabilities(labels, softmax(logits)))
        self.validation = {f"val_{name}": value for name, value in metrics.items()}
        for name, value in self.validation.items():
            pl_module.log(name, value)  # not in the progress bar, which would then take two lines
        score = self.validation[MONITOR]
        if trainer.is_global_zero and all(score > row[MONITOR] for row in self.history):
            provenance = {**self.spec.provenance, "epoch": trainer.current_epoch + 1, "validation": self.validation}
            spec = replace(self.spec, provenance=provenance, calibration=fit_calibration(logits, labels))
            save_model(self.run.best, pl_module.network, spec)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the epoch's row."""
        training = {name: float(trainer.callback_metrics[name]) for name in ("train_loss", "train_acc")}
        if not math.isfinite(training["train_loss"]):
            raise TwinCarError(
                f"The training loss is no longer a number in epoch {trainer.current_epoch + 1}. Lower "
                "--learning-rate, or use --precision fp32; the best epoch before is kept in the run folder."
            )
        pl_module.log("learning_rate", self.learning_rate)
        work = {"learning_rate": self.learning_rate, "seconds": round(perf_counter() - self.started, 2)}
        row = {"epoch": trainer.current_epoch + 1, **work, **training, **self.validation}
        self.history = [*self.history, row]
        if trainer.is_global_zero:
            write_csv(self.run.metrics, self.history)
            self._log_row(row, trainer.max_epochs or 0)

    def _log_row(self, row: Epoch, epochs: int) -> None:
        """Log the epoch in one line of a terminal of 80 columns; `metrics.csv` has all figures."""
        best = " (best)" if best_epoch(self.history) is row else ""
        log.info(
            "epoch %d/%d  loss %.3f | val accuracy %.3f  macro-F1 %.3f%s  %.0f s",
            row["epoch"], epochs, row["train_loss"], row["val_acc"], row[MONITOR], best, row["seconds"],
        )  # fmt: skip
