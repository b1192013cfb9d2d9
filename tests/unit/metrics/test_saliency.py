"""Scores of maps, on networks that depend on known pixels, and compared with the grad-cam package."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pytorch_grad_cam.metrics.road import NoisyLinearImputer

from twincar.metrics.saliency import (
    Score,
    area,
    centred_map,
    deletion_curve,
    energy_within,
    impute,
    insertion_curve,
    peak_within,
    random_map,
    rank_correlation,
    road,
)

SIDE = 16
HIGH_ON_THE_LEFT = np.repeat(np.linspace(1, 0, SIDE, dtype=np.float32)[None], SIDE, axis=0)


def as_logits(probability: NDArray[np.float64]) -> NDArray[np.float32]:
    """Logits of two classes, N×2, whose softmax is the probability and its complement."""
    return np.log(np.stack([probability, 1 - probability], axis=1)).astype(np.float32)


def brightness(photos: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A network whose probability of class 0 is the brightness of the photo."""
    return as_logits((photos.mean(axis=(1, 2, 3)) / 255).clip(0.001, 0.999))


def test_deletion_by_hand() -> None:
    """The left half is white, the right one black, the mean grey. Without the left half it is half as bright, at the
    end all grey and as bright as before; with the opposite map it is half as bright again in between."""
    photo = np.zeros((SIDE, SIDE, 3), np.uint8)
    photo[:, : SIDE // 2] = 255
    curve = deletion_curve(brightness, photo, HIGH_ON_THE_LEFT, 0)
    assert len(curve) == 21
    np.testing.assert_allclose(curve[[0, 10, 20]], [0.5, 0.25, 0.5], atol=0.005)
    assert area(curve) == pytest.approx(0.375, abs=0.005)
    assert area(deletion_curve(brightness, photo, -HIGH_ON_THE_LEFT, 0)) == pytest.approx(0.625, abs=0.005)


def test_insertion_by_hand() -> None:
    """The network depends on a corner of 16 pixels, which two steps of 12 or 13 pixels restore."""
    photo = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)

    def sees_the_corner(photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        visible = (photos[:, :4, :4] == photo[:4, :4]).all(axis=(1, 2, 3))
        return as_logits(np.where(visible, 0.9, 0.1))

    heatmap = np.zeros((SIDE, SIDE), np.float32)
    heatmap[:4, :4] = 1
    curve = insertion_curve(sees_the_corner, photo, heatmap, 0)
    np.testing.assert_allclose(curve, [0.1] * 2 + [0.9] * 19, atol=1e-6)
    assert area(curve) == pytest.approx((0.05 + 0.1 + 18 * 0.9 + 0.45) / 20)
    np.testing.assert_allclose(insertion_curve(sees_the_corner, photo, -heatmap, 0)[:20], 0.1, atol=1e-6)


def test_imputation_by_hand() -> None:
    """The four adjacent neighbours have weights of 1/6, the four diagonal ones of 1/12; a corner pixel has three."""
    photo = np.zeros((4, 4, 3), np.uint8)
    photo[0, 1] = photo[1, 0] = photo[1, 2] = photo[2, 1] = 60
    hidden = np.zeros((4, 4), bool)
    hidden[1, 1] = True
    np.testing.assert_allclose(impute(photo, hidden)[1, 1], 40)
    hidden[:] = False
    hidden[0, 0] = True
    np.testing.assert_allclose(impute(photo, hidden)[0, 0], 60 * (1 / 6 + 1 / 6) / (1 / 6 + 1 / 6 + 1 / 12))


@pytest.mark.parametrize("share", [0.2, 0.8])
def test_imputation_equals_that_of_the_grad_cam_package(share: float) -> None:
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (24, 31, 3), np.uint8)
    hidden = rng.random((24, 31)) < share
    theirs = NoisyLinearImputer(noise=0)(
        torch.from_numpy(photo).permute(2, 0, 1).float(), torch.from_numpy(~hidden).float()
    )
    ours = impute(photo, hidden)
    np.testing.assert_allclose(ours, theirs.permute(1, 2, 0).numpy(), atol=0.01)
    np.testing.assert_array_equal(ours[~hidden], photo[~hidden])


def test_road_distinguishes_a_faithful_map_from_its_opposite() -> None:
    """The network depends on stripes on the left only, which imputation smooths away."""
    photo = np.full((SIDE, SIDE, 3), 128, np.uint8)
    photo[::2, :6], photo[1::2, :6] = 228, 28

    def stripes(photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        left = photos[:, :, :6].astype(np.float64)
        return as_logits((abs(np.diff(left, axis=1)).mean(axis=(1, 2, 3)) / 201).clip(0.001, 0.999))

    most, least = road(stripes, photo, HIGH_ON_THE_LEFT, 0, np.random.default_rng(0))
    assert most < 0.3
    assert least > 0.7
    opposite = road(stripes, photo, -HIGH_ON_THE_LEFT, 0, np.random.default_rng(0))
    np.testing.assert_allclose(opposite, (least, most), atol=0.02)


def test_energy_and_peak_by_hand() -> None:
    heatmap = np.array([[3, -9], [0, 1]], np.float32)
    mask = np.array([[True, True], [False, False]])
    assert energy_within(heatmap, mask) == 0.75
    assert energy_within(-abs(heatmap), ~mask) == 0.5  # no positive values: the area of the mask
    assert peak_within(heatmap, mask) == 1
    assert peak_within(heatmap, ~mask) == 0


def test_rank_correlation() -> None:
    cells = np.array([[1, 5], [2, 9]], np.float32)
    assert rank_correlation(cells, cells**3) == pytest.approx(1)
    assert rank_correlation(cells, -cells) == pytest.approx(-1)
    assert rank_correlation(cells, np.ones((2, 2), np.float32)) == 0


def test_baselines() -> None:
    middle = centred_map(65, 97)
    assert np.unravel_index(middle.argmax(), middle.shape) == (32, 48)
    assert middle[32, 0] == pytest.approx(np.exp(-2))  # two standard deviations away
    rng = np.random.default_rng(0)
    mask = np.zeros((64, 96), bool)
    mask[:16] = True
    maps = [random_map(64, 96, rng) for _ in range(400)]
    assert np.mean([energy_within(heatmap, mask) for heatmap in maps]) == pytest.approx(0.25, abs=0.02)
    assert np.mean([peak_within(heatmap, mask) for heatmap in maps]) == pytest.approx(0.25, abs=0.06)


def test_a_score_is_the_mean_over_photos_with_its_interval() -> None:
    score = Score.over_photos("deletion", "Grad-CAM++", [0.2, 0.4, 0.6], "lower")
    assert score.to_dict().keys() == {"score", "map", "value", "low", "high", "better"}
    assert score.value == pytest.approx(0.4)
    assert 0.2 <= score.low < 0.4 < score.high <= 0.6
