"""What TwinCar adds to Lightning's Trainer: averaged weights, checkpoints that are never torn."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from twincar.choices import Precision
from twincar.files import write_bytes
from twincar.modeling.weights import read_torch_file

LIGHTNING_PRECISION: dict[Precision, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "fp32": "32-true",
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
}
"""What the Trainer calls them; parameters stay in fp32."""


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
