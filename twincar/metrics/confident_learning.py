"""Find likely label errors by confident learning (Northcutt, Jiang and Chuang, 2021, JAIR 70).

The threshold of a class is the mean probability of the class over the photos with that label; a photo is confidently
counted for the most likely class whose threshold it passes. The counts estimate the joint distribution of labels and
true classes, and photos that are counted for another class than their label are the suspects.

Shapes: N photos, K classes. `labels` are the given labels, N; `probabilities` are N×K and must be out of sample: from a
network that was not trained on the photo.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class LabelErrors:
    """The photos whose labels are suspect."""

    photos: NDArray[np.int64]
    """Their indices, the most likely error first; M."""
    suggested: NDArray[np.int64]
    """The class for which each is confidently counted; M."""
    margins: NDArray[np.float64]
    """Probability of the label minus that of the most likely other class; M, -1 to 1, lower is worse."""
    noise: float
    """Estimated share of wrong labels among the N photos."""


def find_label_errors(labels: NDArray[np.int64], probabilities: NDArray[np.floating]) -> LabelErrors:
    """The off-diagonal photos of the confident joint, ranked by normalised margin (sections 3.1 and 3.2)."""
    counted = confident_classes(labels, probabilities)
    suspects = np.flatnonzero((counted >= 0) & (counted != labels))
    margins = label_margins(labels, probabilities)[suspects]
    order = np.argsort(margins, kind="stable")
    joint = estimate_joint(labels, counted, probabilities.shape[1])
    return LabelErrors(
        photos=suspects[order],
        suggested=counted[suspects][order],
        margins=margins[order],
        noise=float(1 - np.trace(joint)) if len(labels) else 0.0,
    )


def class_thresholds(labels: NDArray[np.int64], probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """Mean probability of each class over the photos with its label, K (equation 2); infinite without such photos."""
    classes = probabilities.shape[1]
    of_label = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    sums, counts = np.bincount(labels, of_label, classes), np.bincount(labels, minlength=classes)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)


def confident_classes(labels: NDArray[np.int64], probabilities: NDArray[np.floating]) -> NDArray[np.int64]:
    """The class for which each photo is confidently counted, N (equation 1); -1 if it passes no threshold."""
    passed = probabilities >= class_thresholds(labels, probabilities)
    best = np.where(passed, probabilities, -np.inf).argmax(axis=1)
    return np.where(passed.any(axis=1), best, -1).astype(np.int64)


def estimate_joint(labels: NDArray[np.int64], counted: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Joint distribution of labels (rows) and true classes (columns), K×K (equation 3).

    Each row of the confident counts is scaled to the number of photos with that label; a label without counted photos
    is assumed to be right.
    """
    confident = counted >= 0
    joint = np.zeros((classes, classes))
    np.add.at(joint, (labels[confident], counted[confident]), 1)
    uncounted = joint.sum(axis=1) == 0
    joint[uncounted, uncounted] = 1
    joint *= (np.bincount(labels, minlength=classes) / joint.sum(axis=1))[:, None]
    distribution: NDArray[np.float64] = joint / max(1.0, joint.sum())
    return distribution


def label_margins(labels: NDArray[np.int64], probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probability of the label minus that of the most likely other class, N (the paper's normalised margin)."""
    rows = np.arange(len(labels))
    others = probabilities.astype(np.float64)
    of_label = others[rows, labels].copy()
    others[rows, labels] = -np.inf
    margins: NDArray[np.float64] = of_label - others.max(axis=1)
    return margins
