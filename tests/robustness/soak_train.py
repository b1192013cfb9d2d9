"""A soak test of training: memory, open files, threads and processes over two hundred epochs.

python -m tests.robustness.soak_train DATA [--epochs 200] [--limit 8] [--out benchmarks/results/soak_train.md]

DATA is a prepared data set, such as the toy cars'. `twincar train` runs in a separate process, with two loader
processes, averaged weights and TensorBoard, and is measured as each epoch begins. After the first fifth of the epochs
memory must be constant: the slope of a line fitted to it is at most `BOUND`. Open files and threads must not increase.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.measuring import Section, describe_machine
from twincar.core.files import write_text

BOUND = 5.0
"""MiB in 100 epochs."""
WARM_UP = 0.2
"""Share of the epochs before which memory may grow."""
LOOKS = "SOAK_LOOKS"
_SLACK = 3  # what a checkpoint and a table that are just written have open; a leak of one an epoch is far more
_SOME = 5  # epochs of which the least counts: a loader process may not have ended yet
_RECIPE = ("--recipe", "toycars", "--workers", "2", "--tensorboard", "--precision", "fp32", "--set", "ema_decay=0.99")


@dataclass(frozen=True)
class Look:
    """Measurements of the training and its children in one epoch."""

    memory: float
    """MiB; what several processes share counts once."""
    files: int
    """Open file descriptors of the training's own process."""
    threads: int
    processes: int


def train(data: Path, epochs: int, limit: int, folder: Path, backbone: str = "tf_efficientnetv2_b0") -> list[Look]:
    """Train; the measurements at the beginning of each epoch but the first."""
    sizes = ("--backbone", backbone, "--epochs", str(epochs), "--limit", str(limit), "--set", f"patience={epochs}")
    command = [sys.executable, "-c", "from tests.robustness.soak_train import watched; watched()"]
    command += ["--quiet", "train", str(data), "--runs", str(folder), "--name", "run", *_RECIPE, *sizes]
    table = folder / "looks.jsonl"
    subprocess.run(command, env={**os.environ, LOOKS: str(table)}, stdout=subprocess.DEVNULL, check=True)
    return [Look(**json.loads(line)) for line in table.read_text(encoding="utf-8").splitlines()]


def watched() -> None:
    """`twincar`, whose training appends its measurements to the file `LOOKS` as an epoch begins."""
    from twincar.cli import main
    from twincar.training.module import TrainingModule

    begin = TrainingModule.on_train_epoch_start

    def look_and_begin(module: TrainingModule) -> None:
        if module.current_epoch > 0:
            with Path(os.environ[LOOKS]).open("a", encoding="utf-8") as table:
                print(json.dumps(asdict(look(os.getpid()))), file=table)
        begin(module)

    TrainingModule.on_train_epoch_start = look_and_begin  # type: ignore[method-assign]
    main()


def look(process: int) -> Look:
    """At a process and all below it."""
    family = _family(process)
    return Look(
        memory=sum(_memory(member) for member in family),
        files=len(list(Path(f"/proc/{process}/fd").iterdir())),
        threads=len(list(Path(f"/proc/{process}/task").iterdir())),
        processes=len(family),
    )


def _family(process: int) -> list[int]:
    children = []
    for children_of_thread in Path(f"/proc/{process}/task").glob("*/children"):
        children += children_of_thread.read_text().split()
    return [process, *(member for child in children for member in _family(int(child)))]


def _memory(process: int) -> float:
    """Proportional set size, MiB."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def slope(looks: Sequence[Look]) -> float:
    """Growth of memory after the warm-up, MiB in 100 epochs, by least squares."""
    kept = np.array([seen.memory for seen in looks])[round(WARM_UP * len(looks)) :]
    return float(np.polyfit(np.arange(len(kept)), kept, 1)[0]) * 100


def faults(looks: Sequence[Look]) -> list[str]:
    """What was not constant after the warm-up."""
    warm = looks[round(WARM_UP * len(looks)) :]
    found = []
    for name in ("files", "threads", "processes"):
        first, last = (min(getattr(seen, name) for seen in part) for part in (warm[:_SOME], warm[-_SOME:]))
        found += [f"{name} from {first} to {last}"] if last > first + _SLACK else []
    return found + ([f"memory by {slope(looks):.1f} MiB in 100 epochs"] if slope(looks) > BOUND else [])


def report(looks: Sequence[Look]) -> Section:
    """A row for some of the epochs."""
    shown = sorted({0, *(round(share * (len(looks) - 1)) for share in (0.1, WARM_UP, 0.4, 0.6, 0.8)), len(looks) - 1})
    rows = [
        [str(epoch + 1), f"{seen.memory:.0f} MiB", str(seen.files), str(seen.threads), str(seen.processes)]
        for epoch, seen in ((epoch, looks[epoch]) for epoch in shown)
    ]
    note = f"After the first fifth memory grew by {slope(looks):+.1f} MiB in 100 epochs (bound: {BOUND:g})."
    return Section("A long training", ["epoch", "memory", "open files", "threads", "processes"], rows, [note])


def main() -> None:
    """Train, print the results, and fail if they were not constant."""
    parser = argparse.ArgumentParser(prog="python -m tests.robustness.soak_train", description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--limit", type=int, default=8, help="batches an epoch")
    parser.add_argument("--out", type=Path, help="file for the results; printed unless given")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        looks = train(arguments.data, arguments.epochs, arguments.limit, Path(folder))
    command = f"`python -m tests.robustness.soak_train DATA --epochs {arguments.epochs} --limit {arguments.limit}`"
    text = f"# A training, soaked\n\n{command}\n\n{report(looks).to_markdown()}\n{describe_machine()}\n"
    if arguments.out:
        write_text(arguments.out, text)
    else:
        print(text)
    if found := faults(looks):
        sys.exit("Not flat: " + "; ".join(found))


if __name__ == "__main__":
    main()
