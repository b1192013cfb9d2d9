"""The guided tour on the drawn cars, for a machine with no data and no network."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from twincar.core.config import TrainConfig
from twincar.core.errors import UsageError
from twincar.core.files import write_bytes
from twincar.core.options import DetectOptions
from twincar.core.photos import encode_photo, read_photo
from twincar.core.runs import RunFolder
from twincar.data.toy.cars import draw_street
from twincar.data.toy.twins import draw_twins

if TYPE_CHECKING:
    from PIL import Image

    from twincar.evaluation.report.page import Report
    from twincar.evaluation.results import Evaluation
    from twincar.explanation.explain import ExplanationImages
    from twincar.inference.results import Prediction
    from twincar.training.train import TrainResult

log = logging.getLogger(__name__)

_RUN = "run"
_TWINS, _STREET, _NAMED = "twins.png", "street.png", "street_named.jpg"
_STREET_CARS = ("Bellwood Carter SUV 2009", "Estrella Luna Minivan 2009", "Bellwood Porter Van 2007")
_STREET_SEED = 120
_DATA = "toycars"


@dataclass(frozen=True)
class Quickstart:
    """What was made, and where it lies."""

    twins: Path
    data: Path
    trained: TrainResult
    evaluation: Evaluation
    explanation: ExplanationImages
    street: Path
    cars: list[Prediction]
    """The prediction for each car in the street."""
    named: Path
    """The street with a box and a name for each car."""
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
            "the cars in a street": self.named,
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
    from twincar.inference.drawing import draw_cars
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
    log.info("6/6 Predicting: finding and naming the cars in a street, and gathering everything on one page.")
    _save(draw_street(_STREET_CARS, seed=_STREET_SEED)[0], out / _STREET)
    cars = Classifier.load(run, detection=DetectOptions(detect="always")).predict_cars(out / _STREET)
    _save(draw_cars(read_photo(out / _STREET), cars), out / _NAMED)
    return Quickstart(
        twins=out / _TWINS,
        data=out / _DATA,
        trained=trained,
        evaluation=evaluation,
        explanation=explanation,
        street=out / _STREET,
        cars=cars,
        named=out / _NAMED,
        report=report(run),
        seconds=time.perf_counter() - started,
    )


def _save(picture: Image.Image, path: Path) -> None:
    write_bytes(path, encode_photo(picture, "PNG" if path.suffix == ".png" else "JPEG", quality=90))


def _is_finished(run: RunFolder) -> bool:
    from twincar.evaluation.report.page import REPORT

    return (run.reports / REPORT).exists()
