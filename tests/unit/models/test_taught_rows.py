from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge

from twincar.models.calibration import Calibration
from twincar.models.class_statistics import ClassStatistics
from twincar.models.taught_rows import (
    NewClass,
    Whitening,
    add_classes,
    pooled_directions,
)
from twincar.models.taught_scales import fit_scales_and_biases, log_sum_exp

CLASSES, FEATURES = 8, 12
MEANS = np.random.default_rng(0).normal(0, 1, (CLASSES + 2, FEATURES))


def photos(label: int, count: int, seed: int) -> Any:
    return (MEANS[label] + np.random.default_rng(seed).normal(0, 0.4, (count, FEATURES))).astype(np.float32)


@pytest.fixture
def known() -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    features = np.concatenate([photos(label, 60, label) for label in range(CLASSES)])
    return features, np.repeat(np.arange(CLASSES), 60)


@pytest.fixture
def statistics(known: Any) -> ClassStatistics:
    return ClassStatistics.estimate(*known, CLASSES)


@pytest.fixture
def head(known: Any) -> tuple[Any, Any]:
    """Linear discriminant analysis of scikit-learn in place of a network's last layer."""
    fitted = LinearDiscriminantAnalysis(solver="lsqr").fit(*known)
    return fitted.coef_.astype(np.float32), fitted.intercept_.astype(np.float32)


@pytest.mark.parametrize("between", [0.0, 1.0])
def test_whitening_multiplies_by_the_inverse_of_the_whole_matrix(statistics: ClassStatistics, between: float) -> None:
    differences = statistics.means - statistics.center
    total = (
        statistics.factor.T @ statistics.factor
        + np.diag(statistics.diagonal)
        + statistics.within * np.eye(FEATURES)
        + between * differences.T @ differences / CLASSES
    )
    features = photos(0, 3, 50)
    expected = features @ np.linalg.inv(total)
    assert Whitening(statistics, between)(features) == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_with_the_means_the_direction_is_that_of_ridge_regression(known: Any, statistics: ClassStatistics) -> None:
    """Of the indicator of the new class, where it is rare: the photos of the known classes weigh infinitely more."""
    features, _ = known
    new = photos(CLASSES, 3, 70)
    centered = np.concatenate([features, new]) - statistics.center
    target = np.repeat([0.0, 1.0], [len(features), len(new)])
    weights = np.repeat([1.0, 1e-6], [len(features), len(new)])
    penalty = statistics.within * len(features)
    ridge = Ridge(alpha=penalty, fit_intercept=False).fit(centered, target, sample_weight=weights).coef_
    ours = Whitening(statistics, 1.0)((new.mean(axis=0) - statistics.center)[None])[0]
    assert np.corrcoef(ridge, ours)[0, 1] > 0.999


def test_the_covariance_has_the_photos_of_the_other_new_classes(statistics: ClassStatistics) -> None:
    """That of the known classes counts for a thousand photos, each of n new ones of a class for 1 - 1/n."""
    new = [NewClass(photos(CLASSES, 4, 70)), NewClass(5 * photos(CLASSES + 1, 40, 71))]
    own = [taught.features - taught.features.mean(axis=0) for taught in new]
    total = 1000 + 3 + 39
    known = statistics.factor.T @ statistics.factor + np.diag(statistics.diagonal)
    pooled = (1000 * known + own[0].T @ own[0] + own[1].T @ own[1]) / total
    ridge = np.trace(pooled) / FEATURES * np.eye(FEATURES)
    features = photos(0, 3, 50)
    for number, found in enumerate(pooled_directions(new, statistics)):
        expected = features @ np.linalg.inv(pooled - own[number].T @ own[number] / total + ridge)
        assert found(features) == pytest.approx(expected, rel=1e-3, abs=1e-4), number


