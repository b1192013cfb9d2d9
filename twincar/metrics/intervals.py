"""95% intervals of every score that `classification_metrics` gives as a share, and of the calibration error.

Shares of photos have Wilson's score interval. Averages over classes have it at their effective number of photos, as
macro-F1 has (see `macro_f1_interval`). The calibration error is inverted from its bins (see `ece_interval`).

Shapes: N photos, K classes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from twincar.metrics.classification import (
    BINS,
    QUANTILE,
    Interval,
    Labels,
    Predictions,
    Probabilities,
    bin_of,
    expected_calibration_error,
    top_k_accuracy,
    variance_of_sum,
    wilson,
)

Floats = NDArray[np.float64]
_HALVINGS = 40  # of the range in which an end of an interval is looked for


def score_intervals(answers: Predictions) -> dict[str, Interval]:
    """Intervals by the names of `classification_metrics`; of loss, Brier, kappa and Matthews there are none.

    In simulations of 24 classes of 16 photos and of 60 of 4 they covered the truth at least 92% of the time, mostly
    95%; see the tests.
    """
    photos, accuracy = len(answers.labels), float(answers.right.mean())
    shares = {
        "acc": accuracy,
        "recall_weighted": accuracy,  # the same by definition
        "hamming": 1 - accuracy,
        "top3": top_k_accuracy(answers, 3),
        "top5": top_k_accuracy(answers, 5),
    }
    return {
        **{name: wilson(share, photos) for name, share in shares.items()},
        **class_average_intervals(answers.labels, answers.predictions),
        "ece": ece_interval(answers.confidence, answers.right),
    }


def share_interval(hits: NDArray[np.bool_]) -> Interval | None:
    """Of the share of hits among some photos, N; None where there are no photos."""
    return wilson(float(hits.mean()), len(hits)) if len(hits) else None


def class_average_intervals(labels: Labels, predictions: Labels) -> dict[str, Interval]:
    """Macro and weighted averages over the classes that have photos, of precision, recall, F1 and Jaccard's index.

    Each score of a class is a ratio of sums over photos, which is linearised (the delta method): a photo moves the
    average through the class it is of, and through the class it is taken for.

    Precision and Jaccard's index of few photos lie too high: chance mistakes in the denominator raise the mean of a
    ratio. By as much as the second order of its expansion tells (P(1-P)R/n for a precision P of n answers at a recall
    R), the lower end is lowered.
    """
    classes, right = int(max(labels.max(), predictions.max())) + 1, (labels == predictions).astype(np.float64)
    photos_of, named = (np.bincount(found, minlength=classes) for found in (labels, predictions))
    hits = np.bincount(labels, right, classes)
    present = photos_of > 0
    weights = {"macro": present / present.sum(), "weighted": photos_of / len(labels)}
    precision, recall = hits / np.maximum(named, 1), hits / np.maximum(photos_of, 1)
    total = np.maximum(photos_of + named, 1)
    f1 = 2 * hits / total
    union = np.maximum(photos_of + named - hits, 1)
    too_high = {
        "precision": precision * (1 - precision) * recall / np.maximum(named, 1),
        "jaccard": hits / union * (named - hits) / union**2,
    }
    found = {}
    for average, weight in weights.items():
        of_label, of_answer = weight[labels], weight[predictions]
        through_label = of_label * (right - f1[labels]) / total[labels]
        through_answer = of_answer * (right - f1[predictions]) / total[predictions]
        slope = 2 / (2 - f1) ** 2  # Jaccard's index is F1 / (2 - F1)
        shifts = {
            "precision": of_answer * (right - precision[predictions]) / named[predictions],
            "recall": of_label * (right - recall[labels]) / photos_of[labels],
            "f1": through_label + through_answer,
            "jaccard": through_label * slope[labels] + through_answer * slope[predictions],
        }
        values = {"precision": precision, "recall": recall, "f1": f1, "jaccard": f1 / (2 - f1)}
        for name, value in values.items():
            interval = _at_effective_number(float(value @ weight), shifts[name], labels)
            excess = float(too_high[name] @ weight) if name in too_high else 0.0
            found[f"{name}_{average}"] = replace(interval, low=max(interval.low - excess, 0.0))
    del found["recall_weighted"], found["jaccard_weighted"]  # accuracy; not among the metrics
    return found


def _at_effective_number(value: float, shifts: Floats, labels: Labels) -> Interval:
    """Wilson's interval at the number of photos, at most N, that would give a share this variance."""
    variance = variance_of_sum(shifts, labels)
    return wilson(
        value, min(value * (1 - value) / variance, len(labels)) if variance and 0 < value < 1 else len(labels)
    )


def ece_interval(confidence: Probabilities, right: NDArray[np.bool_]) -> Interval:
    """The expected calibration error, with an interval of the error that very many photos would show.

    From few photos the figure is too high, because chance moves every bin away from zero, never towards it. In a bin
    the mean gap between confidence and accuracy is about normal, so that its size is a folded normal variable, whose
    mean and variance are known. The interval holds the errors under which a sum of the bins such as this one is within
    95%: below the figure the gaps are shrunk towards zero, above it they are all stretched. It is widened to hold the
    figure itself, which may lie above it.

    Args:
        confidence: probability of each answer, N.
        right: whether it is right, N.
    """
    photos, bins = len(right), bin_of(confidence)
    gap = confidence.astype(np.float64) - right
    gaps, squares = (np.bincount(bins, values, BINS) / photos for values in (gap, gap**2))
    count, hits = np.bincount(bins, minlength=BINS), np.bincount(bins, right, BINS)
    smooth = (hits + 1) / (count + 2)  # where every answer is right, the next may still be wrong
    spread = np.sqrt(np.maximum((squares - gaps**2) / photos, count * smooth * (1 - smooth) / photos**2))
    value = expected_calibration_error(confidence, right)
    low, high = (_error_at(value, abs(gaps), spread, sign) for sign in (1, -1))
    return Interval(value, min(low, value), min(max(high, value), 1.0))


def _error_at(value: float, sizes: Floats, spread: Floats, sign: int) -> float:
    """The error under which `value` lies as many standard deviations above (1) or below (-1) its mean as 95% do."""
    widest = spread.max()
    lowest, highest = -float(sizes.max()), float(sizes.max() + 10 * widest)
    for _ in range(_HALVINGS):
        shift = (lowest + highest) / 2
        mean, deviation = _folded(_shifted(sizes, spread / widest, shift), spread)
        lowest, highest = (shift, highest) if mean + sign * QUANTILE * deviation < value else (lowest, shift)
    return float(_shifted(sizes, spread / widest, lowest).sum())


def _shifted(sizes: Floats, shares: Floats, shift: float) -> Floats:
    return sizes + shift * shares if shift > 0 else np.maximum(sizes + shift, 0)


def _folded(means: Floats, spread: Floats) -> tuple[float, float]:
    """Mean and standard deviation of the sum of the absolute values of independent normal variables, one a bin."""
    spread = np.maximum(spread, 1e-12)  # of a bin without photos
    ratio = means / spread
    folded = spread * np.sqrt(2 / np.pi) * np.exp(-(ratio**2) / 2) + means * (1 - 2 * ndtr(-ratio))
    return float(folded.sum()), float(np.sqrt((means**2 + spread**2 - folded**2).sum()))
