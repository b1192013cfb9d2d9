"""Trains a candidate for the bundled model on a GPU: an EfficientNetV2 taught by models that are good already.

python -m benchmarks.quality.bundled_student DATA --teachers MODEL[,MODEL...] --out FOLDER
    [--backbone tf_efficientnetv2_b1] [--pretrained FILE] [--epochs 44] [--limit N]

DATA is the prepared data set of the bundled model, photos cut to the box of the car. Each teacher is a run or a model
file; runs and safetensors compute on the GPU, exported files on the CPU. Without `--pretrained` the network starts from
random weights with the recipe `scratch`, else from those weights with the recipe `lite`. Teachers have nine tenths of
the loss: they see the mixed photos, of which they know more than the labels do, for hundreds of passes (Beyer et al.,
2022).

The run is FOLDER/run. The same command continues after the last finished epoch, so where commands may not last long,
write `timeout --signal=INT 570` before it and repeat it until it prints the table: student and teachers on the
validation photos, and the size of the exported student. The test photos are not looked at; `bundled_model.py` says how
the bundled model is chosen and evaluated.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import twincar
from benchmarks.measuring import Section
from benchmarks.quality.bundled_header import export_as_bundled
from twincar import DetectOptions, TrainConfig
from twincar.core.files import write_text
from twincar.core.runs import RunFolder

_TEACHING = {"distill_weight": 0.9, "augment": {"low_quality": 0.5}}
"""In which the training differs from its recipe."""


def make_student(config: TrainConfig, out: Path) -> Path:
    """Train and export the student in `out`, from the last finished epoch on, and return the path of the file."""
    run, model = out / "run", out / "student.onnx"
    if model.exists():
        return model
    if RunFolder(run).config.exists():
        twincar.resume(run)
    else:
        twincar.train(config, run)
    return export_as_bundled(run, model)


def to_section(student: Path, config: TrainConfig, out: Path) -> Section:
    """The table: the student and each teacher on the validation photos."""
    rows = []
    for number, model in enumerate([str(student), *config.teachers]):
        folder = out / "evaluations" / str(number)
        found = twincar.evaluate(
            model, split="val", data_folder=config.data, out=folder, detection=DetectOptions(detect="never")
        )
        size = f"{student.stat().st_size / 1e6:.1f}" if not number else ""
        rows.append([Path(model).name, size, str(found.accuracy), str(found.macro_f1), f"{found.metrics['ece']:.3f}"])
    header = ["model", "MB", "accuracy", "macro-F1", "ECE"]
    note = f"{config.backbone}, {config.epochs} epochs of {config.epoch_repeats} passes."
    return Section("The student and its teachers", header, rows, [note])


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Trains a candidate for the bundled model on a GPU.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--teachers", required=True, help="runs or model files, separated by commas")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--backbone", default="tf_efficientnetv2_b1")
    parser.add_argument("--pretrained", help="file of initial weights; random ones without it")
    parser.add_argument("--epochs", type=int, help="by default those of the recipe")
    parser.add_argument("--limit", type=int, help="batches in an epoch, to try the program out")
    asked = parser.parse_args(argv)
    flags: dict[str, Any] = {
        **_TEACHING,
        "data": str(asked.data),
        "teachers": tuple(asked.teachers.split(",")),
        "backbone": asked.backbone,
        "pretrained": asked.pretrained,
        "epochs": asked.epochs,
        "patience": asked.epochs,
        "limit_batches": asked.limit,
    }
    config = TrainConfig.resolve(recipe="lite" if asked.pretrained else "scratch", flags=flags)
    asked.out.mkdir(parents=True, exist_ok=True)
    text = to_section(make_student(config, asked.out), config, asked.out).to_markdown()
    write_text(asked.out / "student.md", text)
    print(text)


if __name__ == "__main__":
    main()
