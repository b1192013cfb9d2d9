"""TwinCar tells look-alike cars apart: from a photo to make, model, body and year.

>>> import twincar
>>> classifier = twincar.load("runs/toycars")                      # doctest: +SKIP
>>> classifier.predict("car.jpg").top1.name                        # doctest: +SKIP
'Aurora Falcon Sedan 2012'

Importing this package imports neither torch nor matplotlib; `load` imports torch where the model needs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from twincar.errors import TwinCarError
from twincar.version import __version__

if TYPE_CHECKING:
    from twincar.predict import Classifier

__all__ = ["TwinCarError", "__version__", "load"]


def load(model: str | Path, *, revision: str | None = None) -> Classifier:
    """Load a trained model: a run folder, a model file, an exported model, or one on the hub.

    Args:
        model: a path, or `owner/name` or `owner/name@revision` on the hub; a path that is there comes first.
        revision: branch, tag or commit on the hub.

    Raises:
        TwinCarError: nothing is there, or what is there is no model of ours; the message says which.
    """
    from twincar.predict import Classifier  # deferred: it imports numpy and more

    return Classifier.load(model, revision=revision)