def test_scales_and_biases_are_those_of_scipy() -> None:
    """Two new classes of eight samples each, and 300 samples of known ones, which weigh as much as twenty classes.

    Half the squared differences of the scales from their mean are added, in units of the scores' deviation.
    """
    random = np.random.default_rng(3)
    labels = np.repeat([-1, 0, 1], [300, 8, 8])
    scores = random.normal(-1, 1, (316, 2)) + 2.5 * (labels[:, None] == [0, 1])
    rivals, weights = random.normal(2, 0.5, 316) - 2 * (labels >= 0), np.repeat([20 / 300, 1 / 8, 1 / 8], [300, 8, 8])

    def loss(at: Any) -> float:
        logits = np.concatenate([rivals[:, None], at[:2] * scores + at[2:]], axis=1)
        apart = scores.std(axis=0).mean() * (at[:2] - at[:2].mean())
        return float((apart**2).sum() / 2 - (weights * log_softmax(logits, axis=1)[np.arange(316), labels + 1]).sum())

    best = minimize(
        loss, [1.0, 1.0, 0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-11, "maxiter": 5000}
    ).x
    found = fit_scales_and_biases(scores, rivals, labels, weights)
    assert np.concatenate(found) == pytest.approx(best, abs=2e-3)


def test_separable_scores_and_inverted_ones_have_a_finite_scale() -> None:
    scores = np.array([-2, -1.5, -1.8, -2.2, 2, 1.5, 1.8, 2.2])[:, None]
    rivals, labels, weights = np.zeros(8), np.repeat([-1, 0], 4), np.full(8, 0.25)
    (slope,), (offset,) = fit_scales_and_biases(scores, rivals, labels, weights)
    assert 1 < slope < 1e3
    assert abs(offset) < slope
    assert fit_scales_and_biases(-scores, rivals, labels, weights)[0] == 0


def test_new_classes_are_named_and_the_known_ones_stay(statistics: ClassStatistics, head: Any) -> None:
    new = [NewClass(photos(CLASSES + number, 5, 80 + number)) for number in range(2)]
    taught = add_classes(new, *head, statistics, Calibration())
    for label in range(CLASSES + 2):
        found = (photos(label, 200, 100 + label) @ taught.weight.T + taught.bias).argmax(axis=1)
        assert (found == label).mean() > 0.9, label
    assert all(row.named == 1 for row in taught.rows)
    assert taught.statistics.counts[-2:].tolist() == [5, 5]


def test_the_temperature_scales_the_row(statistics: ClassStatistics, head: Any) -> None:
    """Logits and temperature twice as large are the same model."""
    new = [NewClass(photos(CLASSES, 5, 80))]
    (row,) = add_classes(new, *head, statistics, Calibration()).rows
    (twice,) = add_classes(new, 2 * head[0], 2 * head[1], statistics, Calibration(temperature=2.0)).rows
    assert twice.weight == pytest.approx(2 * row.weight, rel=1e-3, abs=1e-5)
    assert twice.bias == pytest.approx(2 * row.bias, rel=1e-3)


def test_photos_taught_in_two_parts_have_the_mean_of_all() -> None:
    all_of_them = photos(CLASSES, 7, 80)
    added = NewClass(all_of_them[4:], all_of_them[:4].mean(axis=0), 4)
    assert added.count == 7
    assert added.mean == pytest.approx(all_of_them.mean(axis=0), abs=1e-6)
    without_last = np.delete(all_of_them, 6, axis=0).mean(axis=0)
    assert added.means_of_others[2] == pytest.approx(without_last, abs=1e-6)


def test_one_photo_is_enough_for_a_row(statistics: ClassStatistics, head: Any) -> None:
    (row,) = add_classes([NewClass(photos(CLASSES, 1, 80))], *head, statistics, Calibration()).rows
    assert row.named is None
    found = photos(CLASSES, 200, 100)
    assert ((found @ row.weight + row.bias) > (found @ head[0].T + head[1]).max(axis=1)).mean() > 0.5


def test_log_sum_exp_does_not_overflow() -> None:
    logits = np.array([[1000.0, 1000.0]], np.float32)
    assert log_sum_exp(logits) == pytest.approx([1000 + np.log(2)])
    assert log_sum_exp(np.full((1, 2), -np.inf)).tolist() == [-np.inf]
