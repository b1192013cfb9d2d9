"""Measures how much a model loses on corrupted photos: accuracy for each corruption and severity, a table, a picture.

Shapes: N photos in V versions each, corrupted or not.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twincar.core.files import write_csv, write_json
from twincar.core.preprocess import Preprocessing, iterate_batches
from twincar.core.progress import Progress
from twincar.data.dataset import PreparedData
from twincar.evaluation import plots
from twincar.evaluation.corruptions import CORRUPTIONS, VERSIONS, CorruptedViews
from twincar.evaluation.split_predictions import labelled_split
from twincar.evaluation.subject import Subject
from twincar.metrics.classification import Interval, accuracy_interval
from twincar.models.engines.base import Engine
from twincar.models.spec import ModelSpec

_INPUTS = 72  # at once
_CORRUPTED_SPLIT = "test"  # whose photos the hub data set has corrupted


@dataclass(frozen=True)
class CorruptionScore:
    """Accuracy under one corruption."""

    corruption: str
    severity: int | None
    """1 to 5, or None for the photos of a data set that does not say."""
    accuracy: Interval
    photos: int

    def to_row(self) -> dict[str, Any]:
        """One row of `corruptions.csv`."""
        low, high = self.accuracy.low, self.accuracy.high
        row = {"corruption": self.corruption, "severity": self.severity, "accuracy": self.accuracy.value}
        return row | {"low": low, "high": high, "photos": self.photos}


@dataclass(frozen=True)
class Robustness:
    """How much a model loses on corrupted photos of one split."""

    split: str
    photos: int
    generated: bool
    """Whether the photos were corrupted here; else the data set has them as splits."""
    clean: Interval
    """Accuracy on the same photos as they are."""
    scores: tuple[CorruptionScore, ...]
    folder: Path
    """Where the table and the picture lie."""

    @property
    def means(self) -> dict[str, float]:
        """Accuracy under each corruption, the mean over its severities."""
        return {name: float(np.mean([a.value for a in found])) for name, found in self.by_corruption().items()}

    @property
    def mean(self) -> float:
        """Accuracy, the mean over the corruptions."""
        return float(np.mean(list(self.means.values())))

    @property
    def relative(self) -> float:
        """`mean` as a share of the accuracy on clean photos; 0 where that is 0."""
        return self.mean / self.clean.value if self.clean.value else 0.0

    def by_corruption(self) -> dict[str, list[Interval]]:
        """Accuracy under each corruption, by rising severity."""
        names = dict.fromkeys(score.corruption for score in self.scores)
        return {name: [score.accuracy for score in self.scores if score.corruption == name] for name in names}

    def to_dict(self) -> dict[str, Any]:
        """For `corruptions.json` and `--json`."""
        return {
            "split": self.split,
            "photos": self.photos,
            "generated": self.generated,
            "clean": asdict(self.clean),
            "corruptions": [score.to_row() for score in self.scores],
            "means": self.means,
            "mean": self.mean,
            "relative": self.relative,
            "folder": str(self.folder),
        }


def measure_robustness(
    model: str | Path | None = None,
    *,
    split: str | None = None,
    data_folder: Path | None = None,
    out: Path | None = None,
    on_photo: Progress | None = None,
) -> Robustness:
    """Evaluate a model on corrupted photos and write `corruptions.csv`, `.json` and `.png`; see `Subject.results`.

    Where the data set has splits named after corruptions, as the hub data set has of its test photos, these are what
    'test' is measured on; otherwise each photo of the split is corrupted in seven ways at five severities, and its
    uncorrupted version, scaled like the others, is the clean one (see `twincar.evaluation.corruptions`).

    Args:
        model: a run folder, a model file, owner/name on the hub, or earlier results; the bundled model unless given.
        split: 'val', 'test' or 'train'; validation photos unless given, or test photos where there are none.
        data_folder: a prepared data set, class folders, or a CSV; only a run knows its own.
        out: where results go in place of the default.
        on_photo: called with photos done and in all, for a progress bar.

    Raises:
        UsageError: no such model, no data named for one that knows none, or `out` holds something else.
        DataError: no such split, or one without labels, or photos that cannot be read.
        LabelError: the data has classes the model does not know.
    """
    subject = Subject.open(model, data_folder=data_folder, split=split, out=out)
    engine, spec, data, split = subject.engine, subject.spec, subject.data, subject.split
    there = [name for name in CORRUPTIONS if split == _CORRUPTED_SPLIT and data.has_split(name)]
    if there:
        clean, scores = _measure_splits(engine, spec, data, [split, *there], on_photo)
    else:
        clean, scores = _measure_generated(engine, spec, data, split, on_photo)
    result = Robustness(
        split=split,
        photos=len(data.split(split)),
        generated=not there,
        clean=clean,
        scores=scores,
        folder=subject.claim(subject.results),
    )
    write_csv(result.folder / "corruptions.csv", (score.to_row() for score in scores))
    write_json(result.folder / "corruptions.json", result.to_dict())
    title = f"Accuracy on corrupted {split} photos: {result.mean:.1%} in the mean, {clean.value:.1%} on clean ones"
    plots.save(plots.robustness_figure(clean, result.by_corruption(), title), result.folder / "corruptions.png")
    return result


_Scores = tuple[Interval, tuple[CorruptionScore, ...]]
"""On clean photos, and on corrupted ones."""


def _measure_generated(
    engine: Engine, spec: ModelSpec, data: PreparedData, split: str, on_photo: Progress | None
) -> _Scores:
    """Of one split, every version of every photo."""
    views = CorruptedViews(**asdict(spec.preprocessing))
    labels, predictions = _answer(engine, spec, data, split, views, on_photo)
    clean, *corrupted = (accuracy_interval(labels, answers) for answers in predictions.T)
    scores = zip(VERSIONS[1:], corrupted, strict=True)
    return clean, tuple(CorruptionScore(name, severity, score, len(labels)) for (name, severity), score in scores)


def _measure_splits(
    engine: Engine, spec: ModelSpec, data: PreparedData, splits: list[str], on_photo: Progress | None
) -> _Scores:
    """Of the first split, which is clean, and of the others, which are named after corruptions."""
    scores = []
    for split in splits:
        labels, predictions = _answer(engine, spec, data, split, spec.preprocessing, on_photo)
        scores.append(CorruptionScore(split, None, accuracy_interval(labels, predictions[:, 0]), len(labels)))
    return scores[0].accuracy, tuple(scores[1:])


def _answer(
    engine: Engine, spec: ModelSpec, data: PreparedData, split: str, views: Preprocessing, on_photo: Progress | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The labels of a split, N, and the likeliest classes, N×V; each photo is decoded once for all its versions."""
    annotations, labels = labelled_split(data, split, spec.classes)
    several = isinstance(views, CorruptedViews)
    batch_size = _INPUTS // len(VERSIONS) if several else _INPUTS
    paths = [data.path(annotation) for annotation in annotations]
    predictions = []
    for batch in iterate_batches(paths, views, batch_size=batch_size, tta=several):
        for error in batch.failures.values():
            raise error
        predictions.append(engine.view_logits(batch.images).argmax(axis=2))
        if on_photo:
            on_photo(batch.positions[-1] + 1, len(paths))
    return labels, np.concatenate(predictions)
