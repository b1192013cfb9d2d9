"""TwinCar tells look-alike cars apart: from a photo to make, model, body and year.

>>> import twincar
>>> classifier = twincar.load("runs/toycars")                      # doctest: +SKIP
>>> classifier.predict("car.jpg").make                             # doctest: +SKIP
'Aurora'

Importing this package imports neither torch nor matplotlib; `load` imports torch where the model needs it.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twincar.core.errors import MissingExtraError, TwinCarError
from twincar.core.version import __version__

if TYPE_CHECKING:
    from twincar.auditing.audit import audit
    from twincar.core.config import TrainConfig
    from twincar.core.listing import find_photos
    from twincar.core.options import Detect, DetectOptions, PredictOptions, Thresholds
    from twincar.data.prepare import PrepareOptions, prepare
    from twincar.deploy.export import export
    from twincar.deploy.publish import push
    from twincar.deploy.pull import pull
    from twincar.evaluation.calibrate import calibrate
    from twincar.evaluation.evaluate import evaluate
    from twincar.evaluation.report.page import report
    from twincar.explanation.compare import compare
    from twincar.explanation.explain import explain
    from twincar.inference.batch import predict_many
    from twincar.inference.classifier import Classifier
    from twincar.inference.photo_index import index
    from twincar.inference.results import Explanation, Failure, Prediction
    from twincar.inference.similar import similar
    from twincar.training.train import resume, train

__all__ = [
    "Classifier",
    "DetectOptions",
    "Explanation",
    "Failure",
    "PredictOptions",
    "Prediction",
    "PrepareOptions",
    "Thresholds",
    "TrainConfig",
    "TwinCarError",
    "__version__",
    "audit",
    "calibrate",
    "compare",
    "evaluate",
    "explain",
    "export",
    "find_photos",
    "index",
    "load",
    "predict_many",
    "prepare",
    "pull",
    "push",
    "report",
    "resume",
    "similar",
    "train",
]

_LAZY = {
    "Classifier": "inference.classifier",
    "DetectOptions": "core.options",
    "Explanation": "inference.results",
    "Failure": "inference.results",
    "PredictOptions": "core.options",
    "Prediction": "inference.results",
    "PrepareOptions": "data.prepare",
    "Thresholds": "core.options",
    "TrainConfig": "core.config",
    "audit": "auditing.audit",
    "calibrate": "evaluation.calibrate",
    "compare": "explanation.compare",
    "evaluate": "evaluation.evaluate",
    "explain": "explanation.explain",
    "export": "deploy.export",
    "find_photos": "core.listing",
    "index": "inference.photo_index",
    "predict_many": "inference.batch",
    "prepare": "data.prepare",
    "pull": "deploy.pull",
    "push": "deploy.publish",
    "report": "evaluation.report.page",
    "resume": "training.train",
    "similar": "inference.similar",
    "train": "training.train",
}
"""The module of each public name that is imported at its first use, because it needs more than Python."""


def load(model: str | Path | None = None, *, revision: str | None = None, detect: Detect = "auto") -> Classifier:
    """Load a trained model: a run folder, a model file, an exported model, or one on the hub.

    Args:
        model: a path, or `owner/name` or `owner/name@revision` on the hub; an existing path comes first. By default the
            bundled model.
        revision: branch, tag or commit on the hub.
        detect: whether the cars in photos are found and cut out first: 'always', 'never', or 'auto', for a model that
            was trained on photos cut to the car.

    Returns:
        The classifier, whose `predict` names the cars in photos.

    Raises:
        TwinCarError: there is no such model, or it was not made by TwinCar; the message says which.
    """
    from twincar.core.options import DetectOptions
    from twincar.inference.classifier import Classifier  # deferred: it imports numpy and more

    return Classifier.load(model, revision=revision, detection=DetectOptions(detect=detect))


if not TYPE_CHECKING:  # a type checker would otherwise accept any name

    def __getattr__(name: str) -> Any:
        """Import a public name at its first use.

        Raises:
            AttributeError: there is no such name.
            MissingExtraError: a package that it needs is not installed; the message says how to install it.
        """
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            found = getattr(import_module(f"twincar.{_LAZY[name]}"), name)
        except ModuleNotFoundError as error:
            missing = error.name or ""
            if missing.partition(".")[0] in ("", "twincar"):
                raise
            from twincar.core.extras import how_to_install

            raise MissingExtraError(
                f"twincar.{name} needs {missing}, but it is not installed: {how_to_install(missing)}"
            ) from None
        setattr(sys.modules[__name__], name, found)  # so that this is asked once
        return found

    def __dir__() -> list[str]:
        """The public names, for completion."""
        return sorted(__all__)
