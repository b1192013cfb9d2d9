"""Measure the accuracy of a model on corrupted photos, for each corruption and severity; write a table and a figure.

Shapes: N photos in V versions each: the photo itself and its corruptions.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twincar.core.files import write_csv, write_json
from twincar.core.preprocess import Preprocessing, iterate_batches
from twincar.core.progress import Progress
from twincar.data.dataset import PreparedData
from twincar.evaluation import plots
from twincar.evaluation.corruptions import CORRUPTIONS, VERSIONS, CorruptedViews
from twincar.evaluation.results import CORRUPTIONS as RESULT
from twincar.evaluation.results import CorruptionScore, Robustness
from twincar.evaluation.split_predictions import labelled_split
from twincar.evaluation.subject import Subject
from twincar.metrics.classification import Interval, accuracy_interval
from twincar.models.engines.base import Engine
from twincar.models.spec import ModelSpec

_BATCH = 72  # inputs of the network
_CORRUPTED_SPLIT = "test"  # the split whose photos the hub data set also has in corrupted form


def measure_robustness(
    model: str | Path | None = None,
    *,
    split: str | None = None,
    data_folder: Path | None = None,
    out: Path | None = None,
    on_photo: Progress | None = None,
) -> Robustness:
    """Evaluate a model on corrupted photos and write `corruptions.csv`, `.json` and `.png`; see `Subject.results`.

    If the data set has splits named after corruptions, as the hub data set has for its test photos, 'test' is measured
    on these. Otherwise each photo of the split is corrupted in seven ways at five severities, and accuracy on clean
    photos is measured on its uncorrupted version, scaled like the others (see `twincar.evaluation.corruptions`).

    Args:
        model: a run folder, a model file, owner/name on the hub, or a folder of results; by default the bundled model.
        split: 'val', 'test' or 'train'; by default 'val', or 'test' if there are no validation photos.
        data_folder: a prepared data set, class folders, or a CSV file; by default the data that a run was trained on.
        out: folder of the results, instead of the default.
        on_photo: called with the number of finished photos and their total, for a progress bar.

    Raises:
        UsageError: there is no such model, data is missing for a model that is not a run, or `out` holds other files.
        DataError: there is no such split, it has no labels, or photos cannot be read.
        LabelError: the data has classes that the model does not know.
    """
    subject = Subject.open(model, data_folder=data_folder, split=split, out=out)
    engine, spec, data, split = subject.engine, subject.spec, subject.data, subject.split
    corrupted = [name for name in CORRUPTIONS if split == _CORRUPTED_SPLIT and data.has_split(name)]
    if corrupted:
        clean, scores = _measure_splits(engine, spec, data, [split, *corrupted], on_photo)
    else:
        clean, scores = _measure_generated(engine, spec, data, split, on_photo)
    result = Robustness(
        split=split,
        photos=len(data.split(split)),
        generated=not corrupted,
        clean=clean,
        corruptions=scores,
        folder=subject.claim(subject.results),
    )
    write_csv(result.folder / "corruptions.csv", (asdict(score) for score in scores))
    write_json(result.folder / RESULT, result.to_dict())
    title = f"Accuracy on corrupted {split} photos: {result.mean:.1%} on average, {clean.value:.1%} without corruption"
    plots.save(plots.robustness_figure(clean, result.by_corruption(), title), result.folder / "corruptions.png")
    return result


_Scores = tuple[Interval, tuple[CorruptionScore, ...]]
"""The accuracy on clean photos, and the scores on corrupted ones."""


def _measure_generated(
    engine: Engine, spec: ModelSpec, data: PreparedData, split: str, on_photo: Progress | None
) -> _Scores:
    """Measure one split, with every version of every photo."""
    views = CorruptedViews(**asdict(spec.preprocessing))
    labels, predictions = _predict(engine, spec, data, split, views, on_photo)
    clean, *corrupted = (accuracy_interval(labels, predicted) for predicted in predictions.T)
    scores = zip(VERSIONS[1:], corrupted, strict=True)
    return clean, tuple(_score(name, severity, found, len(labels)) for (name, severity), found in scores)


def _measure_splits(
    engine: Engine, spec: ModelSpec, data: PreparedData, splits: list[str], on_photo: Progress | None
) -> _Scores:
    """Measure the first split, which is clean, and the others, which are named after corruptions."""
    scores = []
    for split in splits:
        labels, predictions = _predict(engine, spec, data, split, spec.preprocessing, on_photo)
        scores.append(_score(split, None, accuracy_interval(labels, predictions[:, 0]), len(labels)))
    return scores[0].interval, tuple(scores[1:])


def _score(corruption: str, severity: int | None, accuracy: Interval, photos: int) -> CorruptionScore:
    return CorruptionScore(corruption, severity, accuracy.value, accuracy.low, accuracy.high, photos)


def _predict(
    engine: Engine, spec: ModelSpec, data: PreparedData, split: str, views: Preprocessing, on_photo: Progress | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The labels of a split, N, and the most likely classes, N×V; each photo is decoded once for all its versions."""
    annotations, labels = labelled_split(data, split, spec.classes)
    many_views = isinstance(views, CorruptedViews)
    batch_size = _BATCH // len(VERSIONS) if many_views else _BATCH
    photos = [data.photo(annotation) for annotation in annotations]
    predictions, done = [], 0
    for images in iterate_batches(photos, views, batch_size=batch_size, tta=many_views):
        predictions.append(engine.view_logits(images).argmax(axis=2))
        done += len(images)
        if on_photo:
            on_photo(done, len(photos))
    return labels, np.concatenate(predictions)
