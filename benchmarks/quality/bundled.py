"""Quality of the bundled model, and of others for comparison, on a labelled split.

python -m benchmarks.quality.bundled DATA [--model MODEL ...] [--engine onnxruntime] [--split test]

Models given by `--model` are measured too, such as the run that the bundled model was exported from.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from benchmarks.measuring import Section, describe_machine
from twincar.data.dataset import PreparedData
from twincar.evaluation.split_predictions import labelled_split, predictions_of
from twincar.metrics.classification import accuracy_interval, classification_metrics, macro_f1_interval
from twincar.metrics.reliability import LevelPredictions
from twincar.models.bundled import MODEL
from twincar.models.engines.open import compute_logits, open_engine
from twincar.models.levels import levels_of

LEVELS = ("make", "model", "body", "year")
HEADER = ["model", "accuracy", "macro-F1", "top-3", "top-5", *LEVELS, "ECE", "accuracy with --tta", "photos/s"]


def measure(data: PreparedData, models: list[tuple[Path, str]], split: str) -> Section:
    """A row for each model and engine; intervals are 95%."""
    rows = [_row(data, model, engine, split) for model, engine in models]
    note = f"{len(data.labelled_split(split))} photos of {data.folder.name}, split {split}; probabilities calibrated."
    return Section("The bundled model", HEADER, rows, [note])


def _row(data: PreparedData, model: Path, name: str, split: str) -> list[str]:
    engine, spec = open_engine(model, name)  # type: ignore[arg-type]
    annotations, labels = labelled_split(data, split, spec.classes)
    paths = [data.path(annotation) for annotation in annotations]
    start = time.perf_counter()
    plain = compute_logits(engine, spec.preprocessing, paths)[:, 0]
    seconds = time.perf_counter() - start
    answers = predictions_of(labels, plain, spec.calibration.probabilities)
    metrics = classification_metrics(answers)
    averaged = compute_logits(engine, spec.preprocessing, paths, tta=True).mean(axis=1)
    tta = accuracy_interval(labels, averaged.argmax(axis=1))
    shares, groups = spec.calibration.probabilities(plain), levels_of(spec.classes)
    levels = [LevelPredictions.from_probabilities(groups[level], labels, shares) for level in LEVELS]
    return [
        f"{model.name}, {engine.name}",
        str(accuracy_interval(labels, answers.predictions)),
        str(macro_f1_interval(labels, answers.predictions)),
        *(f"{metrics[key]:.3f}" for key in ("top3", "top5")),
        *(f"{found.right[found.told].mean():.3f}" for found in levels),
        f"{metrics['ece']:.3f}",
        str(tta),
        f"{len(labels) / seconds:.0f}",
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.bundled", description=__doc__)
    parser.add_argument("data", type=Path, help="prepared data set")
    parser.add_argument("--model", type=Path, action="append", default=[], help="another model, measured first")
    parser.add_argument("--engine", action="append", help="for the bundled model; auto unless given")
    parser.add_argument("--split", default="test")
    arguments = parser.parse_args()
    models = [(model, "auto") for model in arguments.model]
    models += [(MODEL, engine) for engine in arguments.engine or ["auto"]]
    print(
        f"{describe_machine()}\n\n{measure(PreparedData.open(arguments.data), models, arguments.split).to_markdown()}"
    )


if __name__ == "__main__":
    main()
