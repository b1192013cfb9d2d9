"""Crops of a box that is too loose or too tight, with what lies beyond the photo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from twincar.core.augmentation import AugmentConfig
from twincar.core.recipes import RECIPES
from twincar.data.loading.augment import (
    AugmentParams,
    _crop_range,
    augment_fitted,
    augment_photo,
    fit_of,
    fit_photo,
    sample_params,
)
from twincar.data.loading.surroundings import FILLS, Fill, crop_beyond

OFF = {"flip": 0, "rotation": 0, "brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, "blur": 0}


def bright_photo(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Noise between 60 and 200: neither black nor white, and no two places alike."""
    return np.random.default_rng(seed).integers(60, 201, (height, width, 3), np.uint8)


def jittered_boxes(config: AugmentConfig, size: tuple[int, int], draws: int, box: tuple | None = None) -> np.ndarray:
    """Sampled crops, draws×4, as left, top, right, bottom."""
    params = [sample_params(config, np.random.default_rng(seed), *size, box) for seed in range(draws)]
    return np.array([(p.left, p.top, p.left + p.width, p.top + p.height) for p in params])


def moved_boxes(jitter: tuple[float, float], size: tuple[int, int], draws: int, box: tuple | None) -> np.ndarray:
    """The boxes before the random crop: where no ratio fits, that is as wide (or as high) as the box."""
    wide, high = (
        AugmentConfig(box_jitter=jitter, crop_scale=(1.0, 1.0), crop_ratio=ratio, **OFF)
        for ratio in ((1000.0, 1000.0), (0.001, 0.001))
    )
    across, along = jittered_boxes(wide, size, draws, box), jittered_boxes(high, size, draws, box)
    return np.stack([across[:, 0], along[:, 1], across[:, 2], along[:, 3]], 1)


@pytest.mark.parametrize("box", [None, (300, 200, 700, 500)])
def test_each_edge_moves_on_its_own_from_tight_to_loose(box: tuple[int, int, int, int] | None) -> None:
    """From 10% inwards to 30% outwards, uniformly: a mean of 10% outwards and a deviation of 40% / sqrt(12)."""
    size = (1000, 800)
    x1, y1, x2, y2 = box or (0, 0, *size)
    boxes = moved_boxes((0.1, 0.3), size, 3000, box)
    outwards = (np.array([x1, y1, x2, y2]) - boxes) * [1, 1, -1, -1] / np.array([x2 - x1, y2 - y1] * 2)
    assert outwards.min() >= -0.1 - 0.002
    assert outwards.max() <= 0.3 + 0.002
    np.testing.assert_allclose(outwards.min(0), -0.1, atol=0.005)
    np.testing.assert_allclose(outwards.max(0), 0.3, atol=0.005)
    np.testing.assert_allclose(outwards.mean(0), 0.1, atol=0.01)
    np.testing.assert_allclose(outwards.std(0), 0.4 / 12**0.5, atol=0.005)
    correlations = np.corrcoef(outwards.T) - np.eye(4)
    assert abs(correlations).max() < 0.07


def test_crops_stay_in_the_moved_box_and_range() -> None:
    config = AugmentConfig(box_jitter=(0.1, 0.3), crop_scale=(0.5, 1.0), crop_ratio=(1.0, 2.2))
    boxes = jittered_boxes(config, (400, 250), 4000)
    assert boxes.min(0).tolist() >= [-120, -75, 0, 0]
    assert (boxes.max(0) <= [400, 250, 520, 325]).all()
    narrowest, widest, lowest, highest = _crop_range(config, (400, 250))
    widths, heights = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert narrowest - 1 <= widths.min() < 1.3 * narrowest  # all edges rarely move furthest at once
    assert 0.85 * widest < widths.max() <= widest + 1
    assert lowest - 1 <= heights.min() < 1.3 * lowest
    assert 0.85 * highest < heights.max() <= highest + 1


