"""Measure how well a model rejects unknown photos: cars of unseen classes, and images without cars (far OOD).

Shapes: N photos, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twincar.core.files import write_json
from twincar.core.options import FALSE_REJECTION
from twincar.core.progress import Progress
from twincar.data.dataset import PreparedData, count_splits
from twincar.data.open_set_split import UNSEEN
from twincar.data.toy.non_cars import non_car_images
from twincar.evaluation import plots
from twincar.evaluation.results import OPEN_SET, OpenSetEvaluation
from twincar.evaluation.split_predictions import labelled_split
from twincar.evaluation.subject import Subject
from twincar.metrics.reliability import UnknownGroup, open_set
from twincar.models.calibration import energy, max_logit, softmax
from twincar.models.engines.base import Engine
from twincar.models.engines.open import compute_logits
from twincar.models.spec import ModelSpec

_NON_CARS = 400  # images without cars

COMPARED: dict[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
    "maximum logit": max_logit,
    "energy": energy,
    "maximum probability": lambda logits: softmax(logits).max(axis=1),
}
"""Other scores by which unknown photos could be rejected; functions of logits, N×K."""


def evaluate_open_set(
    model: str | Path | None = None,
    *,
    split: str | None = None,
    data_folder: Path | None = None,
    out: Path | None = None,
    false_rejection: float = FALSE_REJECTION,
    on_photo: Progress | None = None,
) -> OpenSetEvaluation:
    """Compare the scores of photos of known cars with those of unseen cars and of images without cars.

    There are unseen cars if the data set was prepared with `--open-set`. The results go to `open_set/`; see
    `Subject.reports`.

    Args:
        model: a run folder, a model file, owner/name on the hub, or a folder of results; by default the bundled model.
        split: the split of the photos of known cars: 'val', 'test' or 'train'; by default that of `evaluate`.
        data_folder: a prepared data set, class folders, or a CSV file; by default the data that a run was trained on.
        out: folder of the results, instead of the default.
        false_rejection: share of the photos of known cars that may be rejected.
        on_photo: called with the number of finished photos and their total, for a progress bar.

    Raises:
        UsageError: there is no such model, data is missing for a model that is not a run, or `out` holds other files.
        DataError: there is no such split, or photos cannot be read.
    """
    subject = Subject.open(model, data_folder=data_folder, split=split, out=out)
    engine, spec, data, split = subject.engine, subject.spec, subject.data, subject.split
    known, labels = labelled_split(data, split, spec.classes)
    logits = compute_logits(engine, spec.preprocessing, [data.photo(photo) for photo in known], on_photo=on_photo)[:, 0]
    right = logits.argmax(axis=1) == labels
    known_scores = spec.calibration.in_distribution_score(logits)
    unknown = [*_unseen_cars(engine, spec, data), *_non_cars(engine, spec)]
    evaluation = OpenSetEvaluation(
        split=split,
        photos=len(labels),
        accuracy=float(right.mean()),
        false_rejection=false_rejection,
        rejected=float((known_scores < false_rejection).mean()),
        groups=[
            UnknownGroup(
                name=name,
                is_car=is_car,
                photos=len(found),
                **asdict(open_set(known_scores, right, scores := spec.calibration.in_distribution_score(found))),
                rejected=float((scores < false_rejection).mean()),
                auroc_by_others={score: open_set(of(logits), right, of(found)).auroc for score, of in COMPARED.items()},
            )
            for name, is_car, found in unknown
        ],
        folder=subject.claim(subject.reports / "open_set"),
    )
    write_json(subject.reports / OPEN_SET, evaluation.to_dict())
    by_group = {
        name: spec.calibration.in_distribution_score(found)
        for name, _, found in [("known cars", True, logits), *unknown]
    }
    plots.save(plots.score_figure(by_group, false_rejection), evaluation.folder / "scores.png")
    return evaluation


def _unseen_cars(
    engine: Engine, spec: ModelSpec, data: PreparedData
) -> Iterator[tuple[str, bool, NDArray[np.float32]]]:
    """Name, whether it is a car, and logits, for each difficulty of unseen classes and for all together."""
    parts = []
    for name in count_splits(data.annotations):
        if name.startswith(UNSEEN):
            photos = [data.photo(photo) for photo in data.split(name)]
            parts.append(compute_logits(engine, spec.preprocessing, photos)[:, 0])
            yield name.removeprefix(UNSEEN), True, parts[-1]
    if len(parts) > 1:
        yield "all unseen", True, np.concatenate(parts)


def _non_cars(engine: Engine, spec: ModelSpec) -> Iterator[tuple[str, bool, NDArray[np.float32]]]:
    kinds, images = zip(*non_car_images(_NON_CARS), strict=True)
    logits = compute_logits(engine, spec.preprocessing, images)[:, 0]
    for kind in dict.fromkeys(kinds):
        yield kind, False, logits[np.array(kinds) == kind]
