"""The augmentation against torchvision's, on the same draws."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from conftest import draw_car
from PIL import Image
from torchvision.transforms import ColorJitter, RandomResizedCrop, RandomRotation
from torchvision.transforms import functional as tv

from twincar.core.augmentation import AugmentConfig
from twincar.data.loading.augment import (
    AugmentParams,
    Size,
    _crop_range,
    augment_fitted,
    augment_photo,
    fit_of,
    fit_photo,
    sample_params,
)

PLAIN = {"left": 0, "top": 0, "mirrored": False, "angle": 0.0, "jitter": (), "blur_sigma": 0.0}
CONFIG = AugmentConfig()


def smooth_photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Noise blurred to what lenses leave, so that resampling kernels hardly matter."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def by_torchvision(what: AugmentParams, photo: Image.Image, height: int, width: int) -> np.ndarray:
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


def by_us(what: AugmentParams, photo: Image.Image, height: int, width: int, *, fitted: bool = False) -> np.ndarray:
    pixels, full = np.array(photo), photo.size
    if not fitted:
        return augment_photo(what, pixels, full=full, height=height, width=width)
    fit = fit_of(CONFIG, full, height=height, width=width)
    assert fit
    return augment_fitted(what, fit_photo(pixels, fit), full=full, height=height, width=width)


def color_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Of the mean colours, of 255."""
    return float(abs(ours.mean(axis=(0, 1)) - theirs.mean(axis=(0, 1))).max())


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Of the pixels, in the mean, of 255."""
    return float(abs(ours.astype(float) - theirs).mean())


@pytest.mark.parametrize("seed", range(30))
def test_the_whole_chain_matches_torchvision(seed: int) -> None:
    photo = smooth_photo(530, 280, seed)
    what = sample_params(CONFIG, np.random.default_rng(seed), 530, 280)
    theirs = by_torchvision(what, photo, 224, 224)
    ours, fitted = by_us(what, photo, 224, 224), by_us(what, photo, 224, 224, fitted=True)
    assert max(color_difference(ours, theirs), color_difference(fitted, theirs)) < 1.5
    assert difference(ours, theirs) < 2
    assert difference(fitted, theirs) < 8  # cut out and turned to whole pixels of another grid


def test_real_photos_match_torchvision(real_photos: Path) -> None:
    tables = sorted(real_photos.glob("hub/**/*.parquet"))
    if not tables:
        pytest.skip(f"no photos in {real_photos / 'hub'}")
    rows = next(parquet.ParquetFile(tables[0]).iter_batches(batch_size=40, columns=["image"])).column(0).to_pylist()
    colors, pixels, fitted_colors = [], [], []
    for seed, row in enumerate(rows):
        photo = Image.open(io.BytesIO(row["bytes"])).convert("RGB")
        what = sample_params(CONFIG, np.random.default_rng(seed), *photo.size)
        theirs = by_torchvision(what, photo, 224, 224)
        ours = by_us(what, photo, 224, 224)
        colors.append(color_difference(ours, theirs))
        pixels.append(difference(ours, theirs))
        fitted_colors.append(color_difference(by_us(what, photo, 224, 224, fitted=True), theirs))
    assert max(np.mean(colors), np.mean(fitted_colors)) < 1
    assert max(*colors, *fitted_colors) < 2
    assert np.mean(pixels) < 2


@pytest.mark.parametrize("fitted", [False, True])
@pytest.mark.parametrize(("mirrored", "angle"), [(False, 0.0), (True, 0.0), (False, 12.0), (True, -15.0)])
def test_a_dot_lands_where_torchvision_puts_it(mirrored: bool, angle: float, fitted: bool) -> None:
    for y, x in [(60, 150), (90, 300), (140, 230), (200, 180), (220, 350)]:
        pixels = np.zeros((280, 530, 3), np.uint8)
        pixels[y - 6 : y + 7, x - 6 : x + 7] = 255
        what = AugmentParams(
            left=95, top=12, width=330, height=260, mirrored=mirrored, angle=angle, jitter=(), blur_sigma=0.0
        )
        ours = by_us(what, Image.fromarray(pixels), 224, 224, fitted=fitted)[..., 0]
        theirs = by_torchvision(what, Image.fromarray(pixels), 224, 224)[..., 0]
        assert np.array(centre(ours)) == pytest.approx(np.array(centre(theirs)), abs=1)


def grating(size: Size, axis: int, period: float) -> Image.Image:
    wave = 127.5 + 127 * np.cos(2 * np.pi * np.arange(size[axis]) / period + 0.3)
    rows = wave[None, :, None] if axis == 0 else wave[:, None, None]
    return Image.fromarray(np.broadcast_to(np.rint(rows), (size[1], size[0], 3)).astype(np.uint8))


SHRINKS = [(1.2, 1.2), (1.33, 1.0), (1.0, 1.5), (2.0, 2.0), (2.5, 1.2), (3.3, 3.3), (6.0, 3.0), (12.0, 12.0)]


@pytest.mark.parametrize("angle", [0.0, 7.0, -13.0])
@pytest.mark.parametrize("shrink", SHRINKS)
def test_what_the_output_cannot_show_is_taken_out_as_by_pillow(shrink: tuple[float, float], angle: float) -> None:
    """Waves beyond the output's Nyquist frequency, 1.05 to 2.5 times: what is left of them is aliasing."""
    size = round(112 * shrink[0]), round(112 * shrink[1])
    ratio = size[0] / size[1]
    up_to_whole = AugmentConfig(crop_scale=(0.7, 1.0), crop_ratio=(ratio / 1.2, ratio * 1.2))
    fit = fit_of(up_to_whole, size, height=112, width=112)
    assert fit
    what = AugmentParams(
        left=0, top=0, width=size[0], height=size[1], mirrored=False, angle=angle, jitter=(), blur_sigma=0.0
    )
    for axis in (0, 1):
        energies = []
        for beyond in (1.05, 1.2, 1.5, 1.8, 2.5):
            if 2 * shrink[axis] / beyond < 2:
                continue  # the photo cannot show it either
            photo = grating(size, axis, 2 * shrink[axis] / beyond)
            fitted = fit_photo(np.array(photo), fit)
            theirs = by_torchvision(what, photo, 112, 112)[30:-30, 30:-30].std()
            ours = by_us(what, photo, 112, 112)[30:-30, 30:-30].std()
            from_cache = augment_fitted(what, fitted, full=size, height=112, width=112)[30:-30, 30:-30].std()
            assert ours <= 1.02 * theirs + 0.5
            energies.append((from_cache**2, theirs**2 + 1))
        from_cache, theirs = np.sum(energies, axis=0) if energies else (0, 1)  # its kernel's zeros lie elsewhere
        assert from_cache <= 1.02 * theirs


