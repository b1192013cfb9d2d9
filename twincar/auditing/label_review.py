"""Find photos whose labels are probably wrong, by the predictions of networks that were not trained on them.

A run was trained on its training photos, so it reviews all others only. Its training photos are reviewed in folds: each
fold by a network that is trained, with the configuration of the run, on the other folds. It is not known on which
photos any other model was trained: it reviews all, and the result says so.

Shapes: N photos of a data set, M of them reviewed, K classes of the model.
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
from twincar.core.runs import RunFolder
from twincar.core.wording import counted, list_counts, percent
from twincar.data.dataset import MANIFEST, Annotation, PreparedData, count_splits, photo_of, write_prepared
from twincar.evaluation.subject import Subject
from twincar.metrics.confident_learning import LabelErrors, find_label_errors
from twincar.models.calibration import softmax
from twincar.models.engines.open import compute_logits, open_engine
from twincar.training.train import resume, train

log = logging.getLogger(__name__)

_UNKNOWN = "it is not known which of them it was trained on, and it does not report a wrong label that it has learnt"


@dataclass(frozen=True)
class Photos:
    """The N photos of a data set whose labels are reviewed."""

    annotations: Sequence[Annotation]
    classes: ClassNames
    root: Path
    groups: NDArray[np.int64]
    """A number for each photo, N; it is the same for copies of one picture."""

    def photo(self, index: int) -> Path | PhotoCrop:
        """The photo at `index`, as it is trained on."""
        return photo_of(self.root, self.annotations[index])


@dataclass(frozen=True)
class LabelReview:
    """The result of a review of labels."""

    photos: NDArray[np.int64]
    """Indices in the data set of the reviewed photos, M."""
    labels: NDArray[np.int64]
    """Their labels as classes of the model, M."""
    probabilities: NDArray[np.float32]
    """Out of sample, M×K."""
    errors: LabelErrors
    """The suspect labels, by their indices among the reviewed photos."""
    classes: ClassNames
    """Of the model, K."""
    notes: tuple[str, ...]
    """Which photos were reviewed by which networks, and which were not and why; one sentence each."""


def review_labels(
    model: str | Path, photos: Photos, workspace: Path, *, folds: int = 0, on_photo: Progress | None = None
) -> LabelReview:
    """Review the labels of all photos for which there is a network that was not trained on them.

    Args:
        model: a model of any kind; the data set of a run must still exist.
        photos: the photos, which may be those of the data set of the run or others.
        workspace: folder for the networks of the folds; networks that it holds already are not trained again.
        folds: the number of folds in which the training photos of a run are reviewed; 0 leaves these photos out.
        on_photo: called with photos done and in all, for a progress bar.

    Raises:
        UsageError: there is no such model, there is only one fold, or the model of several folds is not a run.
        DataError: the data set of the run no longer exists, or no label can be reviewed.
    """
    if folds == 1 or folds < 0:
        raise UsageError(f"Expected at least 2 folds, or none, and found {folds}.")
    subject = Subject.open(model)
    if folds and subject.run is None:
        raise UsageError(
            f"Expected a run with --folds, whose configuration trains the networks, but {model} is not a run."
        )
    spec, config = subject.spec, subject.config
    known = _labels_of_model(photos, spec.classes)
    trained = {photo.sha256 for photo in subject.data.split("train")} if subject.run else set()
    seen, copies = _seen(photos, trained)
    reviewers = [(subject.path, np.flatnonzero((known >= 0) & ~seen & ~copies))]
    how = "the run, which was not trained on them" if subject.run else f"{subject.name}; {_UNKNOWN}"
    notes = [f"{_counted(photos, reviewers[0][1])} reviewed by {how}."]
    trained_on = (known >= 0) & seen
    left_out = []
    if config and folds and trained_on.any():
        by_folds = _train_folds(config, subject.data, photos, np.flatnonzero(trained_on), folds, workspace)
        reviewers += by_folds
        reviewed = np.concatenate([indices for _, indices in by_folds])
        notes.append(
            f"{_counted(photos, reviewed)} reviewed by {folds} networks, each trained without those it reviewed."
        )
    else:
        left_out.append((trained_on, "the run was trained on them (--folds 3 would review them)"))
    left_out.append((copies & (known >= 0), "the run was trained on a copy of them"))
    left_out.append((known < 0, "without a label, or of a class that the model does not know"))
    left = [f"{counted(int(which.sum()), 'photo')} not reviewed: {why}." for which, why in left_out if which.any()]
    notes += left
    indices = np.concatenate([part for _, part in reviewers])
    if not len(indices):
        raise DataError(f"Expected labels that {subject.path} can review, but found none. {' '.join(left)}")
    logits = [_mean_logits(reviewer, photos, part, spec.classes, on_photo) for reviewer, part in reviewers if len(part)]
    probabilities = softmax(np.concatenate(logits))
    labels = known[indices]
    agreed = float((probabilities.argmax(axis=1) == labels).mean())
    notes.append(
        f"The most likely class is the label for {percent(agreed)} of them; the lower this share, the less reliable "
        "are the suspect labels."
    )
    errors = find_label_errors(labels, probabilities)
    return LabelReview(indices, labels, probabilities, errors, spec.classes, tuple(notes))


def _labels_of_model(photos: Photos, classes: ClassNames) -> NDArray[np.int64]:
    """Labels as classes of the model, N; -1 for none."""
    numbers = [classes.find(name) for name in photos.classes.names]
    found = [None if photo.label is None else numbers[photo.label] for photo in photos.annotations]
    return np.array([-1 if number is None else number for number in found], np.int64)


def _seen(photos: Photos, trained: set[str]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether the run was trained on each photo, N, and whether each of the others is a copy of such a photo, N."""
    seen = np.array([photo.sha256 in trained for photo in photos.annotations], bool)
    return seen, np.isin(photos.groups, photos.groups[seen]) & ~seen


