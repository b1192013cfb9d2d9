"""The augmentation against torchvision's, on the same draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import draw_car
from PIL import Image
from torchvision.transforms import ColorJitter, RandomResizedCrop, RandomRotation
from torchvision.transforms import functional as tv

from twincar.config import AugmentConfig
from twincar.data.augment import Draw, apply_draw, draw

PLAIN = {"left": 0, "top": 0, "mirrored": False, "angle": 0.0, "jitter": (), "blur_sigma": 0.0}
CONFIG = AugmentConfig()


def smooth_photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Noise blurred to what lenses leave, so that resampling kernels hardly matter."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def by_torchvision(what: Draw, photo: Image.Image, height: int, width: int) -> np.ndarray:
    """The published chain, with the dice given."""
    box = (what.top, what.left, what.height, what.width)
    image = tv.resized_crop(photo, *box, [height, width], antialias=True)
    image = tv.hflip(image) if what.mirrored else image
    image = tv.rotate(image, what.angle)
    for name, value in what.jitter:
        image = getattr(tv, f"adjust_{name}")(image, value)
    if what.blur_sigma:
        image = tv.gaussian_blur(image, [3, 3], [what.blur_sigma, what.blur_sigma])
    return np.asarray(image)


@pytest.mark.parametrize("seed", range(30))
def test_the_whole_chain_matches_torchvision(seed: int) -> None:
    photo = smooth_photo(530, 280, seed)
    what = draw(CONFIG, np.random.default_rng(seed), 530, 280)
    ours = apply_draw(what, np.asarray(photo), height=224, width=224).astype(float)
    theirs = by_torchvision(what, photo, 224, 224).astype(float)
    assert abs(ours.mean(axis=(0, 1)) - theirs.mean(axis=(0, 1))).max() < 2  # colour, of 255
    assert abs(ours - theirs).mean() < 7  # torchvision turns by the nearest pixel, we between pixels


@pytest.mark.parametrize(("mirrored", "angle"), [(False, 0.0), (True, 0.0), (False, 12.0), (True, -15.0)])
def test_a_dot_lands_where_torchvision_puts_it(mirrored: bool, angle: float) -> None:
    pixels = np.zeros((280, 530, 3), np.uint8)
    for y, x in [(60, 120), (140, 300), (220, 400)]:
        pixels[:] = 0
        pixels[y - 6 : y + 7, x - 6 : x + 7] = 255
        what = Draw(left=60, top=20, width=400, height=240, mirrored=mirrored, angle=angle, jitter=(), blur_sigma=0.0)
        ours = apply_draw(what, pixels, height=224, width=224)[..., 0]
        theirs = by_torchvision(what, Image.fromarray(pixels), 224, 224)[..., 0]
        assert np.array(centre(ours)) == pytest.approx(np.array(centre(theirs)), abs=1)


def centre(image: np.ndarray) -> tuple[float, float]:
    weights = image.astype(float)
    rows, columns = np.indices(image.shape)
    return float((rows * weights).sum() / weights.sum()), float((columns * weights).sum() / weights.sum())


def test_a_photo_decoded_at_half_size_gives_the_same_crop() -> None:
    photo = smooth_photo(512, 320)
    half = np.asarray(photo.resize((256, 160), Image.Resampling.BOX))
    what = Draw(**{**PLAIN, "left": 128, "top": 40, "width": 256, "height": 240})
    whole = apply_draw(what, np.asarray(photo), height=64, width=64).astype(float)
    reduced = apply_draw(what, half, height=64, width=64, scale=0.5).astype(float)
    assert abs(whole - reduced).mean() < 1.5


def test_crops_are_drawn_as_torchvision_draws_them() -> None:
    torch.manual_seed(0)
    tensor = torch.zeros(3, 280, 530)
    theirs = np.array([RandomResizedCrop.get_params(tensor, [0.7, 1.0], [3 / 4, 4 / 3]) for _ in range(3000)])
    draws = [draw(CONFIG, np.random.default_rng(seed), 530, 280) for seed in range(3000)]
    ours = np.array([(d.top, d.left, d.height, d.width) for d in draws])
    for column in range(4):
        quantiles = np.linspace(0.1, 0.9, 9)
        difference = np.quantile(ours[:, column], quantiles) - np.quantile(theirs[:, column], quantiles)
        assert abs(difference).max() < 12


def test_the_other_dice_have_torchvisions_ranges() -> None:
    draws = [draw(CONFIG, np.random.default_rng(seed), 300, 200) for seed in range(3000)]
    assert np.mean([d.mirrored for d in draws]) == pytest.approx(0.5, abs=0.04)
    assert np.mean([d.blur_sigma > 0 for d in draws]) == pytest.approx(0.15, abs=0.03)
    angles = [d.angle for d in draws]
    theirs = [RandomRotation.get_params([-15.0, 15.0]) for _ in range(3000)]
    assert (np.mean(angles), np.std(angles)) == pytest.approx((np.mean(theirs), np.std(theirs)), abs=0.7)
    jitter = ColorJitter(0.4, 0.4, 0.4, 0.2)
    for name in ("brightness", "contrast", "saturation", "hue"):
        low, high = getattr(jitter, name)
        values = [dict(d.jitter)[name] for d in draws]
        assert low <= min(values) < low + 0.01
        assert high - 0.01 < max(values) <= high
    first = [d.jitter[0][0] for d in draws]
    assert {first.count(name) > 650 for name in set(first)} == {True}  # a quarter of the time each


def test_a_strength_of_zero_is_off() -> None:
    off = AugmentConfig(
        crop_scale=(1.0, 1.0), crop_ratio=(1.5, 1.5), flip=0, rotation=0, brightness=0, contrast=0, saturation=0, hue=0,
        blur=0,
    )  # fmt: skip
    photo = np.asarray(draw_car(0, 0, (96, 64)))
    for seed in range(20):
        what = draw(off, np.random.default_rng(seed), 96, 64)
        np.testing.assert_array_equal(apply_draw(what, photo, height=64, width=96), photo)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (7, 5)])
def test_tiny_photos_are_no_trouble(size: tuple[int, int]) -> None:
    photo = np.zeros((size[1], size[0], 3), np.uint8)
    for seed in range(20):
        what = draw(CONFIG, np.random.default_rng(seed), *size)
        assert apply_draw(what, photo, height=32, width=32).shape == (32, 32, 3)
