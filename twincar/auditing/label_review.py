"""Which photos a model thinks are labelled wrongly, judged by networks that have not seen them.

A run has seen its training photos, so it can judge all others only. Its training photos are judged by networks trained
with its configuration, each on a part of them, each judging the rest. Of any other model it is not known which photos
it was trained on: it judges all, and the result says so.

Shapes: N photos of a data set, M of them judged, K classes of the model.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from twincar.core.config import TrainConfig
from twincar.core.errors import DataError, UsageError
from twincar.core.files import sha256_of
from twincar.core.labels import ClassNames
from twincar.core.photos import PhotoCrop
from twincar.core.progress import Progress
from twincar.core.wording import counted, percent
from twincar.data.dataset import MANIFEST, Annotation, PreparedData, count_splits, photo_of, write_prepared
from twincar.evaluation.subject import Subject
from twincar.metrics.confident_learning import LabelErrors, find_label_errors
from twincar.models.calibration import softmax
from twincar.models.engines.open import compute_logits, open_engine
from twincar.training.train import resume, train

log = logging.getLogger(__name__)

_NOT_KNOWN = "which of them it was trained on is not known, and a wrong label that it has learnt is not suspected"


@dataclass(frozen=True)
class Photos:
    """The N photos of a data set to be judged, and what is known of them."""

    annotations: Sequence[Annotation]
    classes: ClassNames
    root: Path
    groups: NDArray[np.int64]
    """Equal numbers for photos that are one picture, N."""

    def photo(self, place: int) -> Path | PhotoCrop:
        """The photo at `place`, as it is trained on."""
        return photo_of(self.root, self.annotations[place])


@dataclass(frozen=True)
class Judgement:
    """Which photos were judged, and what came out."""

    photos: NDArray[np.int64]
    """Places in the data set of the photos judged, M."""
    labels: NDArray[np.int64]
    """Their labels as classes of the model, M."""
    probabilities: NDArray[np.float32]
    """Out of sample, M×K."""
    errors: LabelErrors
    """The suspects, by their places among the judged."""
    classes: ClassNames
    """Of the model, K."""
    told: tuple[str, ...]
    """Which photos were judged by what, and which were not and why; a sentence each."""


def judge_labels(
    model: str | Path, photos: Photos, workspace: Path, *, folds: int = 0, on_photo: Progress | None = None
) -> Judgement:
    """Judge the labels of all photos that there is a network for which has not seen them.

    Args:
        model: a model of any kind; of a run, the data set it was trained on must still be there.
        photos: the photos, which may be those of the run's data set or others.
        workspace: folder for the networks of the folds; a fold that is there already is not trained again.
        folds: how many parts the run's training photos are judged in, each by a network of its own; 0 leaves them out.
        on_photo: called with photos done and in all, for a progress bar.

    Raises:
        UsageError: no such model, one fold, or folds of a model that is not a run.
        DataError: the run's data set is gone, or nothing can be judged.
    """
    if folds == 1 or folds < 0:
        raise UsageError(f"Expected at least 2 folds, or none, and found {folds}.")
    subject = Subject.open(model)
    if folds and subject.run is None:
        raise UsageError(f"Expected a run with --folds, whose configuration trains the networks, but {model} is none.")
    spec, config = subject.spec, subject.config
    known = _labels_of_model(photos, spec.classes)
    trained = {photo.sha256 for photo in subject.data.split("train")} if subject.run else set()
    seen, copies = _seen(photos, trained)
    parts = [(subject.path, np.flatnonzero((known >= 0) & ~seen & ~copies))]
    how = "the run, which was not trained on them" if subject.run else f"{subject.name}; {_NOT_KNOWN}"
    told = [f"{_counted(photos, parts[0][1])} judged by {how}."]
    trained_on = (known >= 0) & seen
    not_judged = []
    if config and folds and trained_on.any():
        fold_parts = _train_folds(config, subject.data, photos, np.flatnonzero(trained_on), folds, workspace)
        parts += fold_parts
        judged = np.concatenate([places for _, places in fold_parts])
        told.append(
            f"{_counted(photos, judged)} judged by {folds} networks trained anew, each without those it judged."
        )
    else:
        not_judged.append((trained_on, "the run was trained on them (--folds 3 would judge them)"))
    not_judged.append((copies & (known >= 0), "the run was trained on a copy of them"))
    not_judged.append((known < 0, "without a label, or of a class the model does not know"))
    left = [f"{counted(int(which.sum()), 'photo')} not judged: {why}." for which, why in not_judged if which.any()]
    told += left
    places = np.concatenate([part for _, part in parts])
    if not len(places):
        raise DataError(f"Expected labels that {subject.path} can judge, and found none. {' '.join(left)}")
    logits = [_mean_logits(judge, photos, part, spec.classes, on_photo) for judge, part in parts if len(part)]
    probabilities = softmax(np.concatenate(logits))
    labels = known[places]
    agreed = float((probabilities.argmax(axis=1) == labels).mean())
    told.append(
        f"Their likeliest class is the label for {percent(agreed)} of them; the less, the less a suspicion means."
    )
    return Judgement(places, labels, probabilities, find_label_errors(labels, probabilities), spec.classes, tuple(told))


def _labels_of_model(photos: Photos, classes: ClassNames) -> NDArray[np.int64]:
    """Labels as classes of the model, N; -1 where there is none."""
    numbers = [classes.find(name) for name in photos.classes.names]
    found = [None if photo.label is None else numbers[photo.label] for photo in photos.annotations]
    return np.array([-1 if number is None else number for number in found], np.int64)


def _seen(photos: Photos, trained: set[str]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which photos the run was trained on, N, and which are copies of such, N."""
    seen = np.array([photo.sha256 in trained for photo in photos.annotations], bool)
    return seen, np.isin(photos.groups, photos.groups[seen]) & ~seen


