"""The guided tour on the drawn cars, for a machine with no data and no network."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from twincar.core.config import TrainConfig
from twincar.core.errors import UsageError
from twincar.core.runs import RunFolder
from twincar.data.toy.twins import draw_twins

if TYPE_CHECKING:
    from twincar.evaluation.report.page import Report
    from twincar.evaluation.results import Evaluation
    from twincar.explanation.explain import ExplanationImages
    from twincar.inference.results import Prediction
    from twincar.training.train import TrainResult

log = logging.getLogger(__name__)

_RUN = "run"
_TWINS = "twins.png"
_DATA = "toycars"


@dataclass(frozen=True)
class Quickstart:
    """What was made, and where it lies."""

    twins: Path
    data: Path
    trained: TrainResult
    evaluation: Evaluation
    explanation: ExplanationImages
    photo: Path
    prediction: Prediction
    report: Report
    seconds: float

    @property
    def made(self) -> dict[str, Path]:
        """What to look at, by name, in the order in which it was made."""
        run = self.trained.run
        return {
            "the twins": self.twins,
            "the drawn photos": self.data / "photos",
            "the trained model": run.best,
            "its learning curves": run.reports / "curve_accuracy_f1.png",
            "its confusion matrix": self.evaluation.folder / "confusion_matrix.png",
            "what it looked at": self.explanation.grid,
            "every prediction": self.evaluation.folder / "predictions.csv",
        }


def quickstart(out: Path) -> Quickstart:
    """Draw the toy cars, prepare, train, evaluate, explain, predict and report below `out`, or resume an earlier start.

    Raises:
        UsageError: `out` holds an earlier quickstart that came to its end.
    """
    begun = RunFolder(out / _RUN)
    if begun.path.exists() and _is_finished(begun):
        raise UsageError(f"{out} holds an earlier quickstart. Look at it there, choose another --out, or delete it.")
    started = time.perf_counter()
    draw_twins(out / _TWINS)
    log.info("1/6 The task: 24 cars in twelve pairs of twins that differ in one small part. See them: %s", out / _TWINS)

    # Imported once there is something to look at: torch takes seconds.
    from twincar.data.prepare import prepare
    from twincar.evaluation.evaluate import evaluate
    from twincar.evaluation.report.page import report
    from twincar.explanation.explain import explain
    from twincar.inference.classifier import Classifier
    from twincar.training.train import resume, train

    log.info("2/6 Drawing the photos, and checking that each can be read and that no two splits share one.")
    data = prepare("toycars", out / _DATA)
    config = TrainConfig.resolve(recipe="toycars", flags={"data": str(data.folder)})
    log.info(
        "3/6 Training from random weights: %d passes over %d photos, each judged on %d others; the best one is kept.",
        config.epochs, len(data.split("train")), len(data.split("val")),
    )  # fmt: skip
    trained = resume(begun.path) if begun.config.exists() else train(config, begun.path)
    run = trained.run.path
    log.info(
        "4/6 Evaluating: how often it is right on %d test photos, which had no part in training.",
        len(data.split("test")),
    )
    evaluation = evaluate(run, split="test", tta=True)
    log.info("5/6 Explaining: which part of a photo each prediction rests on (Grad-CAM++).")
    explanation = explain(run, split="test")
    log.info("6/6 Predicting one photo, and gathering everything on one page.")
    photo = data.path(data.split("test")[0])
    prediction = Classifier.load(run).predict(photo)
    page = report(run)
    seconds = time.perf_counter() - started
    return Quickstart(out / _TWINS, out / _DATA, trained, evaluation, explanation, photo, prediction, page, seconds)


def _is_finished(run: RunFolder) -> bool:
    from twincar.evaluation.report.page import REPORT

    return (run.reports / REPORT).exists()
