from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from twincar.models.calibration import Calibration
from twincar.models.calibration_fit import fit_calibration
from twincar.models.class_statistics import ClassStatistics
from twincar.models.taught_rejection import adjust_rejection
from twincar.models.taught_rows import NewClass, add_classes, rejection_without

KNOWN, FEATURES = 12, 24
MEANS = np.random.default_rng(0).normal(0, 1, (KNOWN + 1, FEATURES))


def photos(labels: Any, count: int, seed: int) -> tuple[Any, Any]:
    """Features and classes of `count` photos of each class."""
    every = np.repeat(labels, count)
    noise = np.random.default_rng(seed).normal(0, 0.7, (len(every), FEATURES))
    return (MEANS[every] + noise).astype(np.float32), every


def random_logits(photos: int, classes: int, seed: int) -> Any:
    return np.random.default_rng(seed).normal(0, 2, (photos, classes)).astype(np.float32)


def sure_logits(photos: int, seed: int) -> Any:
    """One of ten classes is always far above the others."""
    return random_logits(photos, 10, seed) + 10 * np.eye(10, dtype=np.float32)[np.arange(photos) % 10]


def test_without_a_change_the_quantiles_stay() -> None:
    logits = random_logits(400, 5, 0)
    calibration = fit_calibration(logits, logits.argmax(axis=1))
    drawn = random_logits(50, 5, 1)
    same = adjust_rejection(calibration, drawn, drawn)
    for part in ("max_logit_quantiles", "max_logit_zscore_quantiles", "min_quantile_quantiles"):
        assert getattr(same, part) == pytest.approx(getattr(calibration, part), abs=1e-5)
    assert adjust_rejection(Calibration(), drawn, drawn) == Calibration()


def test_quantiles_move_with_the_drawn_features_by_hand() -> None:
    """Largest logits of 7, 8 and 9 become 8, 9 and 12: the lower half of the quantiles moves by 1, the highest by 3."""
    calibration = Calibration(
        max_logit_quantiles=(0.0, 1.0, 2.0, 3.0, 4.0), max_logit_zscore_quantiles=(1.0, 1.0, 1.0),
        min_quantile_quantiles=(0.0, 0.5, 1.0),
    )  # fmt: skip
    before = np.array([[7, 0], [8, 0], [9, 0]], np.float32)
    moved = adjust_rejection(calibration, before, np.column_stack([before, [8, 9, 12]]).astype(np.float32))
    assert moved.max_logit_quantiles == pytest.approx((1, 2, 3, 5, 7))
    middle = (9 - 17 / 3) / np.std([8, 0, 9])
    scores = sorted([(8 - 5) / np.std([7, 0, 8]), middle, (12 - 7) / np.std([9, 0, 12])])
    assert moved.max_logit_zscore_quantiles == pytest.approx(scores)


def test_as_many_photos_are_rejected_as_before() -> None:
    """A new row has very low logits for all known photos, which changes the z-scores of all: most would be rejected."""
    calibration = fit_calibration(sure_logits(2000, 0), np.arange(2000) % 10)
    drawn, test = sure_logits(100, 1), sure_logits(2000, 2)

    def with_row(logits: Any) -> Any:
        return np.column_stack([logits, np.full(len(logits), -30)]).astype(np.float32)

    def rejected(calibration: Calibration, logits: Any) -> float:
        return float((calibration.in_distribution_score(logits) < 0.05).mean())

    assert rejected(calibration, test) == pytest.approx(0.05, abs=0.02)
    assert rejected(calibration, with_row(test)) > 0.5
    adjusted = adjust_rejection(calibration, drawn, with_row(drawn))
    assert rejected(adjusted, with_row(test)) == pytest.approx(0.05, abs=0.02)


def test_after_forgetting_the_thresholds_are_almost_those_of_before() -> None:
    features, labels = photos(np.arange(KNOWN), 80, 1)
    fitted = LinearDiscriminantAnalysis(solver="lsqr").fit(features, labels)
    weight, bias = fitted.coef_.astype(np.float32), fitted.intercept_.astype(np.float32)
    statistics = ClassStatistics.estimate(features, labels, KNOWN)
    calibration = fit_calibration(features @ weight.T + bias, labels)
    new = NewClass(photos([KNOWN], 10, 10)[0])
    taught = add_classes([new], weight, bias, statistics, calibration)
    assert taught.calibration.max_logit_zscore_quantiles != pytest.approx(
        calibration.max_logit_zscore_quantiles, abs=1e-2
    )
    forgotten = rejection_without([KNOWN], taught.weight, taught.bias, taught.statistics, taught.calibration)
    for part in ("max_logit_quantiles", "max_logit_zscore_quantiles", "min_quantile_quantiles"):
        away = np.abs(np.subtract(getattr(forgotten, part), getattr(calibration, part)))
        assert np.median(away) < 1e-3, part
        assert away.max() < 0.1, part  # where a quantile would have moved below a lower one