def _counted(photos: Photos, places: NDArray[np.int64]) -> str:
    counts = count_splits(photos.annotations[place] for place in places.tolist())
    by_split = ", ".join(f"{count} {split}" for split, count in counts.items())
    return f"{counted(len(places), 'photo')} ({by_split or 'none'})"


def _mean_logits(
    model: Path, photos: Photos, places: NDArray[np.int64], classes: ClassNames, on_photo: Progress | None
) -> NDArray[np.float32]:
    engine, spec = open_engine(model)
    judged = [photos.photo(place) for place in places.tolist()]
    logits: NDArray[np.float32] = compute_logits(engine, spec.preprocessing, judged, on_photo=on_photo).mean(axis=1)
    return logits[:, classes.indices_in(spec.classes)]


def _train_folds(
    config: TrainConfig, data: PreparedData, photos: Photos, seen: NDArray[np.int64], folds: int, workspace: Path
) -> list[tuple[Path, NDArray[np.int64]]]:
    """A network for each part of the photos at `seen`, trained on the run's training photos without that part."""
    held_out = _divide(photos, seen, folds)
    result = []
    for number, part in enumerate(held_out, start=1):
        log.info("Fold %d of %d: training without %s.", number, folds, counted(len(part), "photo"))
        without = {int(photos.groups[place]) for place in part.tolist()}
        hidden = {
            photo.sha256 for photo, group in zip(photos.annotations, photos.groups, strict=True) if group in without
        }
        kept = [p for p in data.annotations if p.split == "val" or (p.split == "train" and p.sha256 not in hidden)]
        result.append((_train_fold(config, data, kept, workspace), part))
    return result


def _divide(photos: Photos, places: NDArray[np.int64], folds: int) -> list[NDArray[np.int64]]:
    """Parts with about equal numbers of each class; copies of a picture stay together."""
    labels = [photos.annotations[place].label for place in places.tolist()]
    fewest = min(np.bincount(np.unique(labels, return_inverse=True)[1]), default=0)
    if fewest < folds:
        raise UsageError(f"Expected at least {folds} training photos of every class for --folds {folds}, not {fewest}.")
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
    return [places[part] for _, part in splitter.split(places, labels, photos.groups[places])]


def _train_fold(config: TrainConfig, data: PreparedData, kept: Sequence[Annotation], workspace: Path) -> Path:
    rows = "\n".join(f"{photo.sha256} {photo.label} {photo.split}" for photo in kept)
    folder = workspace / sha256_of(f"{config.to_yaml()}\n{rows}".encode())[:16]  # another fold is another folder
    if not (folder / "data" / MANIFEST).exists():
        manifest: Mapping[str, object] = {
            **data.manifest,
            "photo_root": data.photo_root.resolve().as_posix(),
            "photos": count_splits(kept),
        }
        write_prepared(folder / "data", data.classes, kept, manifest)
    run = folder / "run"
    if (run / "config.yaml").exists():
        return resume(run).run.path
    return train(replace(config, data=str((folder / "data").resolve())), run).run.path
