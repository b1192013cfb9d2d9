"""Compute the statistics of the classes of a model from the photos it was trained on, so that it can be taught more.

Means come from a few training photos of each class; the covariance comes from validation photos, if there are any.

Shapes: N photos, C penultimate features.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twincar.core.errors import DataError, UsageError
from twincar.core.photos import Photo
from twincar.core.preprocess import Preprocessing, iterate_batches
from twincar.core.progress import Progress
from twincar.data.dataset import Annotation, PreparedData, spread
from twincar.evaluation.split_predictions import labelled_split
from twincar.evaluation.subject import Subject
from twincar.models.class_statistics import ClassStatistics
from twincar.models.engines.base import Engine
from twincar.models.spec import ModelSpec

log = logging.getLogger(__name__)

_BATCH = 64
_OF_CLASS = 10  # training photos of a class, for its mean
_HELD_OUT = 1000  # validation photos, for the covariance


def compute_statistics(
    engine: Engine, spec: ModelSpec, data: PreparedData, on_photo: Progress | None = None
) -> ClassStatistics:
    """The statistics of the classes of a model, from the data that it was trained on.

    Raises:
        DataError: there are no training photos with labels, or photos cannot be read.
        LabelError: the data has classes that the model does not know.
    """
    chosen, labels = labelled_split(data, "train", spec.classes)
    few = _few_of_each(labels)
    chosen, labels = [chosen[index] for index in few], labels[few]
    held_out = spread(data.split("val"), _HELD_OUT) if data.has_split("val") else []
    total = len(chosen) + len(held_out)

    def features(photos: Sequence[Annotation], done: int) -> NDArray[np.float32]:
        report = (lambda finished: on_photo(done + finished, total)) if on_photo else None
        return penultimate_features(engine, spec.preprocessing, [data.photo(photo) for photo in photos], report)

    known = features(chosen, 0)
    others = None
    if held_out:
        split, split_labels = labelled_split(data, "val", spec.classes)
        label_of = {photo.file: label for photo, label in zip(split, split_labels, strict=True)}
        others = features(held_out, len(chosen)), np.array([label_of[photo.file] for photo in held_out])
    else:
        log.warning(
            "No validation photos: the spread of the classes is that of training photos, which is too small. A model "
            "that is taught more by these statistics takes fewer photos for known cars than it should."
        )
    return ClassStatistics.estimate(known, labels, len(spec.classes), others)


def add_statistics(
    model: str | Path | None, *, data_folder: str | Path, out: Path, on_photo: Progress | None = None
) -> ClassStatistics:
    """Write a copy of an exported file with the statistics of its classes, replacing those that it has.

    Args:
        model: an exported `.onnx` file; by default the bundled model.
        data_folder: the data that it was trained on: a prepared data set, class folders, or a CSV file.
        out: the file to write.
        on_photo: called with the number of finished photos and their total, for a progress bar.

    Raises:
        UsageError: it is a model of another kind, or has taught classes, or there is no such data.
        DataError, LabelError: as for `compute_statistics`.
        StorageError: the file cannot be written.
    """
    from twincar.models.onnx_head import ExportedModel

    subject = Subject.open(model, data_folder=data_folder, split="train")
    if subject.path.suffix != ".onnx":
        raise UsageError(
            f"Expected an exported .onnx file, but found {subject.path}. Export it with its data, which adds the "
            "statistics: twincar export RUN"
        )
    if subject.spec.taught:
        raise UsageError(
            f"Expected a model without taught classes, but {subject.path} has {len(subject.spec.taught)}, of whose "
            "photos there is no copy. Start from the model that was taught."
        )
    if not any(photo.split == "train" for photo in subject.data.annotations):
        raise DataError(f"Expected training photos in {data_folder}, but there are none.")
    statistics = compute_statistics(subject.engine, subject.spec, subject.data, on_photo)
    exported = ExportedModel.read(subject.path)
    exported.statistics = statistics
    exported.write(out, subject.spec)
    return statistics


def _few_of_each(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The indices of at most `_OF_CLASS` photos of each class, spread evenly over it."""
    parts = []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        parts.append(own[np.linspace(0, len(own) - 1, min(len(own), _OF_CLASS)).round().astype(np.int64)])
    return np.sort(np.concatenate(parts))


def penultimate_features(
    engine: Engine,
    preprocessing: Preprocessing,
    photos: Iterable[Photo],
    on_photo: Callable[[int], None] | None = None,
) -> NDArray[np.float32]:
    """Penultimate features, N×C, of photos as they are trained on.

    Args:
        engine: of the model.
        preprocessing: of its header.
        photos: of a prepared data set.
        on_photo: called with the number of finished photos.

    Raises:
        PhotoError: one of them cannot be read.
    """
    parts, done = [], 0
    for images in iterate_batches(photos, preprocessing, batch_size=_BATCH):
        pooled = engine.logits_and_features(images[:, 0])[1].mean(axis=(2, 3))
        parts.append(engine.head.penultimate(pooled))
        done += len(images)
        if on_photo:
            on_photo(done)
    return np.concatenate(parts)