def test_without_jitter_the_samples_are_those_there_were_before() -> None:
    """Sampled by the augmentation before it knew boxes, for a photo of 400×280 pixels."""
    before = {0: (39, 0, 352, 274, False, -13.992, 0), 5: (48, 8, 327, 245, True, 14.226, 0)}
    for seed, numbers in before.items():
        params = sample_params(AugmentConfig(), np.random.default_rng(seed), 400, 280)
        found = params.left, params.top, params.width, params.height, params.mirrored, params.angle, params.blur_sigma
        assert found == pytest.approx(numbers, abs=1e-3)
        assert params.fill is None


def test_the_whole_photo_without_jitter_is_the_photo() -> None:
    photo = bright_photo(96, 64)
    config = AugmentConfig(crop_scale=(1.0, 1.0), crop_ratio=(1.5, 1.5), **OFF)
    params = sample_params(config, np.random.default_rng(0), 96, 64)
    np.testing.assert_array_equal(augment_photo(params, photo, full=(96, 64), height=64, width=96), photo)


@pytest.mark.parametrize("fitted", [False, True])
@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize(
    "crop", [(-60, -30, 360, 210), (0, -40, 300, 200), (20, 10, 320, 200), (-50, 0, 200, 130)], ids=str
)
def test_a_dot_lands_where_the_crop_says(crop: tuple[int, int, int, int], fill: Fill, fitted: bool) -> None:
    """A red dot on gray at (150, 90) of 300×180 pixels, in an input of 64×96."""
    photo = np.full((180, 300, 3), 128, np.uint8)
    photo[85:96, 145:156] = (255, 0, 0)
    left, top, right, bottom = crop
    params = AugmentParams(
        left=left, top=top, width=right - left, height=bottom - top, mirrored=False, angle=0.0, jitter=(),
        blur_sigma=0.0, fill=fill, fill_seed=3,
    )  # fmt: skip
    size = {"full": (300, 180), "height": 64, "width": 96}
    if fitted:
        fit = fit_of(AugmentConfig(crop_ratio=(1.4, 1.9)), (300, 180), height=64, width=96)
        assert fit
        image = augment_fitted(params, fit_photo(photo, fit), **size)
    else:
        image = augment_photo(params, photo, **size)
    redness = image[..., 0].astype(float) - image[..., 1]
    x, y = (150.5 - left) / (right - left) * 96, (90.5 - top) / (bottom - top) * 64
    around = redness[int(y) - 3 : int(y) + 4, int(x) - 3 : int(x) + 4]
    rows, columns = np.indices(around.shape)
    found = (columns * around).sum() / around.sum() + int(x) - 3, (rows * around).sum() / around.sum() + int(y) - 3
    assert found == pytest.approx((x - 0.5, y - 0.5), abs=1)


@pytest.mark.parametrize("fill", FILLS)
def test_inside_is_the_photo_and_outside_the_fill(fill: Fill) -> None:
    photo = bright_photo(40, 30)
    crop = crop_beyond(photo, (-8, -5, 50, 33), fill, 1)
    assert crop.shape == (38, 58, 3)
    np.testing.assert_array_equal(crop[5:35, 8:48], photo)
    if fill == "mirrored":
        np.testing.assert_array_equal(crop[:, 7], crop[:, 9])  # about the first column of the photo
        np.testing.assert_array_equal(crop[4], crop[6])
    if fill == "flat":
        outside = np.ones(crop.shape[:2], bool)
        outside[5:35, 8:48] = False
        assert len(np.unique(crop[outside], axis=0)) == 1
    if fill in ("noise", "blurred"):
        assert crop[:5].std() > 0
    if fill == "blurred":
        assert abs(crop[:5].mean() - photo.mean()) < 15
        assert crop[:5].std() < photo.std() / 2


@pytest.mark.parametrize("fill", FILLS)
def test_a_crop_within_the_photo_shows_nothing_else(fill: Fill) -> None:
    """A car's box in a larger photo: the loose part is the photo's own."""
    photo = bright_photo(200, 120)
    np.testing.assert_array_equal(crop_beyond(photo, (30, 20, 130, 100), fill, 0), photo[20:100, 30:130])