@pytest.mark.parametrize("size", [(530, 280), (300, 300), (200, 380), (900, 120)])
def test_every_crop_lies_in_the_range_the_fit_is_made_for(size: Size) -> None:
    narrowest, widest, lowest, highest = _crop_range(CONFIG, size)
    draws = [sample_params(CONFIG, np.random.default_rng(seed), *size) for seed in range(2000)]
    widths, heights = [what.width for what in draws], [what.height for what in draws]
    assert narrowest - 1 <= min(widths) < 1.1 * narrowest
    assert lowest - 1 <= min(heights) < 1.1 * lowest
    assert 0.9 * widest < max(widths) <= widest + 1
    assert 0.9 * highest < max(heights) <= highest + 1


def test_crops_of_very_different_sizes_have_no_common_fit() -> None:
    assert fit_of(AugmentConfig(crop_scale=(0.08, 1.0)), (530, 280), height=224, width=224) is None


@pytest.mark.parametrize("jitter", [
    (("brightness", 1.4), ("contrast", 0.6), ("saturation", 1.4)),
    (("contrast", 1.4), ("brightness", 0.6), ("saturation", 0.6)),
    (("saturation", 0.6), ("contrast", 0.6), ("hue", 0.2), ("brightness", 1.4)),
    (("brightness", 0.6), ("saturation", 1.4), ("hue", -0.2), ("contrast", 1.4)),
])  # fmt: skip
def test_clipping_between_color_changes_is_torchvisions(jitter: tuple[tuple[str, float], ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    pixels[:32] = np.where(pixels[:32] < 128, 0, 255)  # much that clips
    what = AugmentParams(**{**PLAIN, "width": 64, "height": 64, "jitter": jitter})
    ours, theirs = by_us(what, Image.fromarray(pixels), 64, 64), by_torchvision(what, Image.fromarray(pixels), 64, 64)
    assert difference(ours, theirs) < 2


def centre(image: np.ndarray) -> tuple[float, float]:
    weights = image.astype(float)
    rows, columns = np.indices(image.shape)
    return float((rows * weights).sum() / weights.sum()), float((columns * weights).sum() / weights.sum())


def test_a_photo_decoded_at_half_size_gives_the_same_crop() -> None:
    photo = smooth_photo(512, 320)
    half = np.array(photo.resize((256, 160), Image.Resampling.BOX))
    what = AugmentParams(**{**PLAIN, "left": 128, "top": 40, "width": 256, "height": 240})
    whole = augment_photo(what, np.array(photo), full=(512, 320), height=64, width=64).astype(float)
    reduced = augment_photo(what, half, full=(512, 320), height=64, width=64).astype(float)
    assert abs(whole - reduced).mean() < 1.5


def test_crops_are_drawn_as_torchvision_draws_them() -> None:
    torch.manual_seed(0)
    tensor = torch.zeros(3, 280, 530)
    theirs = np.array([RandomResizedCrop.get_params(tensor, [0.7, 1.0], [3 / 4, 4 / 3]) for _ in range(3000)])
    draws = [sample_params(CONFIG, np.random.default_rng(seed), 530, 280) for seed in range(3000)]
    ours = np.array([(d.top, d.left, d.height, d.width) for d in draws])
    for column in range(4):
        quantiles = np.linspace(0.1, 0.9, 9)
        difference = np.quantile(ours[:, column], quantiles) - np.quantile(theirs[:, column], quantiles)
        assert abs(difference).max() < 12


def test_the_other_dice_have_torchvisions_ranges() -> None:
    draws = [sample_params(CONFIG, np.random.default_rng(seed), 300, 200) for seed in range(3000)]
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
    photo = np.array(draw_car(0, 0, (96, 64)))
    for seed in range(20):
        what = sample_params(off, np.random.default_rng(seed), 96, 64)
        np.testing.assert_array_equal(augment_photo(what, photo, full=(96, 64), height=64, width=96), photo)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (7, 5)])
