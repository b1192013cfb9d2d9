"""The whole road on the drawn cars, for a machine with no data and no network."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from twincar.config import TrainConfig
from twincar.data.prepare import prepare
from twincar.evaluate import Evaluation, evaluate
from twincar.explain import Explanation, explain
from twincar.predict import Classifier, Prediction
from twincar.train import train

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Quickstart:
    """What was made, and where it lies."""

    data: Path
    run: Path
    evaluation: Evaluation
    explanation: Explanation
    photo: Path
    prediction: Prediction
    seconds: float


def quickstart(out: Path, *, on_photo: Callable[[int, int], None] | None = None) -> Quickstart:
    """Draw the toy data set, prepare, train, evaluate, explain and predict below `out`.

    Raises:
        UsageError: `out` holds an earlier quickstart's run.
    """
    started = time.perf_counter()
    data = prepare("toycars", out / "toycars", on_photo=on_photo)
    config = TrainConfig.resolve(recipe="toycars", flags={"data": str(data.folder)})
    run = train(config, out / "run").run.path
    evaluation = evaluate(run, split="test", tta=True)
    explanation = explain(run, split="test")
    photo = data.path(data.split("test")[0])
    prediction = Classifier.load(run).predict(photo)
    return Quickstart(data.folder, run, evaluation, explanation, photo, prediction, time.perf_counter() - started)
