"""Recipes compared: the accuracy that each reaches in the same minutes, from the same weights, on the same photos.

python -m benchmarks.quality.recipes DATA --pretrained FILE --minutes 10 30 60 --out FOLDER [--only lite timm]

FILE has the initial weights of `--backbone`, tf_efficientnet_lite0 by default. The recipes are TwinCar's `lite`,
`published` and `best` with this backbone, and the usual ones of timm and torchvision (`usual_recipes.py`), each at its
own input size.

Each number of minutes is a training of its own, whose schedule ends there; warm-ups keep their share of it. A short
trial measures the speed of each recipe first, and the minutes are counted by it: only the trials need a machine that
does nothing else. Only training counts, neither the validation after each epoch nor the
start; in every recipe the best epoch on the validation photos is the one that is reported. All recipes run in one
process, with TwinCar's settings of the allocator. On a machine with a GPU set CUDA_VISIBLE_DEVICES to nothing, because
timm's and torchvision's recipes compute on the CPU.

FOLDER keeps what is finished, and the program continues after it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from unittest.mock import patch

import torch

import twincar
from benchmarks.measuring import Section
from benchmarks.quality.training_plan import Outcome, Photos, Plan, Start
from benchmarks.quality.usual_recipes import BATCH_SIZE, timm_recipe, torchvision_recipe, train_usually
from twincar import TrainConfig
from twincar.core.errors import UsageError
from twincar.core.files import read_json, write_json, write_text
from twincar.core.machine import describe_cpu, tune_glibc_malloc
from twincar.core.runs import MONITOR
from twincar.data.dataset import PreparedData
from twincar.training import train as training
from twincar.training.module import TrainingModule

OURS = ("lite", "published", "best")
USUAL = {"timm": timm_recipe, "torchvision": torchvision_recipe}
_TRIAL = 2048  # photos on which the speed of a recipe is measured


@dataclass(frozen=True)
class Cell:
    """One recipe after so many minutes."""

    recipe: str
    minutes: float
    trained: float
    """Minutes that the training took."""
    passes: float
    """Passes over the training photos."""
    photos_per_second: float
    accuracy: float
    macro_f1: float


class _TimedModule(TrainingModule):
    """Measures the time of the training without the validations."""

    seconds = 0.0
    begun = 0.0

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.begun = perf_counter()

    def on_validation_epoch_start(self) -> None:
        _TimedModule.seconds += perf_counter() - self.begun
        super().on_validation_epoch_start()


def train_ours(config: TrainConfig, plan: Plan) -> Outcome:
    """Train by a recipe of TwinCar, compressed to the epochs of the plan."""
    flags = {
        "epochs": plan.epochs,
        "limit_batches": plan.batches,
        "warmup_epochs": config.warmup_epochs * plan.epochs / config.epochs,
        "patience": plan.epochs if config.patience == config.epochs else config.patience,
        **{name: getattr(config, name) for name in ("data", "backbone", "pretrained")},
    }
    _TimedModule.seconds = 0.0
    with TemporaryDirectory() as folder, patch.object(training, "TrainingModule", _TimedModule):
        result = twincar.train(TrainConfig.resolve(recipe=config.recipe, flags=flags), Path(folder) / "run")
    return Outcome(_TimedModule.seconds, len(result.history), result.best["val_acc"], result.best[MONITOR])


@dataclass(frozen=True)
class Recipe:
    """A recipe, ready to train for any number of photos."""

    name: str
    train: Callable[[Plan], Outcome]
    photos: Photos

    @classmethod
    def of(cls, name: str, start: Start, data: PreparedData) -> Recipe:
        """One of `OURS` or `USUAL`, for a start."""
        counts = len(data.split("train")), len(data.split("val"))
        if name in USUAL:
            return cls(name, partial(train_usually, USUAL[name], start), Photos(*counts, BATCH_SIZE))
        flags = {**asdict(start), "data": str(start.data)}
        config = TrainConfig.resolve(recipe=name, flags=flags)
        return cls(name, partial(train_ours, config), Photos(*counts, config.batch_size))

    def measure(self, photos: float, minutes: float) -> Cell:
        """Train on this many photos, repetitions counted, which should take these minutes."""
        plan = self.photos.plan(photos)
        outcome = self.train(plan)
        seen = self.photos.seen(plan, outcome.epochs)
        return Cell(
            self.name,
            minutes,
            outcome.seconds / 60,
            seen / self.photos.train,
            seen / outcome.seconds,
            outcome.accuracy,
            outcome.macro_f1,
        )


def compare(start: Start, names: Sequence[str], minutes: Sequence[float], out: Path) -> list[Cell]:
    """Train by each recipe for each number of minutes; what `out` has already is not trained again.

    Raises:
        UsageError: `out` has results of another data set, network or initial weights.
    """
    data = PreparedData.open(start.data)
    out.mkdir(parents=True, exist_ok=True)
    _claim(out, {**asdict(start), "data": str(start.data.resolve()), "sha256": data.manifest["sha256"]})
    recipes = [Recipe.of(name, start, data) for name in names]
    trials = [_remembered(out / f"{recipe.name}-trial.json", partial(recipe.measure, _TRIAL, 0)) for recipe in recipes]
    cells = []
    for budget in sorted(minutes):
        for recipe, trial in zip(recipes, trials, strict=True):
            photos = budget * 60 * trial.photos_per_second
            cell = _remembered(out / f"{recipe.name}-{budget:g}.json", partial(recipe.measure, photos, budget))
            print(cell, file=sys.stderr, flush=True)
            cells.append(cell)
    return cells


def _claim(out: Path, start: dict[str, object]) -> None:
    """Note in `out` what its results are of, or compare it with what is noted there."""
    note = out / "start.json"
    if note.exists() and read_json(note) != start:
        raise UsageError(f"Expected results from the same start in {out}, but {note} differs. Choose another folder.")
    write_json(note, start)


def _remembered(path: Path, measure: Callable[[], Cell]) -> Cell:
    if not path.exists():
        write_json(path, asdict(measure()))
    return Cell(**read_json(path))


def to_section(cells: Sequence[Cell], start: Start) -> Section:
    """The table: for each number of minutes the most accurate recipe first."""
    data = PreparedData.open(start.data)
    header = ["minutes", "recipe", "accuracy", "macro-F1", "minutes trained", "passes", "photos/s"]
    rows = [
        [
            f"{cell.minutes:g}",
            cell.recipe,
            f"{cell.accuracy:.3f}",
            f"{cell.macro_f1:.3f}",
            f"{cell.trained:.1f}",
            f"{cell.passes:.1f}",
            f"{cell.photos_per_second:.0f}",
        ]
        for cell in sorted(cells, key=lambda cell: (cell.minutes, -cell.accuracy))
    ]
    note = (
        f"{start.backbone} from {Path(start.pretrained).name}; {len(data.split('train')):,} training photos; accuracy "
        f"and macro-F1 on {len(data.split('val')):,} validation photos, of the best epoch on them. {describe_cpu()}, "
        f"{torch.get_num_threads()} threads."
    )
    return Section("Recipes in the same minutes", header, rows, [note])


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Compares recipes in the same minutes.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--pretrained", required=True, help="file of initial weights, or 'none'")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--minutes", type=float, nargs="+", default=[10, 30, 60])
    parser.add_argument("--only", nargs="+", choices=[*OURS, *USUAL], default=[*OURS, *USUAL], help="recipes")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args(argv)
    tune_glibc_malloc()
    start = Start(asked.data, asked.backbone, asked.pretrained)
    text = to_section(compare(start, asked.only, asked.minutes, asked.out), start).to_markdown()
    write_text(asked.out / "recipes.md", text)
    print(text)


if __name__ == "__main__":
    main()
