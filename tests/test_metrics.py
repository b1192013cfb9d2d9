"""Metrics against torchmetrics, and hand-worked numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchmetrics.functional.classification as tm
from hypothesis import given, settings
from hypothesis import strategies as st

from twincar.metrics import (
    accuracy_interval,
    classification_metrics,
    confusion_matrix,
    macro_f1_interval,
    most_confused,
    negative_log_likelihood,
    per_class_report,
    top_k_accuracy,
)


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
    ours = classification_metrics(labels, probabilities)
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
    assert negative_log_likelihood(labels, probabilities) == pytest.approx(float(loss), abs=1e-5)
    np.testing.assert_array_equal(
        confusion_matrix(labels, probabilities.argmax(1), k), tm.multiclass_confusion_matrix(output, target, k).numpy()
    )
    assert macro_f1_interval(labels, probabilities.argmax(1)).value == pytest.approx(ours["f1_macro"])


def test_one_class_only_is_no_trouble() -> None:
    metrics = classification_metrics(np.zeros(4, np.int64), np.tile(np.float32([0.9, 0.1]), (4, 1)))
    assert metrics["acc"] == metrics["f1_macro"] == 1
    assert all(math.isfinite(value) for value in metrics.values())


def test_ties_count_against_the_model() -> None:
    uniform = np.full((10, 4), 0.25, np.float32)
    assert top_k_accuracy(np.zeros(10, np.int64), uniform, 3) == 0
    assert top_k_accuracy(np.zeros(10, np.int64), uniform, 4) == 1


def test_wilson_by_hand() -> None:
    """50 of 100: centre 0.5, half width 1.96 sqrt(0.25/100 + 1.96²/40000) / (1 + 1.96²/100) = 0.0962."""
    predictions = np.repeat([0, 1], 50)
    interval = accuracy_interval(np.zeros(100, np.int64), predictions)
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.5, 0.4038, 0.5962), abs=1e-4)
    perfect = accuracy_interval(np.zeros(815, np.int64), np.zeros(815, np.int64))
    assert (perfect.value, perfect.high) == (1, 1)
    assert perfect.low == pytest.approx(0.9953, abs=1e-4)


def test_815_photos_leave_about_two_points_open() -> None:
    labels = np.zeros(815, np.int64)
    interval = accuracy_interval(labels, (np.arange(815) >= 0.876 * 815).astype(np.int64))
    assert (interval.high - interval.low) / 2 == pytest.approx(0.0226, abs=5e-4)


def test_bootstrap_covers_the_truth_as_often_as_it_says() -> None:
    """A classifier right with probability 0.7 on two equal classes has macro-F1 0.7."""
    covered = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 2, 200)
        predictions = np.where(rng.random(200) < 0.7, labels, 1 - labels)
        interval = macro_f1_interval(labels, predictions)
        covered += interval.low <= 0.7 <= interval.high
    assert 52 <= covered <= 60


def test_most_confused_by_hand() -> None:
    matrix = np.array([[5, 3, 0], [1, 5, 0], [0, 2, 5]])
    assert most_confused(matrix, 5) == [(0, 1, 4), (2, 1, 2)]
    assert most_confused(np.eye(3, dtype=np.int64), 5) == []


def test_per_class_report_by_hand() -> None:
    rows = per_class_report(np.array([[8, 2, 0], [0, 10, 0], [0, 0, 0]]), ("A", "B", "C"))
    assert rows[0] == {
        "class_name": "A", "precision": 1.0, "recall": 0.8, "f1": pytest.approx(8 / 9), "accuracy": 0.8, "support": 10,
        "most_confused_with": "B",
    }  # fmt: skip
    assert rows[1]["precision"] == pytest.approx(10 / 12)
    assert rows[1]["most_confused_with"] == ""
    assert rows[2]["support"] == rows[2]["f1"] == 0