def test_loose_boxes_in_a_larger_photo_show_its_own_surroundings() -> None:
    """All around the box is one red, the box is blue: no sample shows anything else."""
    photo = np.full((300, 400, 3), (200, 0, 0), np.uint8)
    photo[100:200, 150:250] = (0, 0, 200)
    config = AugmentConfig(box_jitter=(0.1, 0.3), crop_ratio=(0.8, 1.25), **OFF)
    reds = []
    for seed in range(50):
        params = sample_params(config, np.random.default_rng(seed), 400, 300, (150, 100, 250, 200))
        image = augment_photo(params, photo, full=(400, 300), height=64, width=64)
        assert image[..., 1].max() == 0
        np.testing.assert_allclose(image[..., 0].astype(int) + image[..., 2], 200, atol=2)
        reds.append((image[..., 0] > 100).mean())
    assert 0.05 < np.mean(reds) < 0.4
    assert max(reds) > 0.3


def test_no_fill_is_a_fixed_border() -> None:
    """Over many samples no colour prevails beyond the photo, and black is as rare as any other."""
    photo = bright_photo(160, 100)
    config = AugmentConfig(box_jitter=(0.0, 0.3), crop_scale=(1.0, 1.0), crop_ratio=(1.0, 2.2), **OFF)
    fills, corners = [], []
    for seed in range(400):
        params = sample_params(config, np.random.default_rng(seed), 160, 100)
        image = augment_photo(params, photo, full=(160, 100), height=64, width=96)
        fills.append(params.fill)
        corners.append(image[0, 0])
    shares = [fills.count(fill) / len(fills) for fill in FILLS]
    assert shares == pytest.approx([0.25] * 4, abs=0.08)
    assert (np.array(corners).max(1) < 16).mean() < 0.02
    assert np.array(corners).std(0).min() > 30


@pytest.mark.parametrize("fitted", [False, True])
def test_the_corners_of_a_rotation_are_not_black_either(fitted: bool) -> None:
    photo = bright_photo(160, 100)
    config = AugmentConfig(**{**OFF, "rotation": 15}, box_jitter=(0.02, 0.02), crop_ratio=(1.4, 1.8))
    fit = fit_of(config, (160, 100), height=64, width=96)
    assert fit
    for seed in range(40):
        params = sample_params(config, np.random.default_rng(seed), 160, 100)
        params = replace(params, fill="mirrored")
        if fitted:
            image = augment_fitted(params, fit_photo(photo, fit), full=(160, 100), height=64, width=96)
        else:
            image = augment_photo(params, photo, full=(160, 100), height=64, width=96)
        assert image.min() >= 60


def test_the_sample_depends_on_its_seed_alone() -> None:
    photo = bright_photo(160, 100)
    config = AugmentConfig(box_jitter=(0.1, 0.3))

    def image(seed: int) -> np.ndarray:
        params = sample_params(config, np.random.default_rng(seed), 160, 100)
        return augment_photo(params, photo, full=(160, 100), height=64, width=96)

    for seed in range(12):
        np.testing.assert_array_equal(image(seed), image(seed))
    assert not np.array_equal(image(0), image(1))


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (7, 5)])
def test_tiny_photos_are_no_trouble(size: tuple[int, int]) -> None:
    photo = np.full((size[1], size[0], 3), 90, np.uint8)
    config = AugmentConfig(box_jitter=(0.4, 1.0), crop_scale=(0.01, 1.0))
    for seed in range(60):
        params = sample_params(config, np.random.default_rng(seed), *size)
        assert augment_photo(params, photo, full=size, height=32, width=32).shape == (32, 32, 3)


def test_the_recipes_for_cars_use_it() -> None:
    jitter = {name: values["augment"]["box_jitter"] for name, values in RECIPES.items() if _jitters(values)}
    assert jitter == dict.fromkeys(("scratch", "lite", "best"), (0.1, 0.3))


def _jitters(values: Mapping[str, Any]) -> bool:
    return "box_jitter" in values.get("augment", {})