def test_tiny_photos_are_no_trouble(size: tuple[int, int]) -> None:
    photo = np.zeros((size[1], size[0], 3), np.uint8)
    for seed in range(20):
        what = sample_params(CONFIG, np.random.default_rng(seed), *size)
        assert augment_photo(what, photo, full=size, height=32, width=32).shape == (32, 32, 3)


def test_trivial_augment_is_torchvisions_by_a_seed_of_its_own() -> None:
    from torchvision.transforms import v2

    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    plain = {"crop_scale": (1.0, 1.0), "crop_ratio": (1.0, 2.0), "flip": 0, "rotation": 0, "blur": 0, "hue": 0}
    config = AugmentConfig(**plain, brightness=0, contrast=0, saturation=0, trivial_augment=True)
    seeds, differ = set(), 0
    for number in range(12):
        drawn = sample_params(config, np.random.default_rng(number), 32, 24)
        assert drawn.trivial_seed is not None
        seeds.add(drawn.trivial_seed)
        torch.manual_seed(7)
        found = augment_photo(drawn, image, full=(32, 24), height=24, width=32)
        after = torch.rand(1)
        torch.manual_seed(drawn.trivial_seed)
        expected = v2.TrivialAugmentWide()(torch.from_numpy(image).permute(2, 0, 1)).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(found, expected)
        differ += not np.array_equal(found, image)
        torch.manual_seed(7)
        assert torch.rand(1) == after  # the global dice are as they were
    assert len(seeds) == 12
    assert differ > 6
    assert sample_params(AugmentConfig(), np.random.default_rng(0), 32, 24).trivial_seed is None


