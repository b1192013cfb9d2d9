"""Shows what a model looked at: Grad-CAM++ overlays, one a photo, and a grid of all.

Shapes: N photos of H×W pixels, h×w maps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from twincar import plots
from twincar.config import TrainConfig, read_yaml
from twincar.data.annotations import PreparedData
from twincar.errors import UsageError
from twincar.files import RunFolder
from twincar.labels import class_key
from twincar.modeling.engines import Engine, open_engine
from twincar.modeling.gradcam import grad_cam_plus_plus
from twincar.modeling.spec import ModelSpec
from twincar.preprocess import read_photo

_BATCH = 16


@dataclass(frozen=True)
class Explanation:
    """Where the pictures lie."""

    grid: Path
    photos: list[Path]


def explain(
    run_path: Path,
    *,
    images: Sequence[str] = (),
    split: str = "val",
    count: int = 12,
    data_folder: Path | None = None,
    on_photo: Callable[[int, int], None] | None = None,
) -> Explanation:
    """Explain photos, or `count` photos spread evenly over a split, and write `reports/explain/`.

    Args:
        run_path: the run folder.
        images: paths of photos; without any, photos of the split are taken, whose truth is known.
        split: 'val', 'test' or 'train'.
        count: how many photos of the split.
        data_folder: a prepared data set other than the one the run was trained on.
        on_photo: called with photos done and in all, for a progress bar.

    Raises:
        UsageError: no such run, or `count` is below 1.
        PhotoError: a photo cannot be read.
    """
    run = RunFolder.open(run_path)
    engine, spec = open_engine(run.path)
    if images:
        chosen: list[tuple[Path, str | None]] = [(Path(image), None) for image in images]
    else:
        folder = data_folder or Path(TrainConfig.from_values(read_yaml(run.config)).data)
        chosen = _from_split(PreparedData.open(folder), split, count)
    explained: list[plots.Explained] = []
    for start in range(0, len(chosen), _BATCH):
        explained += _explain_batch(engine, spec, chosen[start : start + _BATCH])
        if on_photo:
            on_photo(len(explained), len(chosen))
    out = run.reports / "explain"
    paths = [out / f"{index:03d}_{_slug(item.predicted)}.png" for index, item in enumerate(explained, start=1)]
    for path, item in zip(paths, explained, strict=True):
        plots.save(plots.explanation_figure(item), path)
    plots.save(plots.explanation_grid(explained), out / "grid.png")
    return Explanation(out / "grid.png", paths)


def _from_split(data: PreparedData, split: str, count: int) -> list[tuple[Path, str | None]]:
    if count < 1:
        raise UsageError(f"Expected --count to be at least 1, and found {count}.")
    annotations = data.split(split)
    places = np.linspace(0, len(annotations) - 1, min(count, len(annotations))).round().astype(int)
    return [
        (data.path(annotation), None if annotation.label is None else data.classes[annotation.label])
        for annotation in (annotations[place] for place in places)
    ]


def _explain_batch(engine: Engine, spec: ModelSpec, chosen: Sequence[tuple[Path, str | None]]) -> list[plots.Explained]:
    photos = [read_photo(path) for path, _ in chosen]
    inputs = np.stack([spec.preprocessing(photo) for photo in photos])
    logits, features = engine.logits_and_features(inputs)
    heats = grad_cam_plus_plus(features, engine.head, logits.argmax(axis=1))
    probabilities = spec.calibration.probabilities(logits)
    return [
        plots.Explained(
            photo=np.asarray(photo),
            heat=heat,
            seen=spec.preprocessing.seen_box(photo.width, photo.height),
            predicted=spec.classes[int(row.argmax())],
            confidence=float(row.max()),
            truth=_spelt_as(truth, spec),
        )
        for photo, heat, row, (_, truth) in zip(photos, heats, probabilities, chosen, strict=True)
    ]


def _spelt_as(truth: str | None, spec: ModelSpec) -> str | None:
    """The truth in the model's own spelling, so that equal classes compare equal."""
    index = None if truth is None else spec.classes.find(truth)
    return truth if index is None else spec.classes[index]


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", class_key(name)).strip("-")