def _counted(photos: Photos, indices: NDArray[np.int64]) -> str:
    counts = count_splits(photos.annotations[index] for index in indices.tolist())
    return f"{counted(len(indices), 'photo')} ({list_counts(counts) or 'none'})"


def _mean_logits(
    model: Path, photos: Photos, indices: NDArray[np.int64], classes: ClassNames, on_photo: Progress | None
) -> NDArray[np.float32]:
    engine, spec = open_engine(model)
    reviewed = [photos.photo(index) for index in indices.tolist()]
    logits: NDArray[np.float32] = compute_logits(engine, spec.preprocessing, reviewed, on_photo=on_photo).mean(axis=1)
    return logits[:, classes.indices_in(spec.classes)]


def _train_folds(
    config: TrainConfig, data: PreparedData, photos: Photos, seen: NDArray[np.int64], folds: int, workspace: Path
) -> list[tuple[Path, NDArray[np.int64]]]:
    """A network for each fold of the photos at `seen`, trained on the training photos of the run without that fold."""
    held_out = _divide(photos, seen, folds)
    result = []
    for number, part in enumerate(held_out, start=1):
        log.info("Fold %d of %d: training without %s.", number, folds, counted(len(part), "photo"))
        without = {int(photos.groups[index]) for index in part.tolist()}
        hidden = {
            photo.sha256 for photo, group in zip(photos.annotations, photos.groups, strict=True) if group in without
        }
        kept = [p for p in data.annotations if p.split == "val" or (p.split == "train" and p.sha256 not in hidden)]
        result.append((_train_fold(config, data, kept, workspace), part))
    return result


def _divide(photos: Photos, indices: NDArray[np.int64], folds: int) -> list[NDArray[np.int64]]:
    """Folds with about equal numbers of each class; copies of a picture are in the same fold."""
    labels = [photos.annotations[index].label for index in indices.tolist()]
    fewest = min(np.bincount(np.unique(labels, return_inverse=True)[1]), default=0)
    if fewest < folds:
        raise UsageError(
            f"Expected at least {folds} training photos of each class for --folds {folds}, but found {fewest}."
        )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
    return [indices[part] for _, part in splitter.split(indices, labels, photos.groups[indices])]


def _train_fold(config: TrainConfig, data: PreparedData, kept: Sequence[Annotation], workspace: Path) -> Path:
    rows = "\n".join(f"{photo.sha256} {photo.label} {photo.split}" for photo in kept)
    folder = workspace / sha256_of(f"{config.to_yaml()}\n{rows}".encode())[:16]  # each fold has its own folder
    if not (folder / "data" / MANIFEST).exists():
        manifest: Mapping[str, object] = {
            **data.manifest,
            "photo_root": data.photo_root.resolve().as_posix(),
            "photos": count_splits(kept),
        }
        write_prepared(folder / "data", data.classes, kept, manifest)
    run = RunFolder(folder / "run")
    if run.config.exists():
        return resume(run.path).run.path
    return train(replace(config, data=str((folder / "data").resolve())), run.path).run.path