def test_low_quality_has_the_share_and_the_ranges_that_are_documented() -> None:
    config = AugmentConfig(low_quality=0.3)
    draws = [sample_params(config, np.random.default_rng(seed), 300, 200) for seed in range(3000)]
    low = [(what.scale, what.jpeg_quality) for what in draws if what.jpeg_quality is not None]
    assert len(low) / 3000 == pytest.approx(0.3, abs=0.03)
    assert {what.scale for what in draws if what.jpeg_quality is None} == {1.0}
    scales, qualities = (np.array(column) for column in zip(*low, strict=True))
    assert 0.4 <= scales.min() < 0.41 < 0.99 < scales.max() <= 1
    assert (qualities.min(), qualities.max()) == (20, 95)
    assert scales.mean() == pytest.approx(0.7, abs=0.02)
    assert qualities.mean() == pytest.approx(57.5, abs=2.5)
    assert abs(np.corrcoef(scales, qualities)[0, 1]) < 0.1, "small photos are not always the most compressed ones"


def test_low_quality_changes_nothing_else_that_is_sampled() -> None:
    """It is sampled last: what a seed gave before there was this setting, it still gives."""
    config = AugmentConfig(box_jitter=(0.1, 0.3), trivial_augment=True)
    for seed in range(200):
        without = sample_params(config, np.random.default_rng(seed), 300, 200)
        always = sample_params(replace(config, low_quality=1.0), np.random.default_rng(seed), 300, 200)
        assert (without.scale, without.jpeg_quality) == (1.0, None)
        assert always.jpeg_quality is not None
        assert replace(always, scale=1.0, jpeg_quality=None) == without


def lower_quality_by_pillow(photo: Image.Image, enlarge: int, reduce: int, quality: int) -> np.ndarray:
    """Its sides times `enlarge` by repeating pixels, then the means of `reduce` by `reduce` pixels: exact areas."""
    repeated = photo.resize((photo.width * enlarge, photo.height * enlarge), Image.Resampling.NEAREST)
    file = io.BytesIO()
    repeated.reduce(reduce).save(file, "jpeg", quality=quality, subsampling="4:2:0")
    return np.asarray(Image.open(file).resize(photo.size, Image.Resampling.BILINEAR))


@pytest.mark.parametrize(("enlarge", "reduce"), [(2, 5), (1, 2), (3, 5), (3, 4), (1, 1)])
@pytest.mark.parametrize("quality", [20, 57, 95])
def test_low_quality_is_pillows(enlarge: int, reduce: int, quality: int) -> None:
    """Of a smooth photo with the edges of a car, as large as the network's input."""
    photo = smooth_photo(240, 160)
    photo.paste(draw_car(1, 3), (60, 40))
    plain = AugmentParams(**{**PLAIN, "width": 240, "height": 160})
    np.testing.assert_array_equal(by_us(plain, photo, 160, 240), np.array(photo))
    lowered = by_us(replace(plain, scale=enlarge / reduce, jpeg_quality=quality), photo, 160, 240)
    assert difference(lowered, lower_quality_by_pillow(photo, enlarge, reduce, quality)) < 2
    assert difference(lowered, np.array(photo)) > 1


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (7, 5)])
def test_low_quality_of_tiny_photos_is_no_trouble(size: tuple[int, int]) -> None:
    what = AugmentParams(**{**PLAIN, "width": size[0], "height": size[1]}, scale=0.4, jpeg_quality=20)
    photo = np.full((size[1], size[0], 3), 77, np.uint8)
    made = augment_photo(what, photo, full=size, height=size[1], width=size[0])
    assert abs(made.astype(int) - 77).max() <= 3
