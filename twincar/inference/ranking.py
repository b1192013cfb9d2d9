"""From the logits and probabilities of the classes to the most likely ones, and to the most likely group of a level.

Shapes: N photos, K classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from twincar.core.errors import CheckpointError, UsageError
from twincar.core.labels import ClassNames
from twincar.inference.results import Candidate, LevelAnswer
from twincar.models.levels import CLASS, Level, stated

_MAX_ALTERNATIVES = 3  # most classes listed as alternatives of a group
_ALTERNATIVE_SHARE = 0.1  # least probability of an alternative, as a share of that of the most likely one


def check_logits(logits: NDArray[np.float32], classes: int) -> NDArray[np.float32]:
    """Return logits, N×K, after checking that they are one finite number for each of the K classes.

    Raises:
        CheckpointError: they are not.
    """
    if logits.shape[1] != classes or not np.isfinite(logits).all():
        raise CheckpointError(
            f"Expected a finite number for each of {classes} classes from the model, but found {logits.shape[1]} "
            "numbers, not all of them finite. The model is damaged; export it again."
        )
    return logits


def most_likely(classes: ClassNames, probabilities: NDArray[np.float32], top_k: int) -> tuple[Candidate, ...]:
    """The `top_k` most likely classes of a photo, from their probabilities, K.

    Raises:
        UsageError: `top_k` is below 1.
    """
    if top_k < 1:
        raise UsageError(f"Expected top_k to be at least 1, but found {top_k}.")
    order = np.argsort(-probabilities, kind="stable")[:top_k]
    return tuple(Candidate(classes[i], float(probabilities[i]), classes.cars[i]) for i in order)


def level_answer(level: Level, classes: ClassNames, probabilities: NDArray[np.float32]) -> LevelAnswer:
    """The most likely group of a level for one photo, from the probabilities of the classes, 1×K."""
    groups, shares = level.most_likely(probabilities)
    members = np.flatnonzero(level.group_of == groups[0])
    ranked = members[np.argsort(-probabilities[0, members], kind="stable")][:_MAX_ALTERNATIVES]
    enough = _ALTERNATIVE_SHARE * probabilities[0, ranked[0]]
    possible = tuple(classes[member] for member in ranked if probabilities[0, member] >= enough)
    is_class = level.name == CLASS
    car = stated(classes.cars[ranked[0]], level.name)
    return LevelAnswer(level.name, level.groups[groups[0]], float(shares[0]), car, () if is_class else possible)
