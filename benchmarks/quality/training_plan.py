"""How long a training of `benchmarks.quality.recipes` is, and what comes of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

_LEAST_EPOCHS = 4  # `initial_resolution` grows in four stages


@dataclass(frozen=True)
class Start:
    """What all recipes have in common."""

    data: Path
    backbone: str
    pretrained: str
    """A file of initial weights, or 'none'."""


@dataclass(frozen=True)
class Plan:
    """The length of a training."""

    epochs: int
    """Parts of the training, each of which ends with a validation: passes over the photos, or equal parts of them."""
    batches: int
    """Batches in each of them."""


@dataclass(frozen=True)
class Outcome:
    """The result of a training."""

    seconds: float
    """Without validation, and without building network and loaders."""
    epochs: int
    """Less than planned if the recipe stopped early."""
    accuracy: float
    """On the validation photos, of the epoch with the best macro-F1 there."""
    macro_f1: float


@dataclass(frozen=True)
class Photos:
    """Numbers of photos."""

    train: int
    val: int
    batch: int
    """In a step."""

    @property
    def batches_in_pass(self) -> int:
        """Steps in a pass over the training photos, of which the last may be short."""
        return math.ceil(self.train / self.batch)

    @property
    def least(self) -> int:
        """Fewest batches of an epoch: TwinCar validates on no more batches, of twice the size, than it trains on."""
        return min(self.batches_in_pass, math.ceil(self.val / (2 * self.batch)))

    def plan(self, photos: float) -> Plan:
        """A training on this many photos, repetitions counted, in passes of equal length."""
        steps = photos / self.batch
        epochs = max(_LEAST_EPOCHS, math.ceil(steps / self.batches_in_pass))
        return Plan(epochs, min(self.batches_in_pass, max(self.least, round(steps / epochs))))

    def seen(self, plan: Plan, epochs: int) -> int:
        """Photos in so many epochs of a plan, repetitions counted."""
        return epochs * min(plan.batches * self.batch, self.train)
