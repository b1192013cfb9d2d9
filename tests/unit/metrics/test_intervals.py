from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from twincar.metrics.classification import (
    Predictions,
    accuracy_interval,
    classification_metrics,
    expected_calibration_error,
    macro_f1_interval,
)
from twincar.metrics.intervals import ece_interval, score_intervals, share_interval

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
    macro = macro_f1_interval(labels, predictions.predicted)
    assert vars(intervals["f1_macro"]) == pytest.approx(vars(macro))


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
