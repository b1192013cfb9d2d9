"""What TwinCar adds to Lightning's Trainer: choice of precision, averaged weights, checkpoints that are never torn."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from twincar.config import Precision
from twincar.errors import UsageError
from twincar.files import write_bytes
from twincar.modeling.weights import read_torch_file

LightningPrecision = Literal["32-true", "bf16-mixed", "16-mixed"]


def lightning_precision(wanted: Precision) -> LightningPrecision:
    """What the Trainer is told: 'auto' is bf16 on GPUs that compute it, fp16 on older ones, fp32 on CPUs.

    Whether a CPU gains from bf16 cannot be told from what it supports: of two that have AVX-512 bf16, one trained
    twice as fast with it and one slower.

    Raises:
        UsageError: fp16 was asked for on a CPU.
    """
    cuda = torch.cuda.is_available()
    if wanted == "auto":
        wanted = "fp32" if not cuda else "bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp16"
    if wanted == "fp16" and not cuda:
        raise UsageError("Expected a GPU for --precision fp16, and found none; use bf16 or fp32.")
    choices: dict[str, LightningPrecision] = {
        "fp32": "32-true",
        "bf16": "bf16-mixed",
        "fp16": "16-mixed",
    }
    return choices[wanted]


class AveragedWeights(WeightAveraging):
    """Exponential moving average of the weights, validated and saved in place of the raw ones.

    The decay grows as (1 + n) / (10 + n) after n steps up to its final value, so that the first random weights are
    forgotten soon (as in TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, decay: float) -> None:
        def average(averaged: Tensor, current: Tensor, steps: Tensor | int) -> Tensor:
            if not averaged.is_floating_point():
                return current
            return averaged.lerp(current, 1 - min(decay, (1 + int(steps)) / (10 + int(steps))))

        super().__init__(avg_fn=average)


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints that are whole or not there, written and read as every other file of ours."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:  # noqa: ARG002
        """Write through a temporary file."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_bytes(Path(path), buffer.getvalue())

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:  # noqa: ARG002
        """Read tensors and plain containers only."""
        content: dict[str, Any] = read_torch_file(Path(path))
        return content
