"""Explain predictions: Grad-CAM++ overlays, one image per photo and a grid of all.

Shapes: N photos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from twincar.core.labels import slug
from twincar.core.options import DetectOptions
from twincar.core.photos import PhotoCrop, read_photo
from twincar.core.progress import Progress
from twincar.core.wording import counted
from twincar.data.dataset import Annotation
from twincar.evaluation import overlay_figures, plots
from twincar.evaluation.report.artifacts import read_predictions
from twincar.evaluation.results import PREDICTIONS
from twincar.evaluation.subject import Subject
from twincar.inference.crops import CarFinder
from twincar.models.cam.gradcam import grad_cam_plus_plus
from twincar.models.engines.base import Engine
from twincar.models.spec import ModelSpec

_BATCH = 16
CAM = "Grad-CAM++"


@dataclass(frozen=True)
class ExplanationImages:
    """The files that `explain` has written."""

    grid: Path
    """All overlays in one image."""
    photos: list[Path]
    """One image per photo, N."""
    choice: str = ""
    """How the photos were chosen, a sentence; empty if they were named."""


def explain(
    model: str | Path | None = None,
    *,
    images: Sequence[str | Path] = (),
    split: str | None = None,
    count: int = 12,
    data_folder: str | Path | None = None,
    out: str | Path | None = None,
    detection: DetectOptions = DetectOptions(),
    on_photo: Progress | None = None,
) -> ExplanationImages:
    """Explain photos, or `count` photos of a split, and write `explain/`; see `Subject.reports`.

    Of a split that `evaluate` was run on, mistakes come first, the most confident of them at the beginning; the others
    are spread evenly over the split.

    Args:
        model: a run folder, a model file, owner/name on the hub, or a folder of results; by default the bundled model.
        images: paths of photos; by default photos of the split, whose classes are known.
        split: 'val', 'test' or 'train'; by default 'val', or 'test' if there are no validation photos.
        count: number of photos of the split.
        data_folder: a prepared data set, class folders, or a CSV file; by default the data that a run was trained on.
        out: folder of the results, instead of the default.
        detection: whether the main car of each photo is found and cut out first; by default if the model was trained on
            such cuts, and the photos are not cut already.
        on_photo: called with the number of finished photos and their total, for a progress bar.

    Returns:
        The paths of the figures: one for each photo, and a grid of all.

    Raises:
        UsageError: there is no such model, data is missing for a model that is not a run, `out` holds other files,
            or `count` is below 1.
        PhotoError: a photo cannot be read.
    """
    subject = Subject.open(model, data_folder=data_folder, split=split, out=out, detection=detection)
    choice = ""
    if images:
        chosen: list[tuple[Path | PhotoCrop, str | None]] = [(Path(image), None) for image in images]
    else:
        data, (annotations, choice) = subject.data, _choose(subject, count)
        chosen = [
            (data.photo(annotation), None if annotation.label is None else data.classes[annotation.label])
            for annotation in annotations
        ]
    folder = subject.claim((subject.own_reports if images else subject.reports) / "explain")
    explained: list[overlay_figures.ExplainedPhoto] = []
    finder = subject.finder(None if images else subject.data)
    for start in range(0, len(chosen), _BATCH):
        explained += _explain_batch(subject.engine, subject.spec, finder, chosen[start : start + _BATCH])
        if on_photo:
            on_photo(len(explained), len(chosen))
    paths = [folder / f"{index:03d}_{slug(item.predicted)}.png" for index, item in enumerate(explained, start=1)]
    for path, item in zip(paths, explained, strict=True):
        plots.save(overlay_figures.explanation_figure(item), path)
    plots.save(overlay_figures.explanation_grid(explained), folder / "grid.png")
    return ExplanationImages(folder / "grid.png", paths, choice)


def _choose(subject: Subject, count: int) -> tuple[list[Annotation], str]:
    """Photos of the split, mistakes first where they are known, and a sentence on how they were chosen."""
    spread, table = subject.sample(count), subject.results / PREDICTIONS
    if not table.is_file():
        return spread, "The photos are spread evenly over the split; after twincar evaluate, its mistakes come first."
    wrong = sorted((row for row in read_predictions(table) if not row.correct), key=lambda row: -row.confidence)
    photos = {photo.file: photo for photo in subject.data.split(subject.split)}
    mistakes = [photos[row.file] for row in wrong if row.file in photos][:count]
    others = [photo for photo in spread if photo not in mistakes][: count - len(mistakes)]
    known = f"{len(mistakes)} of the {counted(len(wrong), 'mistake')} on the split"
    return mistakes + others, f"First {known}, the most confident first; then {len(others)} spread evenly over it."


def _explain_batch(
    engine: Engine, spec: ModelSpec, finder: CarFinder | None, chosen: Sequence[tuple[Path | PhotoCrop, str | None]]
) -> list[overlay_figures.ExplainedPhoto]:
    photos = [read_photo(path) for path, _ in chosen]
    if finder:
        photos = [finder.cut(photo) for photo in photos]
    inputs = np.stack([spec.preprocessing(photo) for photo in photos])
    logits, features = engine.logits_and_features(inputs)
    heatmaps = grad_cam_plus_plus(features, engine.head, logits.argmax(axis=1))
    probabilities = spec.calibration.probabilities(logits)
    return [
        overlay_figures.ExplainedPhoto(
            photo=np.asarray(photo),
            heatmap=heatmap,
            visible_box=spec.preprocessing.visible_box(photo.width, photo.height),
            predicted=spec.classes[int(row.argmax())],
            confidence=float(row.max()),
            truth=_model_spelling(truth, spec),
        )
        for photo, heatmap, row, (_, truth) in zip(photos, heatmaps, probabilities, chosen, strict=True)
    ]


def _model_spelling(truth: str | None, spec: ModelSpec) -> str | None:
    """The true class in the spelling of the model, so that equal classes compare equal."""
    index = None if truth is None else spec.classes.find(truth)
    return truth if index is None else spec.classes[index]
