"""What the benchmark of taught classes counts; `tests/integration/test_benchmarks.py` runs the command."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.quality.taught_classes import Rejections, Scores, cell
from twincar.models.calibration import Calibration


def test_the_scores_of_taught_classes_by_hand() -> None:
    """Two known classes and two taught ones: 2 of 4 and 3 of 4 photos are right, each with a confidence of 0.75."""
    labels, predicted = np.array([0, 0, 1, 1, 2, 2, 3, 3]), np.array([0, 2, 1, 3, 2, 2, 3, 0])
    scores = Scores.measure(predicted, np.full(8, 0.75, np.float32), labels, 2)
    assert scores.known == 0.5
    assert scores.taught == 0.75
    assert scores.overall == 0.625
    assert scores.harmonic == pytest.approx(0.6)
    assert scores.error == pytest.approx(0.125)
    assert np.isnan(Scores.measure(predicted, None, labels, 2).error)
    assert cell([0.5, 0.7]) == "60.0% ± 14.1"
    assert cell([0.5]) == "50.0%"
    assert cell([np.nan, 0.5]) == ""


def test_the_rejections_of_taught_classes_by_hand() -> None:
    """Of three other classes the first is taught. Photos are accepted where their largest logit is above 5."""
    calibration = Calibration(
        max_logit_quantiles=(5.0, 10.0, 15.0), max_logit_zscore_quantiles=(0.0, 0.1, 0.2),
        min_quantile_quantiles=(0.0, 0.5, 1.0),
    )  # fmt: skip
    labels = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
    best = np.array([9, 9, 9, 4, 4, 9, 4, 4, 9, 4], np.float32)
    before = np.stack([best, np.zeros(10, np.float32)], axis=1)
    own = np.array([0, 0, 0, 0, 9, 9.5, 9, 0, 9.5, 0], np.float32)
    found = Rejections.measure(
        before, np.column_stack([before, own]), labels, np.array([2]), (calibration, calibration)
    )
    assert found.known_rejected == found.known_rejected_after == 0.25
    assert (found.taught_accepted, found.taught_accepted_after) == (0.5, 1.0)
    assert (found.unknown_accepted, found.unknown_accepted_after) == (0.25, 0.5)
    assert found.unknown_as_taught == 0.5
