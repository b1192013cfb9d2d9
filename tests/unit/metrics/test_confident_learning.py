from __future__ import annotations

import numpy as np
import pytest

from twincar.metrics.confident_learning import (
    class_thresholds,
    confident_classes,
    estimate_joint,
    find_label_errors,
    label_margins,
)

# Worked by hand. Three classes; the labels 0 0 0 1 1 2 2.
LABELS = np.array([0, 0, 0, 1, 1, 2, 2])
PROBABILITIES = np.array(
    [
        [0.9, 0.1, 0.0],  # right
        [0.6, 0.3, 0.1],  # right
        [0.3, 0.7, 0.0],  # truly class 1
        [0.2, 0.8, 0.0],  # right
        [0.4, 0.4, 0.2],  # below all thresholds
        [0.0, 0.1, 0.9],  # right
        [0.65, 0.05, 0.3],  # truly class 0
    ]
)
# t0 = (0.9 + 0.6 + 0.3) / 3 = 0.6, t1 = (0.8 + 0.4) / 2 = 0.6, t2 = (0.9 + 0.3) / 2 = 0.6
COUNTED = np.array([0, 0, 1, 1, -1, 2, 0])


def test_the_example_worked_by_hand() -> None:
    np.testing.assert_allclose(class_thresholds(LABELS, PROBABILITIES), [0.6, 0.6, 0.6])
    np.testing.assert_array_equal(confident_classes(LABELS, PROBABILITIES), COUNTED)
    # Counts [[2, 1, 0], [0, 1, 0], [1, 0, 1]]; rows scaled to 3, 2 and 2 photos, then all to 1.
    expected = np.array([[2, 1, 0], [0, 2, 0], [1, 0, 1]]) / 7
    np.testing.assert_allclose(estimate_joint(LABELS, COUNTED, 3), expected)
    np.testing.assert_allclose(label_margins(LABELS, PROBABILITIES), [0.8, 0.3, -0.4, 0.6, 0.0, 0.8, -0.35])
    errors = find_label_errors(LABELS, PROBABILITIES)
    assert errors.photos.tolist() == [2, 6]
    assert errors.suggested.tolist() == [1, 0]
    assert errors.margins == pytest.approx([-0.4, -0.35])
    assert errors.noise == pytest.approx(2 / 7)


def test_the_most_likely_class_counts_only_above_its_threshold() -> None:
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.55, 0.45], [0.7, 0.3]])
    # t0 = 0.9, t1 = 0.375: the third is more likely class 0, but below its threshold; the last is below both.
    assert confident_classes(labels, probabilities).tolist() == [0, 0, 1, -1]


def test_of_several_classes_above_their_thresholds_the_most_likely_counts() -> None:
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.4, 0.6], [0.5, 0.5], [0.6, 0.4], [0.5, 0.5]])
    # t0 = t1 = 0.45: the second and the last pass both thresholds, with equal probabilities.
    assert confident_classes(labels, probabilities).tolist() == [1, 0, 0, 0]


def test_a_class_without_photos_is_never_suggested() -> None:
    errors = find_label_errors(np.array([0, 0, 1]), np.array([[0.1, 0.0, 0.9], [0.9, 0.1, 0.0], [0.0, 0.8, 0.2]]))
    assert 2 not in errors.suggested
    assert class_thresholds(np.array([0]), np.array([[0.5, 0.5]]))[1] == np.inf


def test_correct_labels_give_no_suspects_and_no_noise() -> None:
    labels = np.arange(5).repeat(3)
    errors = find_label_errors(labels, np.eye(5)[labels])
    assert len(errors.photos) == 0
    assert errors.noise == pytest.approx(0)


def test_planted_errors_come_first_and_the_noise_is_estimated() -> None:
    """A network that is right on 97% of the photos with equal confidence for all, and 150 wrong labels."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 6, 3000)
    confidence = np.full(len(truth), 0.9)
    predicted = np.where(rng.random(len(truth)) < 0.97, truth, rng.integers(0, 6, len(truth)))
    probabilities = np.full((len(truth), 6), ((1 - confidence) / 5)[:, None])
    probabilities[np.arange(len(truth)), predicted] = confidence
    wrong = rng.choice(len(truth), 150, replace=False)
    labels = truth.copy()
    labels[wrong] = (truth[wrong] + rng.integers(1, 6, len(wrong))) % 6
    errors = find_label_errors(labels, probabilities)
    found = np.isin(errors.photos, wrong)
    assert found.sum() / len(wrong) > 0.9
    assert found.mean() > 0.6
    assert abs(errors.noise - 0.05 - 0.025) < 0.02  # the planted errors and those of the network
    assert (errors.suggested[found] == truth[errors.photos[found]]).mean() > 0.95
