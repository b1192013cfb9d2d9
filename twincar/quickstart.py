"""The whole road on the drawn cars, for a machine with no data and no network."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from twincar.core.config import TrainConfig
from twincar.core.errors import UsageError
from twincar.core.runs import RunFolder
from twincar.data.prepare import prepare
from twincar.evaluation.evaluate import Evaluation, evaluate
from twincar.evaluation.report.page import REPORT, Report, report
from twincar.explanation.explain import Explanation, explain
from twincar.inference.classifier import Classifier
from twincar.inference.results import Prediction
from twincar.training.train import TrainResult, resume, train

log = logging.getLogger(__name__)

_RUN = "run"


@dataclass(frozen=True)
class Quickstart:
    """What was made, and where it lies."""

    data: Path
    trained: TrainResult
    evaluation: Evaluation
    explanation: Explanation
    photo: Path
    prediction: Prediction
    report: Report
    seconds: float


def quickstart(out: Path) -> Quickstart:
    """Draw the toy data set, prepare, train, evaluate, explain, predict and report below `out`, or go on with that.

    Raises:
        UsageError: `out` holds an earlier quickstart that came to its end.
    """
    begun = RunFolder(out / _RUN)
    if (begun.reports / REPORT).exists():
        raise UsageError(f"{out} holds an earlier quickstart. Look at it there, choose another --out, or delete it.")
    started = time.perf_counter()
    log.info("1/4 Drawing cars and checking them.")
    data = prepare("toycars", out / "toycars")
    log.info("2/4 Training.")
    config = TrainConfig.resolve(recipe="toycars", flags={"data": str(data.folder)})
    trained = resume(begun.path) if begun.config.exists() else train(config, begun.path)
    run = trained.run.path
    log.info("3/4 Evaluating on cars it has not seen.")
    evaluation = evaluate(run, split="test", tta=True)
    log.info("4/4 Explaining, predicting and reporting.")
    explanation = explain(run, split="test")
    photo = data.path(data.split("test")[0])
    prediction = Classifier.load(run).predict(photo)
    page = report(run)
    seconds = time.perf_counter() - started
    return Quickstart(data.folder, trained, evaluation, explanation, photo, prediction, page, seconds)
