"""Paired tests of two models: by hand, by counting all cases, and by simulation."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from sklearn.metrics import f1_score

from twincar.metrics.paired import bootstrap_p, compare_predictions, holm, mcnemar


def test_mcnemar_counts_the_coins() -> None:
    assert mcnemar(1, 6) == pytest.approx(2 * (1 + 7) / 2**7)  # by hand: none or one head of seven, or as many tails
    assert mcnemar(0, 0) == 1
    for only_first, only_second in ((0, 5), (3, 7), (4, 4), (9, 1)):
        photos = only_first + only_second
        worse = abs(only_first - only_second)
        tosses = [abs(2 * sum(coins) - photos) >= worse for coins in product((0, 1), repeat=photos)]
        assert mcnemar(only_first, only_second) == pytest.approx(np.mean(tosses))
        assert mcnemar(only_first, only_second) == mcnemar(only_second, only_first)


def test_the_bootstrap_s_p_is_twice_the_rarer_side() -> None:
    differences = np.array([-0.1] * 2 + [0.0] * 1 + [0.2] * 96)
    assert bootstrap_p(differences) == pytest.approx(2 * (1 + 3) / 100)
    assert bootstrap_p(-differences) == bootstrap_p(differences)
    assert bootstrap_p(np.zeros(99)) == 1
    assert bootstrap_p(np.full(99, 0.3)) == pytest.approx(2 / 100)


def test_holm_adjusts_by_the_number_of_tests_that_are_left() -> None:
    assert holm([0.04]) == [0.04]
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])  # by hand: 3 x 0.01, 2 x 0.03, not below that
    assert holm([0.9, 0.8]) == [1, 1]


def test_counts_and_differences_are_those_of_the_two_predictions() -> None:
    labels = np.repeat([0, 1, 2], [6, 6, 4])
    first = np.array([0, 0, 0, 1, 1, 2, 1, 1, 1, 1, 0, 0, 2, 2, 2, 0])
    second = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 1, 1, 2, 2, 2, 2])
    found = compare_predictions(labels, first, second)
    assert (found.both, found.only_first, found.only_second, found.neither) == (9, 1, 5, 1)
    assert found.accuracy.difference.value == pytest.approx(4 / 16)
    assert found.accuracy.p == mcnemar(1, 5)
    gain = f1_score(labels, second, average="macro") - f1_score(labels, first, average="macro")
    assert found.macro_f1.difference.value == pytest.approx(gain)
    assert found.macro_f1.difference.low < gain < found.macro_f1.difference.high
    back = compare_predictions(labels, second, first)
    assert back.macro_f1.difference.value == pytest.approx(-gain)
    assert back.macro_f1.p == pytest.approx(found.macro_f1.p, abs=0.03)


def test_the_order_of_the_photos_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    labels, first, second = (rng.integers(0, 5, 60) for _ in range(3))
    order = np.argsort(labels, kind="stable")
    assert compare_predictions(labels, first, second) == compare_predictions(labels[order], first[order], second[order])


def test_equal_models_differ_rarely_and_a_better_one_is_found() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(8), 25)

    def predict(accuracy: float) -> np.ndarray:
        return np.where(rng.random(len(labels)) < accuracy, labels, rng.integers(0, 8, len(labels)))

    same = [compare_predictions(labels, predict(0.8), predict(0.8), seed) for seed in range(40)]
    for tests in ([found.accuracy for found in same], [found.macro_f1 for found in same]):
        assert sum(test.is_significant for test in tests) <= 6  # 2 are expected of 40, and more than 6 in 0.3% of cases
    better = compare_predictions(labels, predict(0.6), predict(0.9))
    assert better.accuracy.is_significant
    assert better.macro_f1.is_significant
    assert better.macro_f1.difference.low > 0
    nothing = compare_predictions(labels, labels, labels)
    assert (nothing.accuracy.p, nothing.macro_f1.p) == (1, 1)
