from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from twincar.core.errors import CheckpointError
from twincar.core.labels import ClassNames
from twincar.core.preprocess import Preprocessing
from twincar.models.calibration import Calibration, energy, max_logit, max_logit_zscore, share_below, softmax
from twincar.models.calibration_fit import fit_calibration, fit_temperature
from twincar.models.spec import ModelSpec


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 5)).astype(np.float32) * 2
    chosen = (softmax(logits).cumsum(axis=1) < rng.random((len(logits), 1))).sum(axis=1)  # drawn from the softmax
    return logits, chosen.clip(max=4)


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_the_temperature_undoes_a_scale(drawn: tuple[np.ndarray, np.ndarray], scale: float) -> None:
    logits, labels = drawn
    assert fit_temperature(logits * np.float32(scale), labels) == pytest.approx(scale, rel=0.03)


def test_no_other_temperature_is_likelier(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = drawn[0][:500], drawn[1][:500]
    best = fit_temperature(logits, labels)
    loss = [-log_softmax(logits / t, axis=1)[np.arange(500), labels].mean() for t in (best * 0.98, best, best * 1.02)]
    assert loss[1] == min(loss)


def test_a_network_without_a_mistake_keeps_a_temperature() -> None:
    assert 0.1 <= fit_temperature(np.eye(4, dtype=np.float32) * 5, np.arange(4)) < 0.2


def test_the_softmax_and_the_scores_are_torchs(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    logits = drawn[0][:50]
    tensor = torch.from_numpy(logits)
    np.testing.assert_allclose(softmax(logits), tensor.softmax(1).numpy(), atol=1e-6)
    np.testing.assert_allclose(energy(logits), tensor.logsumexp(1).numpy(), rtol=1e-6)
    np.testing.assert_array_equal(max_logit(logits), tensor.amax(1).numpy())
    spread = tensor.std(1, correction=0)
    np.testing.assert_allclose(
        max_logit_zscore(logits), ((tensor.amax(1) - tensor.mean(1)) / spread).numpy(), rtol=1e-4
    )
    halved = Calibration(temperature=2.0).probabilities(logits)
    np.testing.assert_allclose(halved, (tensor / 2).softmax(1).numpy(), atol=1e-6)


def test_the_share_that_was_asked_for_is_turned_away(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = drawn
    calibration = fit_calibration(logits, labels)
    scores = calibration.in_distribution_score(logits)
    for share in (0.01, 0.05, 0.125, 0.5):
        assert (scores < share).mean() == pytest.approx(share, abs=5e-3)
    assert calibration.photos == len(labels)
    assert (Calibration().in_distribution_score(logits) == 1).all()


def test_either_score_alone_turns_a_photo_away(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    calibration = fit_calibration(*drawn)
    middling = np.sort(drawn[0][:1000], axis=1).mean(axis=0, keepdims=True)
    middling *= np.median(max_logit(drawn[0])) / middling.max()
    weak, blown_up = middling * 0.01, np.array([[30, 30, 30, -30, -30]], np.float32)  # large, but none stands out
    assert calibration.in_distribution_score(middling.astype(np.float32))[0] > 0.2
    assert calibration.in_distribution_score(weak.astype(np.float32))[0] < 0.1
    assert max_logit(blown_up)[0] > max_logit(drawn[0]).max()
    assert calibration.in_distribution_score(blown_up)[0] < 0.1


def test_shares_by_hand_go_on_beyond_the_quantiles() -> None:
    found = share_below(np.array([-2, 0, 1, 3, 4, 6], np.float32), (0.0, 2.0, 4.0))
    np.testing.assert_allclose(found, [-0.5, 0, 0.25, 0.75, 1, 1.5], atol=1e-3)


def test_of_two_classes_only_the_largest_logit_counts() -> None:
    """Two logits always stand out by one standard deviation."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(500, 2)).astype(np.float32) * 3
    scores = fit_calibration(logits, logits.argmax(axis=1)).in_distribution_score(logits)
    order = np.argsort(max_logit(logits))
    assert (np.diff(scores[order]) >= -1e-3).all()
    assert (scores < 0.1).mean() == pytest.approx(0.1, abs=0.01)


def test_a_calibration_travels_in_the_header() -> None:
    quantiles = {f"{name}_quantiles": (1.0, 2.5, 4.0) for name in ("max_logit", "max_logit_zscore", "min_quantile")}
    spec = ModelSpec(
        backbone="b",
        head="linear",
        classes=ClassNames(("A", "B")),
        preprocessing=Preprocessing(height=32, width=32),
        calibration=Calibration(temperature=1.25, photos=7, **quantiles),
    )
    header = spec.to_header()
    assert ModelSpec.from_header(header, "x") == spec
    assert ModelSpec.from_header(header.replace('"calibration"', '"unused"'), "x").calibration == Calibration()
    for damage in ("0.0", "-1.0", "NaN", '"hot"'):
        with pytest.raises(CheckpointError, match="damaged"):
            ModelSpec.from_header(header.replace("1.25", damage), "x")


def test_large_logits_do_not_overflow() -> None:
    logits = np.array([[1000.0, 0.0], [0.0, -1000.0], [90.0, 90.0]], np.float32)
    np.testing.assert_allclose(softmax(logits), [[1, 0], [1, 0], [0.5, 0.5]], atol=1e-6)
    np.testing.assert_allclose(energy(logits), [1000, 0, 90 + np.log(2)], rtol=1e-6)


def test_a_fit_takes_the_temperature_of_its_photos(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = drawn
    assert fit_calibration(logits * 3, labels).temperature == fit_temperature(logits * 3, labels)
    assert fit_calibration(logits * 3, labels).temperature > 2


def test_far_below_the_quantiles_the_lower_half_is_the_measure() -> None:
    """One below the lowest, where the lower half is 2 wide: a quarter below 0, for quantiles that begin at 1."""
    np.testing.assert_allclose(share_below(np.array([0.0], np.float32), (1.0, 2.0, 3.0, 4.0, 5.0)), [-0.25], atol=1e-3)
