"""Measures whether a model turns away what it does not know: cars of unseen classes, and pictures that are no cars.

Shapes: N photos, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twincar.core.files import write_json
from twincar.core.options import FALSE_REJECTION
from twincar.core.progress import Progress
from twincar.data.dataset import PreparedData, count_splits
from twincar.data.open_set_split import UNSEEN
from twincar.data.toy.non_cars import non_car_images
from twincar.evaluation import plots
from twincar.evaluation.split_predictions import labelled_split
from twincar.evaluation.subject import Subject
from twincar.metrics.reliability import UnknownGroup, open_set
from twincar.models.calibration import energy, max_logit, softmax
from twincar.models.engines.base import Engine
from twincar.models.engines.open import compute_logits
from twincar.models.spec import ModelSpec

_FAR_AWAY = 400  # pictures that are no cars

Logits = NDArray[np.float32]
COMPARED: dict[str, Callable[[Logits], NDArray[np.float32]]] = {
    "maximum logit": max_logit,
    "energy": energy,
    "maximum probability": lambda logits: softmax(logits).max(axis=1),
}
"""Other scores that may tell known from unknown."""


@dataclass(frozen=True)
class OpenSetEvaluation:
    """How well a model knows what it does not know."""

    split: str
    """Of the known photos."""
    photos: int
    accuracy: float
    """Among the known classes."""
    false_rejection: float
    """Asked for on validation photos."""
    rejected: float
    """Share of the known photos here that is turned away."""
    groups: list[UnknownGroup]
    folder: Path

    def to_dict(self) -> dict[str, Any]:
        """For `open_set.json` and `--json`."""
        return asdict(self) | {"folder": str(self.folder)}


def evaluate_open_set(
    model: str | Path | None = None,
    *,
    split: str | None = None,
    data_folder: Path | None = None,
    out: Path | None = None,
    false_rejection: float = FALSE_REJECTION,
    on_photo: Progress | None = None,
) -> OpenSetEvaluation:
    """Compare the scores of known photos with those of unseen cars and of pictures that are no cars.

    Unseen cars are there if the data set was prepared with `--open-set`. Writes `open_set/`, see `Subject.reports`.

    Args:
        model: a run folder, a model file, owner/name on the hub, or earlier results; the bundled model unless given.
        split: of the known photos: 'val', 'test' or 'train'; as of `evaluate` unless given.
        data_folder: a prepared data set, class folders, or a CSV; only a run knows its own.
        out: where results go in place of the default.
        false_rejection: share of the photos of known cars that may be turned away.
        on_photo: called with photos done and in all, for a progress bar.

    Raises:
        UsageError: no such model, no data named for one that knows none, or `out` holds something else.
        DataError: no such split, or photos that cannot be read.
    """
    subject = Subject.open(model, data_folder=data_folder, split=split, out=out)
    engine, spec, data, split = subject.engine, subject.spec, subject.data, subject.split
    known, labels = labelled_split(data, split, spec.classes)
    logits = compute_logits(engine, spec.preprocessing, [data.path(photo) for photo in known], on_photo=on_photo)[:, 0]
    right = logits.argmax(axis=1) == labels
    of_known = spec.calibration.in_distribution_score(logits)
    unknown = [*_unseen_cars(engine, spec, data), *_no_cars(engine, spec)]
    evaluation = OpenSetEvaluation(
        split=split,
        photos=len(labels),
        accuracy=float(right.mean()),
        false_rejection=false_rejection,
        rejected=float((of_known < false_rejection).mean()),
        groups=[
            UnknownGroup(
                name=name,
                is_car=is_car,
                photos=len(found),
                **asdict(open_set(of_known, right, of_unknown := spec.calibration.in_distribution_score(found))),
                rejected=float((of_unknown < false_rejection).mean()),
                auroc_by_others={score: open_set(of(logits), right, of(found)).auroc for score, of in COMPARED.items()},
            )
            for name, is_car, found in unknown
        ],
        folder=subject.claim(subject.reports / "open_set"),
    )
    write_json(evaluation.folder / "open_set.json", evaluation.to_dict())
    scores = {
        name: spec.calibration.in_distribution_score(found)
        for name, _, found in [("known cars", True, logits), *unknown]
    }
    plots.save(plots.score_figure(scores, false_rejection), evaluation.folder / "scores.png")
    return evaluation


def _unseen_cars(engine: Engine, spec: ModelSpec, data: PreparedData) -> Iterator[tuple[str, bool, Logits]]:
    """Logits of the test photos of unseen classes by difficulty, and of all together."""
    parts = []
    for name in count_splits(data.annotations):
        if name.startswith(UNSEEN):
            paths = [data.path(photo) for photo in data.split(name)]
            parts.append(compute_logits(engine, spec.preprocessing, paths)[:, 0])
            yield name.removeprefix(UNSEEN), True, parts[-1]
    if len(parts) > 1:
        yield "all unseen", True, np.concatenate(parts)


def _no_cars(engine: Engine, spec: ModelSpec) -> Iterator[tuple[str, bool, Logits]]:
    kinds, pictures = zip(*non_car_images(_FAR_AWAY), strict=True)
    logits = compute_logits(engine, spec.preprocessing, pictures)[:, 0]
    for kind in dict.fromkeys(kinds):
        yield kind, False, logits[np.array(kinds) == kind]
