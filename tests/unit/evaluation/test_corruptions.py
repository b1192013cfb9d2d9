"""Corruptions compared with their definitions by Hendrycks and Dietterich (2019), with the published parameters."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from twincar.core.preprocess import Preprocessing
from twincar.data.toy.cars import CLASS_NAMES, draw_photo
from twincar.evaluation.corruptions import CORRUPTIONS, SEVERITIES, SIDE, VERSIONS, CorruptedViews, Pixels, corrupt

GREY = np.full((300, 400, 3), 128, np.uint8)


@pytest.fixture(scope="module")
def car() -> Image.Image:
    return draw_photo(CLASS_NAMES[0], seed=0).image


@pytest.fixture(scope="module")
def pixels(car: Image.Image) -> Pixels:
    return np.asarray(car.resize((299, SIDE)))


def squared_error(first: Pixels, second: Pixels) -> float:
    return float(((first.astype(float) - second) ** 2).mean())


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_higher_severity_has_a_larger_error(name: str, pixels: Pixels) -> None:
    before = pixels.copy()
    versions = [corrupt(pixels, name, severity) for severity in SEVERITIES]
    assert {(version.shape, version.dtype) for version in versions} == {(pixels.shape, pixels.dtype)}
    errors = [squared_error(version, pixels) for version in versions]
    assert errors[0] > 0
    assert errors == sorted(set(errors))
    assert np.array_equal(pixels, before)  # a copy


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_same_seed_gives_the_same_pixels(name: str, pixels: Pixels) -> None:
    assert np.array_equal(corrupt(pixels, name, 3, seed=5), corrupt(pixels, name, 3, seed=5))
    random = name in ("gaussian_noise", "impulse_noise", "motion_blur", "spatter")
    assert np.array_equal(corrupt(pixels, name, 3, seed=5), corrupt(pixels, name, 3, seed=6)) != random


def test_gaussian_noise_has_the_published_deviation() -> None:
    for severity, deviation in ((1, 0.08), (2, 0.12)):  # at higher severities clipping at black and white reduces it
        noise = corrupt(GREY, "gaussian_noise", severity).astype(float) - 128
        assert noise.std() == pytest.approx(255 * deviation, rel=0.01)
        assert abs(noise.mean()) < 0.2
        assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.02  # channels are independent


def test_strong_gaussian_noise_is_clipped_at_black_and_white() -> None:
    noisy = corrupt(GREY, "gaussian_noise", 5)
    # P(128 + 96.9 z < 0.5) = Phi(-1.316) = 0.094
    assert (noisy == 0).mean() == pytest.approx(0.094, abs=0.004)
    assert (noisy == 255).mean() == pytest.approx(0.096, abs=0.004)


def test_impulse_noise_replaces_the_published_share_of_values() -> None:
    for severity, share in zip(SEVERITIES, (0.03, 0.06, 0.09, 0.17, 0.27), strict=True):
        noisy = corrupt(GREY, "impulse_noise", severity)
        assert set(np.unique(noisy)) == {0, 128, 255}
        assert (noisy == 0).mean() == pytest.approx(share / 2, rel=0.05)
        assert (noisy == 255).mean() == pytest.approx(share / 2, rel=0.05)
        assert (noisy != 128).any(axis=2).mean() > 2 * share  # channels are independent


def test_contrast_by_hand() -> None:
    """Two pixels of 100 and 200 have a mean of 150; severity 1 keeps 0.4 of the distance to it, severity 5 0.05."""
    image = np.array([[[100, 0, 10], [200, 0, 30]]], np.uint8)
    assert corrupt(image, "contrast", 1).tolist() == [[[130, 0, 16], [170, 0, 24]]]
    assert corrupt(image, "contrast", 5)[0, :, 0].tolist() == [148, 152]  # 147.5 and 152.5, halves to even


def test_pixelate_is_the_mean_of_blocks(pixels: Pixels) -> None:
    square = pixels[:, :SIDE]
    found = corrupt(square, "pixelate", 5)  # reduced to a quarter and enlarged again
    assert np.array_equal(found, found[::4, ::4].repeat(4, axis=0).repeat(4, axis=1))
    means = square.reshape(56, 4, 56, 4, 3).mean(axis=(1, 3))
    assert np.abs(found[::4, ::4] - means).max() <= 1  # Pillow rounds after each direction
    for severity, columns in zip(SEVERITIES, (179, 149, 119, 89, 74), strict=True):  # of 299, rounded down
        changes = (np.diff(corrupt(pixels, "pixelate", severity).astype(int), axis=1) != 0).any(axis=(0, 2))
        assert changes.sum() == columns - 1


def test_jpeg_has_the_published_quality(pixels: Pixels, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("jpeg") / "car.jpg"
    for severity, quality in zip(SEVERITIES, (25, 18, 15, 10, 7), strict=True):
        Image.fromarray(pixels).save(path, quality=quality)
        assert np.array_equal(corrupt(pixels, "jpeg_compression", severity), np.asarray(Image.open(path)))


def test_motion_blur_spreads_a_point_as_half_a_gaussian() -> None:
    point = np.zeros((201, 201, 3), np.uint8)
    point[100, 100] = 255
    angles = []
    for severity, (radius, deviation) in ((1, (10, 3)), (3, (15, 8)), (5, (20, 15))):
        weights = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * deviation**2))
        for seed in range(8):
            streak = corrupt(point, "motion_blur", severity, seed)[..., 0].astype(float)
            rows, columns = (indices - 100 for indices in np.nonzero(streak))
            light = streak[streak > 0]
            assert columns.max() == 0  # it starts at the point and extends to one side
            assert streak[100, 100] == pytest.approx(255 * weights[0] / weights.sum(), abs=0.5)
            assert light.sum() == pytest.approx(255, rel=0.04)
            reach = light @ np.hypot(rows, columns) / light.sum()
            assert reach == pytest.approx(weights @ np.arange(2 * radius + 1) / weights.sum(), rel=0.07)
            angles.append(float(np.degrees(np.arctan2(light @ rows, -light @ columns))))
    assert -45 <= min(angles) < -15
    assert 15 < max(angles) <= 45


def test_motion_blur_does_not_change_a_uniform_image() -> None:
    assert np.array_equal(corrupt(GREY, "motion_blur", 5), GREY)  # without dark borders


def test_spatter_is_water_at_low_and_mud_at_high_severity() -> None:
    water, mud = corrupt(GREY, "spatter", 2), corrupt(GREY, "spatter", 5)
    assert water.min() >= 128  # only light is added, in pale turquoise
    wet = water[(water > 140).any(axis=2)]
    assert 0.02 < len(wet) / GREY[..., 0].size < 0.4
    assert wet[:, 1].mean() > wet[:, 0].mean()
    assert mud.max() == 128  # mud only darkens
    assert np.abs(mud[mud[..., 0] < 70].astype(float).mean(axis=0) - (63, 42, 20)).max() < 10


def test_views_are_the_photo_and_its_corruptions_at_the_input_size(car: Image.Image) -> None:
    views = CorruptedViews(height=96, width=128).views(car)
    assert [view.shape for view in views] == [(96, 128, 3)] * 36
    assert len(VERSIONS) == 36
    plain = Preprocessing(height=96, width=128)(car)
    assert squared_error(views[0], plain) < 30  # enlarged and reduced again, close to the plain input
    for (_, severity), view in zip(VERSIONS, views, strict=True):
        assert severity < 5 or squared_error(view, views[0]) > 30


def test_a_square_input_of_224_is_corrupted_without_resizing(car: Image.Image) -> None:
    """The protocol of the paper: short side at 256, centre of 224, corruption."""
    preprocessing = Preprocessing(height=SIDE, width=SIDE)
    views = CorruptedViews(height=SIDE, width=SIDE).views(car)
    plain = preprocessing(car)
    assert np.array_equal(views[0], plain)
    contrast = VERSIONS.index(("contrast", 2))
    assert np.array_equal(views[contrast], corrupt(plain, "contrast", 2))


def grain(shade: int, side: int) -> np.ndarray:
    """The noise that gaussian noise of severity 1 adds to a uniform image, in an input of side×side pixels."""
    views = CorruptedViews(height=side, width=side).views(Image.new("RGB", (300, 300), (shade,) * 3))
    return np.asarray(views[VERSIONS.index(("gaussian_noise", 1))].astype(float) - shade)


def test_a_photo_is_always_corrupted_alike(car: Image.Image) -> None:
    views = CorruptedViews(height=64, width=96, squash=True)
    first, again = views.views(car), views.views(car.copy())
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    same, other = np.corrcoef(grain(128, SIDE).ravel(), [grain(shade, SIDE).ravel() for shade in (128, 129)])[0, 1:]
    assert same == pytest.approx(1)
    assert abs(other) < 0.02  # other photos have other noise


def test_photos_are_corrupted_at_224_pixels_for_any_input_size() -> None:
    """Noise of single pixels at 224 averages out for a small network and becomes coarse for a large one."""
    assert grain(128, 224).std() == pytest.approx(255 * 0.08, rel=0.02)
    assert grain(128, 56).std() < 0.5 * 255 * 0.08
    coarse = grain(128, 448)
    assert np.abs(coarse - np.roll(coarse, 1, axis=1)).mean() < 0.6 * np.abs(coarse - np.roll(coarse, 4, axis=1)).mean()


def test_a_squashed_photo_is_not_cropped(car: Image.Image) -> None:
    views = CorruptedViews(height=64, width=96, squash=True).views(car)
    assert squared_error(views[0], Preprocessing(height=64, width=96, squash=True)(car)) < 30
    assert squared_error(views[0], Preprocessing(height=64, width=96)(car)) > 300
