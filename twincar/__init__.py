"""TwinCar tells look-alike cars apart: from a photo to make, model, body and year.

>>> import twincar
>>> classifier = twincar.load("runs/toycars")                      # doctest: +SKIP
>>> classifier.predict("car.jpg").top1.name                        # doctest: +SKIP
'Aurora Falcon Sedan 2012'

Importing this package imports neither torch nor matplotlib; `load` does, when it is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from twincar.errors import TwinCarError
from twincar.version import __version__

if TYPE_CHECKING:
    from twincar.predict import Classifier

__all__ = ["TwinCarError", "__version__", "load"]


def load(path: str | Path) -> Classifier:
    """Load a trained model: a run folder, or a `.safetensors` file.

    Raises:
        TwinCarError: nothing is there, or what is there is no model of ours; the message says which.
    """
    from twincar.predict import Classifier  # deferred: it imports torch

    return Classifier.load(path)
