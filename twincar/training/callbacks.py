"""Additions to Lightning's Trainer: averaged weights, atomic and validated checkpoints, fewer messages."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar, WeightAveraging
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from twincar.core.errors import CheckpointError, TwinCarError, reason
from twincar.core.files import write_bytes
from twincar.core.options import Precision
from twincar.core.quiet import quiet_loggers
from twincar.models.weights import read_torch_file

log = logging.getLogger(__name__)

_FIRST_BEAT = 10  # seconds to the first line of a log
_HEARTBEAT = 60  # and between two others
LIGHTNING_PRECISION: dict[Precision, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "fp32": "32-true",
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
}
"""The Trainer's names of the precisions; parameters stay in fp32."""


class AveragedWeights(WeightAveraging):
    """Exponential moving average of the weights, which is validated and saved instead of the raw ones.

    The decay grows as (1 + n) / (10 + n) after n steps up to its final value, so that the initial random weights are
    soon forgotten (as in TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, decay: float) -> None:
        def average(averaged: list[Tensor], current: list[Tensor], steps: Tensor) -> None:
            if not averaged[0].is_floating_point():
                torch._foreach_copy_(averaged, current)
                return
            # All weights at once; the step count stays a tensor, because reading it would wait for the GPU each time.
            change = torch._foreach_sub(current, averaged)
            torch._foreach_mul_(change, 1 - torch.clamp((1 + steps) / (10 + steps), max=decay))
            torch._foreach_add_(averaged, change)

        super().__init__(multi_avg_fn=average)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Create the average, and keep its step count on the CPU, where it is read."""
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None:
            self._average_model.n_averaged = self._average_model.n_averaged.cpu()


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints that are written atomically and read as plain data."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:  # noqa: ARG002
        """Write through a temporary file."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_bytes(Path(path), buffer.getvalue())

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:  # noqa: ARG002
        """Read tensors and plain containers only."""
        content: dict[str, Any] = read_torch_file(Path(path))
        return content


class RestoredState(Callback):
    """Tracks whether a restored checkpoint is valid: until one epoch is done, an error is blamed on the file."""

    def __init__(self) -> None:
        self.begun = False
        """Whether all of the state has been restored."""
        self.proved = False
        """Whether an epoch has been finished with it."""

    @classmethod
    @contextmanager
    def watch(cls, trainer: Trainer, path: Path) -> Iterator[None]:
        """Raise any error in restoring the state of `path` as one `CheckpointError`.

        Raises:
            CheckpointError: the file is damaged, or of another network; Lightning and torch do not check that.
        """
        restored = cls()
        trainer.callbacks.append(restored)  # type: ignore[attr-defined]  # its connector sets the attribute
        try:
            yield
        except TwinCarError:
            raise
        except Exception as error:
            if restored.proved or (restored.begun and isinstance(error, RuntimeError | OSError)):  # memory, processes
                raise
            raise CheckpointError(
                f"Expected the state of this run in {path}, but it is damaged or of another run: {reason(error)}. "
                "Restore it from a copy, or start a new run; the best epoch so far is kept beside it."
            ) from error

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Check that the optimiser's state fits the weights; torch would fail only in the first step."""
        for optimizer in trainer.optimizers:
            for parameter, state in optimizer.state.items():
                if set(state) != {"step", "exp_avg", "exp_avg_sq"}:
                    raise ValueError(f"the optimiser's state has {', '.join(map(str, state)) or 'nothing'}")
                for name, value in state.items():
                    if not isinstance(value, Tensor) or value.shape not in (parameter.shape, torch.Size()):
                        raise ValueError(f"{name} of the optimiser does not fit the weights")
        self.begun = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Record that steps, schedule and counters have all been used without an error."""
        self.proved = True


class EpochBar(RichProgressBar):
    """The progress bar, with epochs counted from 1 to their largest number, as in the lines of the log."""

    def _get_train_description(self, current_epoch: int) -> str:
        return f"epoch {current_epoch + 1}/{self.trainer.max_epochs}".ljust(len(self.validation_description))


class Heartbeat(Callback):
    """Logs the step after ten seconds and then once a minute, where there is no progress bar: it is seen to move."""

    def __init__(self) -> None:
        self.wait = _FIRST_BEAT

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Start the clock."""
        self.logged = perf_counter()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,  # noqa: ARG002
        outputs: Any,  # noqa: ARG002
        batch: Any,  # noqa: ARG002
        batch_idx: int,
    ) -> None:
        """Log the step if it is time for another line."""
        if trainer.is_global_zero and perf_counter() - self.logged >= self.wait:
            self.logged, self.wait = perf_counter(), _HEARTBEAT
            steps = trainer.num_training_batches
            log.info("epoch %d/%d  step %d of %s", trainer.current_epoch + 1, trainer.max_epochs, batch_idx + 1, steps)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's own messages and warnings during a training; TwinCar logs what its users need."""
    with quiet_loggers("lightning.pytorch", "lightning.fabric", "pytorch_lightning"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\.")
        warnings.filterwarnings("ignore", message=r".*does not have many workers.*")
        yield
