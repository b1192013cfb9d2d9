"""Metrics compared with torchmetrics, scikit-learn and numbers worked out by hand."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
import torch
import torchmetrics.functional.classification as tm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, stats
from sklearn import metrics as sk

from twincar.metrics.classification import (
    Interval,
    Predictions,
    accuracy_interval,
    bin_of,
    chance_level,
    classes_to_show,
    classification_metrics,
    confusion_matrix,
    expected_calibration_error,
    mean_interval,
    most_confused,
    per_class_report,
    top_k_accuracy,
)
from twincar.metrics.intervals import class_average_intervals


def sample(seed: int, photos: int = 300, classes: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities of a classifier that is right about half the time; every class occurs."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, photos - classes)])
    logits = rng.normal(size=(photos, classes))
    logits[np.arange(photos), labels] += 1.5
    exponents = np.exp(logits)
    return labels, (exponents / exponents.sum(1, keepdims=True)).astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_agrees_with_torchmetrics(seed: int) -> None:
    labels, probabilities = sample(seed)
    ours = classification_metrics(Predictions.from_probabilities(labels, probabilities))
    target, output = torch.from_numpy(labels), torch.from_numpy(probabilities)
    k = probabilities.shape[1]
    theirs = {
        "acc": tm.multiclass_accuracy(output, target, k, average="micro"),
        "precision_macro": tm.multiclass_precision(output, target, k, average="macro"),
        "precision_weighted": tm.multiclass_precision(output, target, k, average="weighted"),
        "recall_macro": tm.multiclass_recall(output, target, k, average="macro"),
        "recall_weighted": tm.multiclass_recall(output, target, k, average="weighted"),
        "f1_macro": tm.multiclass_f1_score(output, target, k, average="macro"),
        "f1_weighted": tm.multiclass_f1_score(output, target, k, average="weighted"),
        "cohen_kappa": tm.multiclass_cohen_kappa(output, target, k),
        "mcc": tm.multiclass_matthews_corrcoef(output, target, k),
        "jaccard_macro": tm.multiclass_jaccard_index(output, target, k, average="macro"),
        "top3": tm.multiclass_accuracy(output, target, k, top_k=3, average="micro"),
        "top5": tm.multiclass_accuracy(output, target, k, top_k=5, average="micro"),
    }
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(float(value), abs=1e-5), name
    assert ours["hamming"] == pytest.approx(1 - ours["acc"])
    loss = torch.nn.functional.nll_loss(output.log(), target)
    assert ours["loss"] == pytest.approx(float(loss), abs=1e-5)
    np.testing.assert_array_equal(
        confusion_matrix(labels, probabilities.argmax(1), k).toarray(),
        tm.multiclass_confusion_matrix(output, target, k).numpy(),
    )


def test_a_single_class_has_finite_metrics() -> None:
    metrics = classification_metrics(
        Predictions.from_probabilities(np.zeros(4, np.int64), np.tile(np.float32([0.9, 0.1]), (4, 1)))
    )
    assert metrics["acc"] == metrics["f1_macro"] == 1
    assert all(math.isfinite(value) for value in metrics.values())


def test_ties_count_against_the_model() -> None:
    uniform = np.full((10, 4), 0.25, np.float32)
    predictions = Predictions.from_probabilities(np.zeros(10, np.int64), uniform)
    assert top_k_accuracy(predictions, 3) == 0
    assert top_k_accuracy(predictions, 4) == 1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 9))
def test_the_most_likely_classes_equal_those_of_a_sort(seed: int, classes: int) -> None:
    """With coarse numbers there are many ties; among ties the first class comes first."""
    rng = np.random.default_rng(seed)
    probabilities = (rng.integers(1, 5, (40, classes)) / 10).astype(np.float32)
    labels = rng.integers(0, classes, 40)
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :5]
    parts = [
        Predictions.from_probabilities(labels[part], probabilities[part])
        for part in (slice(0, 17), slice(17, 18), slice(18, 40))
    ]
    for predictions in (Predictions.from_probabilities(labels, probabilities), Predictions.join(parts)):
        np.testing.assert_array_equal(predictions.labels, labels)
        np.testing.assert_array_equal(predictions.best, order)
        np.testing.assert_array_equal(predictions.probabilities, np.take_along_axis(probabilities, order, axis=1))
        np.testing.assert_array_equal(predictions.of_truth, probabilities[np.arange(40), labels])
        at_least = [(row >= row[label]).sum() - 1 for row, label in zip(probabilities, labels, strict=True)]
        np.testing.assert_array_equal(predictions.ahead, at_least)
        np.testing.assert_array_equal(predictions.predicted, probabilities.argmax(axis=1))
        assert predictions.loss == pytest.approx(-np.log(probabilities[np.arange(len(labels)), labels]).mean())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 30))
def test_kappa_and_mcc_equal_those_of_scikit_learn(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    labels, probabilities = rng.integers(0, classes, 50), rng.random((50, classes), np.float32)
    ours, predictions = (
        classification_metrics(Predictions.from_probabilities(labels, probabilities)),
        probabilities.argmax(axis=1),
    )
    assert ours["cohen_kappa"] == pytest.approx(sk.cohen_kappa_score(labels, predictions))
    assert ours["mcc"] == pytest.approx(sk.matthews_corrcoef(labels, predictions))


def test_memory_does_not_grow_with_the_square_of_classes() -> None:
    """One K×K array of int64 would have 800 MB."""
    rng = np.random.default_rng(0)
    classes, photos = 10_000, 500
    labels = rng.integers(0, classes, photos)
    probabilities = rng.random((photos, classes), np.float32)  # 20 MB
    names = tuple(str(index) for index in range(classes))
    tracemalloc.start()
    try:
        predictions = Predictions.from_probabilities(labels, probabilities)
        metrics = classification_metrics(predictions)
        class_average_intervals(labels, predictions.predicted)
        matrix = confusion_matrix(labels, predictions.predicted, classes)
        report = per_class_report(matrix, names)
        pairs = most_confused(matrix, 20)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100e6
    assert len(report) == classes
    assert len(pairs) == 20
    assert matrix.sum() == photos
    assert metrics["acc"] == (labels == predictions.predicted).mean()


def test_wilson_by_hand() -> None:
    """50 of 100: centre 0.5, half width 1.96 sqrt(0.25/100 + 1.96²/40000) / (1 + 1.96²/100) = 0.0962."""
    predictions = np.repeat([0, 1], 50)
    interval = accuracy_interval(np.zeros(100, np.int64), predictions)
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.5, 0.4038, 0.5962), abs=1e-4)
    perfect = accuracy_interval(np.zeros(815, np.int64), np.zeros(815, np.int64))
    assert (perfect.value, perfect.high) == (1, 1)
    assert perfect.low == pytest.approx(0.9953, abs=1e-4)


def test_the_interval_of_815_photos_is_about_two_points_wide_on_each_side() -> None:
    labels = np.zeros(815, np.int64)
    interval = accuracy_interval(labels, (np.arange(815) >= 0.876 * 815).astype(np.int64))
    assert (interval.high - interval.low) / 2 == pytest.approx(0.0226, abs=5e-4)


def test_most_confused_by_hand() -> None:
    matrix = sparse.csr_array([[5, 3, 0], [1, 5, 0], [0, 2, 5]])
    assert most_confused(matrix, 5) == [(0, 1, 4), (2, 1, 2)]
    assert most_confused(matrix, 1) == [(0, 1, 4)]
    assert most_confused(sparse.eye_array(3, dtype=np.int64, format="csr"), 5) == []


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 12))
def test_sparse_counts_equal_those_of_the_dense_matrix(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    labels, predictions = rng.integers(0, classes, (2, 60))
    matrix = confusion_matrix(labels, predictions, classes)
    dense = sk.confusion_matrix(labels, predictions, labels=np.arange(classes))
    np.testing.assert_array_equal(matrix.toarray(), dense)
    both = np.triu(dense + dense.T, k=1)
    order = [divmod(cell, classes) for cell in np.argsort(-both, axis=None, kind="stable").tolist()]
    expected = [(*sorted(pair, key=lambda one: -dense[one, sum(pair) - one]), both[pair]) for pair in order]
    assert most_confused(matrix, 7) == [pair for pair in expected if pair[2]][:7]
    wrong = dense - np.diag(dense.diagonal())
    partners = ["" if not row.any() else f"class {row.argmax()}" for row in wrong]
    rows = per_class_report(matrix, tuple(f"class {index}" for index in range(classes)))
    assert [row["most_confused_with"] for row in rows] == partners
    assert [row["support"] for row in rows] == dense.sum(axis=1).tolist()


def test_per_class_report_by_hand() -> None:
    rows = per_class_report(sparse.csr_array([[8, 2, 0], [0, 10, 0], [0, 0, 0]]), ("A", "B", "C"))
    assert rows[0] == {
        "class_name": "A", "precision": 1.0, "recall": 0.8, "f1": pytest.approx(8 / 9), "accuracy": 0.8, "support": 10,
        "most_confused_with": "B",
    }  # fmt: skip
    assert rows[1]["precision"] == pytest.approx(10 / 12)
    assert rows[1]["most_confused_with"] == ""
    assert rows[2]["support"] == rows[2]["f1"] == 0


def test_the_interval_of_a_mean_agrees_with_scipy() -> None:
    values = np.random.default_rng(0).gamma(2, size=200)
    ours = mean_interval(values)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(1)).confidence_interval
    assert ours.value == values.mean()
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)
    assert mean_interval(np.full(5, 0.3)).low == pytest.approx(0.3)


def test_the_edges_of_the_bins() -> None:
    """Fifteen bins; an edge belongs to the bin below it."""
    edges = np.linspace(0, 1, 16)
    assert bin_of(edges).tolist() == [0, *range(15)]
    assert bin_of(edges[:-1] + 1e-9).tolist() == list(range(15))
    assert bin_of(np.array([-0.1, 1.1])).tolist() == [0, 14]


def test_calibration_error_by_hand() -> None:
    """0.9, right, and 0.91, wrong, share a bin: a gap of 0.81 of two; 0.3, wrong, is 0.3 off: 1.11 / 3."""
    error = expected_calibration_error(np.array([0.9, 0.91, 0.3]), np.array([True, False, False]))
    assert error == pytest.approx(1.11 / 3)
    metrics = classification_metrics(
        Predictions.from_probabilities(np.array([0, 1]), np.array([[0.8, 0.2], [0.6, 0.4]]))
    )
    assert metrics["ece"] == pytest.approx((0.2 + 0.6) / 2)
    assert metrics["brier"] == pytest.approx((0.04 + 0.04 + 0.36 + 0.36) / 2)


def test_classes_without_photos_are_not_averaged() -> None:
    """Of classes 0 to 3 only 0 and 2 have photos; 2 is never predicted, so its precision is 0."""
    labels = np.array([0, 0, 2, 2])
    probabilities = np.tile(np.array([0.7, 0.1, 0.1, 0.1]), (4, 1))
    metrics = classification_metrics(Predictions.from_probabilities(labels, probabilities))
    assert (metrics["precision_macro"], metrics["recall_macro"], metrics["jaccard_macro"]) == (0.25, 0.5, 0.25)
    assert metrics["f1_macro"] == pytest.approx((2 * 2 / 6 + 0) / 2)
    assert (metrics["cohen_kappa"], metrics["mcc"]) == (0, 0)


def test_a_class_without_photos_is_not_averaged_if_it_is_predicted() -> None:
    """Class 0: precision 3/3, recall 3/4; class 1: all correct; class 2 is predicted once but has no photos."""
    labels, predictions = np.array([0, 0, 0, 0, 1]), np.array([0, 0, 0, 2, 1])
    f1 = (2 * 3 / 7 + 1) / 2
    metrics = classification_metrics(Predictions.from_probabilities(labels, np.eye(3, dtype=np.float32)[predictions]))
    assert (metrics["f1_macro"], metrics["recall_macro"], metrics["precision_macro"]) == pytest.approx((f1, 0.875, 1))
    assert metrics["jaccard_macro"] == pytest.approx((3 / 4 + 1) / 2)
    assert class_average_intervals(labels, predictions)["f1_macro"].low < 0.6


def test_kappa_and_mcc_of_one_class_are_0() -> None:
    metrics = classification_metrics(
        Predictions.from_probabilities(np.zeros(3, np.int64), np.tile(np.array([0.6, 0.4]), (3, 1)))
    )
    assert (metrics["cohen_kappa"], metrics["mcc"]) == (0, 0)


def test_a_class_without_photos_or_predictions_has_zeros() -> None:
    first, second = per_class_report(sparse.csr_array([[0, 2], [0, 0]]), ("A", "B"))
    assert (first["precision"], first["recall"], first["f1"]) == (0, 0, 0)
    assert (second["precision"], second["recall"], second["f1"]) == (0, 0, 0)


def test_intervals_are_the_same_each_time() -> None:
    values = sample(0, photos=60)[1][:, 0].astype(np.float64)
    assert mean_interval(values) == mean_interval(values, seed=0) != mean_interval(values, seed=1)
    assert mean_interval(np.array([0.0, 1.0])).low == 0  # the same value may be drawn twice


def test_classes_to_show_are_those_that_occur_or_the_most_confused() -> None:
    few = np.zeros((5, 5), np.int64)
    few[1, 3] = few[4, 4] = 1
    assert classes_to_show(sparse.csr_array(few)) == ([1, 3, 4], 3)
    at_most = sparse.eye_array(200, dtype=np.int64, format="csr")
    assert classes_to_show(at_most) == (list(range(200)), 200)
    many = np.eye(201, dtype=np.int64)
    many[150, 170] = 3
    assert classes_to_show(sparse.csr_array(many)) == ([*range(98), 150, 170], 201)


def test_the_f1_of_a_class_is_the_harmonic_mean() -> None:
    """Class 0: recall 1/2, precision 1/2; class 1: recall 1/2, precision 1/3; class 2 is never predicted."""
    matrix = confusion_matrix(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 0, 1]), 3)
    rows = per_class_report(matrix, ("a", "b", "c"))
    assert [row["precision"] for row in rows] == pytest.approx([1 / 2, 1 / 3, 0])
    assert [row["f1"] for row in rows] == pytest.approx([1 / 2, 2 / 5, 0])


@pytest.mark.parametrize("counts", [(300, 100), (50, 50, 50, 50), (10, 0, 190, 40, 0)])
def test_the_chance_level_is_the_better_of_two_strategies_that_ignore_the_photo(counts: tuple[int, ...]) -> None:
    """Both are simulated: always the most frequent class, and a class at random, many times."""
    labels, classes = np.repeat(np.arange(len(counts)), counts), len(counts)
    always = np.full(len(labels), np.argmax(counts))
    many = np.tile(labels, 500)
    at_random = np.random.default_rng(0).integers(0, classes, len(many))
    found = chance_level(labels, classes)
    played = [
        (sk.accuracy_score(*pair), sk.f1_score(*pair, average="macro"))
        for pair in ((labels, always), (many, at_random))
    ]
    assert found.accuracy == pytest.approx(max(accuracy for accuracy, _ in played), abs=5e-3)
    assert found.macro_f1 == pytest.approx(max(f1 for _, f1 in played), abs=5e-3)


def test_the_chance_level_by_hand_and_the_comparison_with_it() -> None:
    """Two classes of 3 photos and 1 photo, predicted at random: F1 of 2 × 0.75 / 2.5 and 2 × 0.25 / 1.5."""
    chance = chance_level(np.array([0, 0, 0, 1]), 2)
    assert (chance.accuracy, chance.macro_f1) == (0.75, pytest.approx((0.6 + 1 / 3) / 2))
    sentences = [chance.describe(Interval(value, low, 1)) for value, low in ((0.9, 0.8), (0.8, 0.6), (0.75, 0.5))]
    assert sentences == [
        "The model is above chance.", "The model is not significantly above chance.",
        "The model is no better than chance.",
    ]  # fmt: skip
