"""TwinCar tells look-alike cars apart: from a photo to make, model, body and year.

>>> import twincar
>>> classifier = twincar.load("runs/toycars")                      # doctest: +SKIP
>>> classifier.predict("car.jpg").top1.name                        # doctest: +SKIP
'Aurora Falcon Sedan 2012'

Importing this package imports neither torch nor matplotlib; `load` imports torch where the model needs it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twincar.core.errors import TwinCarError
from twincar.core.version import __version__

if TYPE_CHECKING:
    from twincar.inference.classifier import Classifier
    from twincar.inference.results import Explanation, Failure, Prediction

# onnxruntime sends usage data to its vendor unless this is set before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = ["Classifier", "Explanation", "Failure", "Prediction", "TwinCarError", "__version__", "load"]


def load(model: str | Path | None = None, *, revision: str | None = None) -> Classifier:
    """Load a trained model: a run folder, a model file, an exported model, or one on the hub.

    Args:
        model: a path, or `owner/name` or `owner/name@revision` on the hub; an existing path comes first. By default the
            bundled model.
        revision: branch, tag or commit on the hub.

    Raises:
        TwinCarError: there is no such model, or it was not made by TwinCar; the message says which.
    """
    from twincar.inference.classifier import Classifier  # deferred: it imports numpy and more

    return Classifier.load(model, revision=revision)


if not TYPE_CHECKING:  # a type checker would otherwise accept any name

    def __getattr__(name: str) -> Any:
        """Import the public classes at their first use, because they need numpy and Pillow."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from twincar.inference import classifier as predict

        return getattr(predict, name)
