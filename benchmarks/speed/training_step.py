"""Training step: seconds and peak memory of one step on batches in memory, and how long steps wait for their input.

python -m benchmarks DATA --only training-step

Each implementation runs in a separate process, because allocator and peak memory belong to a process; the processes
step alternately.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F

from benchmarks.measuring import FULL, SMALLEST, Scale, Section, in_turn, peak_memory, ratio, spread
from benchmarks.speed import yardstick
from twincar.core.augmentation import AugmentConfig
from twincar.core.config import TrainConfig
from twincar.core.machine import SWITCH, tune_glibc_malloc
from twincar.core.preprocess import Preprocessing
from twincar.data.dataset import PreparedData
from twincar.data.loading.loader import TrainingPhotos, default_workers, training_loader
from twincar.models.network import CarNet, weight_groups
from twincar.training.mixing import BatchMixer
from twincar.training.precision import choose_precision

WARM_UP = 3  # steps until the heap of a process has the size it keeps
GOAL, MEMORY_GOAL, INPUT_GOAL = 2.1, 0.6, 0.05
WAYS = {
    "baseline": {"kind": "baseline", SWITCH: "system"},
    "TwinCar in fp32": {"kind": "fp32", SWITCH: ""},
    "TwinCar in bf16": {"kind": "bf16", SWITCH: ""},
}
ALLOCATORS = {
    "returned": {"kind": "fp32", SWITCH: "system"},
    "kept": {"kind": "fp32", SWITCH: ""},
}


def measure(data: PreparedData, scale: Scale = FULL) -> Section:
    """Photos a second of a step on a batch in memory, compared with the baseline, and the share spent waiting."""
    seconds, peaks = _step_in_turn(WAYS, scale)
    allocators, _ = _step_in_turn(ALLOCATORS, scale)
    network = CarNet(scale.backbone, yardstick.CLASSES)
    ours = f"TwinCar in {choose_precision('auto', network, scale.size, scale.size)}"
    waiting = _input_share(data, scale)
    rows = [
        [
            name,
            f"{scale.batch / statistics.median(times):.2f}",
            spread(seconds, "baseline", name),
            f"{peaks[name] / 1e9:.2f}",
            f"{peaks[name] / peaks['baseline']:.0%}",
        ]
        for name, times in seconds.items()
    ]
    notes = [
        f"{scale.backbone} with 196 classes, {scale.size}×{scale.size} pixels, batches of {scale.batch} that are in "
        f"memory, Mixup or CutMix, AdamW; {torch.get_num_threads()} threads, median of {scale.rounds} alternating "
        "steps, each implementation in its own process.",
        f"`--precision auto` chose {ours.split()[-1]} on this machine. Goals: a speed-up of {GOAL} without compiling, "
        f"at most {MEMORY_GOAL:.0%} of its memory; reached: {ratio(seconds, 'baseline', ours):.2f} times, "
        f"{peaks[ours] / peaks['baseline']:.0%}.",
        "Keeping freed memory in the process makes a step in fp32 "
        f"{spread(allocators, 'returned', 'kept')} times as fast ({SWITCH}=system switches it off).",
        f"With the real loader ({default_workers()} process), steps waited {waiting:.1%} of their time for input "
        f"(goal: under {INPUT_GOAL:.0%}).",
    ]
    header = ["implementation", "photos/s", "speed-up", "peak memory, GB", "share of the baseline"]
    return Section("Training step", header, rows, notes)


def _step_in_turn(ways: Mapping[str, Mapping[str, str]], scale: Scale) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Seconds of each step, and peak memory in bytes, of each implementation."""
    children = {name: _Child(scale, **way) for name, way in ways.items()}
    steps = {name: child.step for name, child in children.items()}
    seconds = in_turn(steps, rounds=scale.rounds, warm_up=WARM_UP)
    return seconds, {name: child.end() for name, child in children.items()}


class _Child:
    """A process that runs one step on each request."""

    def __init__(self, scale: Scale, kind: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "benchmarks.speed.training_step",
                kind,
                *(["--smallest"] if scale == SMALLEST else []),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self._read()  # it is ready

    def step(self) -> None:
        """Run one step."""
        self._say("step")

    def end(self) -> int:
        """Stop, and return the peak memory in bytes."""
        peak = int(self._say("end"))
        self.process.wait()
        return peak

    def _say(self, word: str) -> str:
        assert self.process.stdin
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the process that steps has died")
        return line


def _be_child(kind: str, scale: Scale) -> None:
    """Run a step for every line on standard input, until 'end'."""
    step = make_step(kind, scale)
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "end":
            break
        step()
        print("done", flush=True)
    print(peak_memory(), flush=True)


def make_step(kind: str, scale: Scale) -> Callable[[], float]:
    """A step on a batch in memory, of the baseline or of TwinCar in a precision."""
    batch, size = scale.batch, scale.size
    labels = torch.randint(0, yardstick.CLASSES, (batch,))
    if kind == "baseline":
        return partial(yardstick.TrainingStep(scale.backbone), torch.randn(batch, 3, size, size), labels)
    pixels = torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    return partial(OurStep(kind, scale), pixels, labels)


class OurStep:
    """A step as `twincar train` does it, without the Trainer around it."""

    def __init__(self, precision: str, scale: Scale) -> None:
        tune_glibc_malloc()
        config = TrainConfig.from_values({"backbone": scale.backbone, "precision": precision})
        self.network = CarNet(scale.backbone, yardstick.CLASSES, head=config.head, dropout=config.dropout).train()
        self.precision = choose_precision(config.precision, self.network, scale.size, scale.size)
        self.mixer = BatchMixer(
            yardstick.CLASSES,
            mixup=config.mixup,
            cutmix=config.cutmix,
            probability=config.mix_probability,
            label_smoothing=config.label_smoothing,
        )
        groups = weight_groups(self.network, learning_rate=config.learning_rate, weight_decay=config.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, fused=True)

    def __call__(self, images: torch.Tensor, labels: torch.Tensor) -> float:
        """The loss of uint8 photos, N×3×H×W, with labels N."""
        mixed, targets = self.mixer(images, labels)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16"):
            loss = F.cross_entropy(self.network(mixed), targets)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        return loss.item()


def _input_share(data: PreparedData, scale: Scale) -> float:
    """Share of the time that steps wait for the loader, without the first step."""
    photos = TrainingPhotos(data, AugmentConfig(), Preprocessing(height=scale.size, width=scale.size), seed=0)
    loader = training_loader(photos, batch_size=scale.batch, balanced=True, workers=default_workers())
    step = OurStep("auto", scale)
    batches = iter(loader)
    step(*next(batches))
    waited = 0.0
    started = time.perf_counter()
    for _ in range(scale.rounds):
        asked = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - asked
        step(*batch)
    return waited / (time.perf_counter() - started)


if __name__ == "__main__":
    _be_child(sys.argv[1], SMALLEST if "--smallest" in sys.argv else FULL)
