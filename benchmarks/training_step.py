"""Training step: seconds and peak memory of one step on batches in memory, and how long steps wait for their input.

python -m benchmarks.training_step DATA

Each way lives in a process of its own, because the allocator and the peak memory are a process's; they step in turn.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F

from benchmarks import yardstick
from benchmarks.measuring import ROUNDS, Section, in_turn, peak_memory, ratio, spread
from twincar.config import AugmentConfig, TrainConfig
from twincar.data.annotations import PreparedData
from twincar.data.loader import default_workers, training_loader
from twincar.machine import SWITCH, keep_freed_memory
from twincar.modeling.mixing import BatchMixer
from twincar.modeling.network import CarNet, weight_groups
from twincar.modeling.precision import choose_precision
from twincar.preprocess import Preprocessing

BACKBONE, SIZE, BATCH = "efficientnetv2_rw_s", 224, 32
WARM_UP = 3  # steps until the heap of a process has the size it keeps
GOAL, MEMORY_GOAL, INPUT_GOAL = 2.1, 0.6, 0.05
WAYS = {
    "yardstick": {"kind": "yardstick", SWITCH: "system"},
    "ours in fp32": {"kind": "fp32", SWITCH: ""},
    "ours in bf16": {"kind": "bf16", SWITCH: ""},
}
ALLOCATORS = {
    "given back": {"kind": "fp32", SWITCH: "system"},
    "kept": {"kind": "fp32", SWITCH: ""},
}


def measure(data: PreparedData | Path) -> Section:
    """Photos a second of a step with a batch of 32 at 224×224, against the yardstick's, and the share spent waiting."""
    opened = data if isinstance(data, PreparedData) else PreparedData.open(data)
    seconds, peaks = _step_in_turn(WAYS)
    allocators, _ = _step_in_turn(ALLOCATORS)
    network = CarNet(BACKBONE, yardstick.CLASSES)
    ours = f"ours in {choose_precision('auto', network, SIZE, SIZE)}"
    waiting = _input_share(opened)
    rows = [
        [
            name,
            f"{BATCH / statistics.median(times):.2f}",
            spread(seconds, "yardstick", name),
            f"{peaks[name] / 1e9:.2f}",
            f"{peaks[name] / peaks['yardstick']:.0%}",
        ]
        for name, times in seconds.items()
    ]
    notes = [
        f"{BACKBONE} with 196 classes, {SIZE}×{SIZE} pixels, batches of {BATCH} that are in memory, Mixup or CutMix, "
        f"AdamW; {torch.get_num_threads()} threads, median of {ROUNDS} steps in turn, each way in its own process.",
        f"`--precision auto` chose {ours.split()[-1]} on this machine. Goals: {GOAL} times the yardstick without "
        f"compiling, at most {MEMORY_GOAL:.0%} of its memory; reached: {ratio(seconds, 'yardstick', ours):.2f} times, "
        f"{peaks[ours] / peaks['yardstick']:.0%}.",
        "Freed memory that stays with the process makes a step in fp32 "
        f"{spread(allocators, 'given back', 'kept')} times as fast ({SWITCH}=system switches it off).",
        f"With the real loader ({default_workers()} process), steps waited {waiting:.1%} of their time for input "
        f"(goal: under {INPUT_GOAL:.0%}).",
    ]
    header = ["way", "photos/s", "times the yardstick", "peak memory, GB", "of the yardstick's"]
    return Section("Training step", header, rows, notes)


def _step_in_turn(ways: Mapping[str, Mapping[str, str]]) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Seconds of each step, and peak memory in bytes, of each way."""
    children = {name: _Child(**way) for name, way in ways.items()}
    seconds = in_turn({name: child.step for name, child in children.items()}, warm_up=WARM_UP)
    return seconds, {name: child.end() for name, child in children.items()}


class _Child:
    """A process that does one step whenever it is told to."""

    def __init__(self, kind: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.training_step", "--child", kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self._read()  # it is ready

    def step(self) -> None:
        """Do one step."""
        self._say("step")

    def end(self) -> int:
        """Stop; gives the peak memory, bytes."""
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


def _be_child(kind: str) -> None:
    """Step for every line on standard input, until 'end'."""
    labels = torch.randint(0, yardstick.CLASSES, (BATCH,))
    step: Callable[[], object]
    if kind == "yardstick":
        step = partial(yardstick.TrainingStep(BACKBONE), torch.randn(BATCH, 3, SIZE, SIZE), labels)
    else:
        pixels = torch.randint(0, 256, (BATCH, SIZE, SIZE, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
        step = partial(OurStep(kind), pixels, labels)
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "end":
            break
        step()
        print("done", flush=True)
    print(peak_memory(), flush=True)


class OurStep:
    """A step as `twincar train` does it, without the Trainer around it."""

    def __init__(self, precision: str) -> None:
        keep_freed_memory()
        config = TrainConfig.from_values({"backbone": BACKBONE, "precision": precision})
        self.network = CarNet(BACKBONE, yardstick.CLASSES, head=config.head, dropout=config.dropout).train()
        self.precision = choose_precision(config.precision, self.network, SIZE, SIZE)
        self.mixer = BatchMixer(config, yardstick.CLASSES)
        groups = weight_groups(self.network, config.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)

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


def _input_share(data: PreparedData) -> float:
    """Share of the time that steps wait for the loader, after the first."""
    loader = training_loader(
        data, augment=AugmentConfig(), preprocessing=Preprocessing(height=SIZE, width=SIZE), batch_size=BATCH,
        balanced=True, seed=0, workers=default_workers(), cache=False,
    )  # fmt: skip
    step = OurStep("auto")
    batches = iter(loader)
    step(*next(batches))
    waited = 0.0
    started = time.perf_counter()
    for _ in range(ROUNDS):
        asked = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - asked
        step(*batch)
    return waited / (time.perf_counter() - started)


if __name__ == "__main__":
    if sys.argv[1] == "--child":
        _be_child(sys.argv[2])
    else:
        print(measure(Path(sys.argv[1])).to_markdown())
