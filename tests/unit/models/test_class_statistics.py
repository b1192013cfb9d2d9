from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import EmpiricalCovariance

from twincar.models.class_statistics import ClassStatistics


def photos_of(classes: int, each: int, features: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    means = np.random.default_rng(99).normal(0, 4, (classes, features))
    return (means[labels] + random.normal(0, 1, (len(labels), features))).astype(np.float32), labels


def test_means_and_covariance_are_those_of_scikit_learn() -> None:
    """With fewer features than directions the low-rank form is exact."""
    features, labels = photos_of(4, 20)
    others, other_labels = photos_of(4, 30, seed=1)
    found = ClassStatistics.estimate(features, labels, 4, (others, other_labels))
    means = np.stack([features[labels == label].mean(axis=0) for label in range(4)])
    assert found.means == pytest.approx(means, abs=1e-5)
    assert found.counts.tolist() == [20] * 4
    expected = EmpiricalCovariance(assume_centered=True).fit(others - means[other_labels]).covariance_
    assert found.factor.T @ found.factor + np.diag(found.diagonal) == pytest.approx(expected, abs=1e-4)
    assert found.within == pytest.approx(np.trace(expected) / 6, rel=1e-4)


def test_the_diagonal_is_exact_where_the_directions_are_fewer_than_the_features() -> None:
    features, labels = photos_of(3, 40, features=80)
    others = photos_of(3, 40, features=80, seed=1)
    found = ClassStatistics.estimate(features, labels, 3, others)
    variances = ((others[0] - found.means[others[1]]) ** 2).mean(axis=0)
    assert found.factor.shape == (32, 80)
    assert (found.factor**2).sum(axis=0) + found.diagonal == pytest.approx(variances, rel=1e-3)


def test_without_held_out_photos_the_covariance_is_unbiased() -> None:
    """Two photos of a class, 0 and 2: their variance is 2 with one degree of freedom, not 1."""
    features = np.array([[0, 0], [2, 0], [5, 1], [5, 3]], np.float32)
    found = ClassStatistics.estimate(features, np.array([0, 0, 1, 1]), 2)
    total = found.factor.T @ found.factor + np.diag(found.diagonal)
    assert total == pytest.approx(np.eye(2), abs=1e-5)  # a variance of 2 in half of the photos


def test_a_class_without_photos_counts_for_nothing() -> None:
    features, labels = photos_of(2, 10)
    found = ClassStatistics.estimate(features, labels, 3)
    assert found.known.tolist() == [0, 1]
    assert found.center == pytest.approx(found.means[:2].mean(axis=0))
    assert len(found.draw(5, 1.0, 0)) == 10


def test_means_of_imagined_classes_have_the_covariance_of_the_means() -> None:
    features, labels = photos_of(3, 50)
    found = ClassStatistics.estimate(features, labels, 4)  # one class has no photos
    expected = np.cov(found.means[:3].T, bias=True)
    assert found.spread_of_means.T @ found.spread_of_means == pytest.approx(expected, rel=1e-3, abs=1e-3)
    drawn = found.means_noise(50_000, 0)
    assert drawn.T @ drawn / 50_000 == pytest.approx(expected, rel=0.05, abs=0.3)
    assert drawn.mean(axis=0) == pytest.approx(np.zeros(6), abs=0.1)


def test_drawn_features_have_the_means_and_the_covariance() -> None:
    features, labels = photos_of(3, 50)
    found = ClassStatistics.estimate(features, labels, 3)
    drawn = found.draw(20_000, 2.0, 0).reshape(20_000, 3, 6)
    assert drawn.mean(axis=0) == pytest.approx(found.means, abs=0.05)
    expected = 2 * (found.factor.T @ found.factor + np.diag(found.diagonal))
    assert np.cov(drawn[:, 1].T) == pytest.approx(expected, abs=0.1)
    assert (found.draw(2, 1.0, 7) == found.draw(2, 1.0, 7)).all()


def test_classes_are_added_replaced_and_removed() -> None:
    features, labels = photos_of(3, 10)
    found = ClassStatistics.estimate(features, labels, 3)
    larger = found.with_class(np.ones(6, np.float32), 5)
    assert larger.counts.tolist() == [10, 10, 10, 5]
    assert larger.means[3] == pytest.approx(1)
    assert found.with_class(np.ones(6, np.float32), 7, 1).counts.tolist() == [10, 7, 10]
    assert (larger.without_class(3).means == found.means).all()


def test_cohesion_is_the_mean_cosine_of_photos_of_one_class() -> None:
    random = np.random.default_rng(0)
    means = random.normal(0, 1, (200, 50))
    labels = np.repeat(np.arange(200), 10)
    features = (means[labels] + random.normal(0, 0.7, (2000, 50))).astype(np.float32)
    found = ClassStatistics.estimate(features, labels, 200, (features, labels))
    seen = features - found.center
    unit = (seen / np.linalg.norm(seen, axis=1, keepdims=True)).reshape(200, 10, 50)
    cosines = [(own @ own.T)[np.triu_indices(10, 1)].mean() for own in unit]
    assert found.cohesion == pytest.approx(np.mean(cosines), abs=0.05)


def test_what_does_not_fit_together_is_no_statistics() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        ClassStatistics(np.zeros((2, 3)), np.array([1]), np.zeros((1, 3)), np.zeros(3))
    with pytest.raises(ValueError, match="finite"):
        ClassStatistics(np.full((1, 3), np.nan), np.array([1]), np.zeros((1, 3)), np.zeros(3))
