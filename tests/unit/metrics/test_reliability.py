from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, roc_auc_score
from torchmetrics.functional.classification import multiclass_calibration_error

from twincar.core.labels import ClassNames
from twincar.metrics.classification import Predictions, expected_calibration_error
from twincar.metrics.reliability import (
    LevelPredictions,
    calibration_report,
    level_reports,
    open_set,
    rejection,
    reliability_bins,
    risk_coverage,
)
from twincar.models.levels import levels_of


def random_predictions(seed: int, photos: int = 300, classes: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, classes, photos), rng.dirichlet(np.full(classes, 0.4), photos).astype(np.float32)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_calibration_error_and_brier_equal_those_of_other_libraries(seed: int) -> None:
    labels, probabilities = random_predictions(seed)
    predictions = Predictions.from_probabilities(labels, probabilities)
    theirs = multiclass_calibration_error(torch.from_numpy(probabilities), torch.from_numpy(labels), 6, n_bins=15)
    assert expected_calibration_error(predictions.confidence, predictions.right) == pytest.approx(
        float(theirs), abs=1e-5
    )
    assert predictions.brier == pytest.approx(
        brier_score_loss(labels, probabilities, labels=range(6), scale_by_half=False), abs=1e-5
    )


def test_reliability_bins_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.92, 0.08], [0.55, 0.45], [0.45, 0.55]], np.float32)
    predictions = Predictions.from_probabilities(np.array([0, 1, 0, 1]), probabilities)
    low, high = reliability_bins(predictions)
    assert (low.confidence, low.accuracy, low.photos) == (pytest.approx(0.55), 1.0, 2)
    assert (high.confidence, high.accuracy, high.photos) == (pytest.approx(0.91), 0.5, 2)
    report = calibration_report(1.5, predictions, predictions)
    assert report.after["ece"] == pytest.approx(0.5 * 0.45 + 0.5 * 0.41)
    assert report.before["nll"] == pytest.approx(-np.log([0.9, 0.08, 0.55, 0.55]).mean())


def test_risk_coverage_by_hand() -> None:
    curve = risk_coverage(np.array([0.9, 0.8, 0.8, 0.1], np.float32), np.array([True, True, False, False]))
    assert curve.coverage == [0.25, 0.75, 1.0]
    assert curve.risk == pytest.approx([0, 1 / 3, 1 / 2])
    assert curve.area == pytest.approx((0 + 2 / 3 + 1 / 2) / 4)


def test_a_long_curve_is_subsampled_but_its_area_is_exact() -> None:
    rng = np.random.default_rng(1)
    confidence, right = rng.random(5000).astype(np.float32), rng.random(5000) < 0.7
    curve = risk_coverage(confidence, right)
    wrong = ~right[np.argsort(-confidence, kind="stable")]
    assert len(curve.coverage) <= 200
    assert curve.coverage[-1] == 1
    assert curve.area == pytest.approx((wrong.cumsum() / np.arange(1, 5001)).mean(), rel=1e-3)


def test_rejection_by_hand() -> None:
    found = rejection(
        np.array([0.01, 0.05, 0.3, 0.4], np.float32),
        np.array([False, True, True, False]),
        0.049,
    )
    assert (found.accepted, found.accuracy_of_accepted, found.accuracy_of_rejected) == (0.75, pytest.approx(2 / 3), 0.0)
    everything = rejection(np.ones(2, np.float32), np.ones(2, bool), 0.05)
    assert (everything.accepted, everything.accuracy_of_rejected) == (1.0, None)


def test_levels_by_hand() -> None:
    classes = ClassNames(("BMW M3 Coupe 2012", "BMW M5 Sedan 2012", "Audi S4 Sedan 2012"))
    probabilities = np.array([[0.9, 0.05, 0.05], [0.5, 0.4, 0.1], [0.45, 0.05, 0.5]], np.float32)
    labels = np.array([0, 1, 0])
    found = {
        name: LevelPredictions.from_probabilities(level, labels, probabilities)
        for name, level in levels_of(classes).items()
    }
    reports = {report.level: report for report in level_reports(found, 0.8)}
    assert reports["class"].accuracy == pytest.approx(1 / 3)
    assert (reports["class"].answered, reports["class"].precision) == (pytest.approx(1 / 3), 1.0)
    assert reports["make"].accuracy == pytest.approx(2 / 3)
    assert (reports["make"].answered, reports["make"].precision) == (pytest.approx(1 / 3), 1.0)
    assert (reports["year"].accuracy, reports["year"].answered) == (1.0, None)
    assert (reports["body"].answered, reports["body"].precision) == (0.0, None)
    assert reports["make"].ece == pytest.approx((0.05 + 0.1 + 0.5) / 3, abs=1e-6)


def test_a_level_that_no_class_name_contains_is_left_out() -> None:
    found = {
        name: LevelPredictions.from_probabilities(level, np.array([0, 1]), np.eye(2, dtype=np.float32))
        for name, level in levels_of(ClassNames(("One", "Two"))).items()
    }
    assert [report.level for report in level_reports(found, 0.8)] == ["class", "make"]


def test_open_set_by_hand() -> None:
    """Known photos score 4, 3, 2 and 1, of which 2 is wrong; unknown ones score 2.5 and 0."""
    known, right = np.array([4, 3, 2, 1], np.float32), np.array([True, True, False, True])
    found = open_set(known, right, np.array([2.5, 0], np.float32))
    assert found.auroc == pytest.approx(6 / 8)
    assert found.fpr95 == pytest.approx(1 / 2)  # all four known must pass, and then 2.5 passes too
    assert found.oscr == pytest.approx(
        (2 / 4 + 3 / 4) / 2
    )  # two are right above the first unknown, three above the second


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_if_every_prediction_is_right_oscr_equals_auroc(seed: int) -> None:
    rng = np.random.default_rng(seed)
    known, unknown = rng.normal(1, 1, 40).astype(np.float32), rng.normal(0, 1, 30).astype(np.float32)
    found = open_set(known, np.ones(40, bool), unknown)
    expected = roc_auc_score([1] * 40 + [0] * 30, [*known, *unknown])
    assert (found.auroc, found.oscr) == (pytest.approx(expected), pytest.approx(expected))
