from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from twincar.metrics.classification import (
    Interval,
    Predictions,
    accuracy_interval,
    classification_metrics,
    expected_calibration_error,
)
from twincar.metrics.intervals import class_average_intervals, ece_interval, score_intervals, share_interval

SAMPLES = 500


def draw_logits(rng: np.random.Generator, labels: np.ndarray, classes: int, margin: float) -> np.ndarray:
    """Logits with easy and hard classes; mistakes go to the twin more often than to other classes."""
    logits = rng.normal(size=(len(labels), classes))
    rows = np.arange(len(labels))
    logits[rows, labels] += margin + 1.2 * np.sin(labels)
    logits[rows, labels ^ 1] += margin / 2
    return logits


def probabilities_of(logits: np.ndarray, temperature: float) -> np.ndarray:
    exponents = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature)
    return (exponents / exponents.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(
    ("classes", "photos", "margin", "temperature"),
    [(24, 16, 4.0, 1.0), (60, 4, 3.5, 0.5), (10, 30, 2.5, 1.6)],
)
def test_intervals_have_their_nominal_coverage(classes: int, photos: int, margin: float, temperature: float) -> None:
    """The truth is measured on 60,000 photos; 500 samples with this number of photos per class."""
    rng = np.random.default_rng(0)
    many = np.repeat(np.arange(classes), photos * 60_000 // (classes * photos))
    found = Predictions.from_probabilities(many, probabilities_of(draw_logits(rng, many, classes, margin), temperature))
    truth = classification_metrics(found)
    labels, missed = np.repeat(np.arange(classes), photos), Counter[str]()
    for _ in range(SAMPLES):
        drawn = draw_logits(rng, labels, classes, margin)
        intervals = score_intervals(Predictions.from_probabilities(labels, probabilities_of(drawn, temperature)))
        for name, interval in intervals.items():
            assert 0 <= interval.low <= interval.value <= interval.high <= 1
            missed[name] += not interval.low <= truth[name] <= interval.high
    covered = {name: 1 - missed[name] / SAMPLES for name in intervals}
    assert min(covered.values()) >= 0.92, covered
    assert covered["ece"] < 0.999


def test_values_equal_those_of_the_metrics() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 6, 300)
    predictions = Predictions.from_probabilities(labels, rng.dirichlet(np.full(6, 0.4), 300).astype(np.float32))
    intervals, metrics = score_intervals(predictions), classification_metrics(predictions)
    assert {name: interval.value for name, interval in intervals.items()} == pytest.approx(
        {name: metrics[name] for name in intervals}
    )
    assert set(metrics) - set(intervals) == {"loss", "brier", "cohen_kappa", "mcc"}
    assert intervals["acc"] == accuracy_interval(labels, predictions.predicted)


def test_the_interval_of_many_photos_is_narrow() -> None:
    """All have a confidence of 70% and an accuracy of 60%: the error is 0.1, with the standard deviation of a share."""
    rng = np.random.default_rng(2)
    right = rng.random(40_000) < 0.6
    interval = ece_interval(np.full(40_000, 0.7, np.float32), right)
    half = 1.96 * np.sqrt(0.6 * 0.4 / 40_000)
    assert interval.value == pytest.approx(expected_calibration_error(np.full(40_000, 0.7, np.float32), right))
    assert (interval.low, interval.high) == pytest.approx((interval.value - half, interval.value + half), abs=2e-4)


def test_the_interval_of_an_error_explained_by_chance_begins_at_0() -> None:
    rng = np.random.default_rng(3)
    confidence = rng.uniform(0.5, 1, 200).astype(np.float32)
    interval = ece_interval(confidence, rng.random(200) < confidence)
    assert interval.value > 0.02
    assert interval.low == pytest.approx(0, abs=1e-6)
    certain = ece_interval(np.ones(50, np.float32), np.ones(50, bool))
    assert (certain.value, certain.low) == (0, 0)
    assert certain.high > 0.01  # the next prediction may be wrong


def test_the_share_of_no_photos_has_no_interval() -> None:
    assert share_interval(np.zeros(0, bool)) is None
    assert vars(share_interval(np.repeat([True, False], 50))) == pytest.approx(  # type: ignore[arg-type]
        {"value": 0.5, "low": 0.4038, "high": 0.5962}, abs=1e-4
    )


def macro_f1_interval(labels: np.ndarray, predictions: np.ndarray) -> Interval:
    return class_average_intervals(labels, predictions)["f1_macro"]


def draw_world(rng: np.random.Generator, classes: int, accuracy: float) -> np.ndarray:
    """Probability of each prediction for each class, K×K; mistakes go to the twin or to any class."""
    recall = rng.beta(8 * accuracy, 8 * (1 - accuracy), classes)
    confusion = (1 - recall)[:, None] * rng.dirichlet(np.full(classes, 0.05), classes) * 0.4
    own = np.arange(classes)
    confusion[own, own] += recall
    confusion[own, own ^ 1] += 0.6 * (1 - recall)
    return confusion


@pytest.mark.parametrize(
    ("classes", "photos", "accuracy"),
    [(196, 4, 0.9), (24, 16, 0.97), (24, 16, 0.995), (20, 10, 0.6), (2, 100, 0.7)],
)
def test_the_interval_of_macro_f1_has_its_nominal_coverage(classes: int, photos: int, accuracy: float) -> None:
    """The truth is the macro-F1 for infinitely many photos; 600 samples with this number of photos per class."""
    rng = np.random.default_rng(0)
    labels, missed = np.repeat(np.arange(classes), photos), {"low": 0, "high": 0}
    for number in range(600):
        if number % 10 == 0:
            confusion = draw_world(rng, classes, accuracy)
            truth = float((2 * confusion.diagonal() / (1 + confusion.sum(axis=0))).mean())
            borders = confusion.cumsum(axis=1)[labels]
        predictions = np.minimum((borders < rng.random((len(labels), 1))).sum(axis=1), classes - 1)
        interval = macro_f1_interval(labels, predictions)
        assert interval.low <= interval.value <= interval.high <= 1
        missed["low"] += truth < interval.low
        missed["high"] += truth > interval.high
    assert 0.93 <= 1 - sum(missed.values()) / 600 <= 0.985, missed
    assert max(missed.values()) <= 0.06 * 600, missed


def test_the_interval_of_macro_f1_by_hand() -> None:
    """Two classes of 26 photos each, of which 13 are predicted as the other.

    Each F1 is 26 / 52. A correct photo changes the mean by 2 × 0.5 / 52 / 2 = 1/104, a wrong one by -1/104, so that the
    variance is 52 × 26/25 / 104² = 1/200: that of an accuracy of 0.25 / (1/200) = 50 photos.
    """
    labels, predictions = np.repeat([0, 1], 26), np.tile(np.repeat([0, 1], 13), 2)
    accuracy = accuracy_interval(np.zeros(50, np.int64), np.repeat([0, 1], 25))
    assert vars(macro_f1_interval(labels, predictions)) == pytest.approx(vars(accuracy))


def test_if_all_is_right_or_wrong_the_interval_is_that_of_accuracy() -> None:
    labels = np.arange(60) % 3
    assert macro_f1_interval(labels, labels) == accuracy_interval(labels, labels)
    assert macro_f1_interval(labels, (labels + 1) % 3) == accuracy_interval(labels, (labels + 1) % 3)  # all wrong


def test_classes_of_one_photo_are_treated_as_one_class() -> None:
    """The variance within such a class is unknown; each class on its own would add no variance."""
    labels = np.arange(40)
    predictions = np.where(labels % 4 == 0, labels + 1, labels)
    interval = macro_f1_interval(labels, predictions)
    assert interval.high - interval.low > 0.15


def test_a_class_that_is_never_predicted_has_an_f1_of_0() -> None:
    """Class 0: precision 1/2, recall 1, so F1 2/3; class 1: 0."""
    assert macro_f1_interval(np.array([0, 1]), np.array([0, 0])).value == pytest.approx(1 / 3)
