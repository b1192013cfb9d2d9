"""Photos under maps: what is coloured, what stays as it is, and in which colours."""

from __future__ import annotations

import subprocess
import sys

import matplotlib as mpl
import numpy as np

from twincar.models.cam.overlay import contrast_overlay, heat_colors, heat_overlay, is_darkened


def test_the_overlay_keeps_the_photo_and_marks_what_was_not_seen() -> None:
    photo = np.full((60, 100, 3), 200, np.uint8)
    heat = np.zeros((3, 3), np.float32)
    heat[1, 2] = 1
    result = heat_overlay(photo, heat, (20, 0, 80, 60))
    assert result.shape == photo.shape
    assert result[:, :19].max() < 80  # not seen: dark
    assert result[:, 81:].max() < 80
    np.testing.assert_allclose(result[5, 25], 200, atol=3)  # seen and cool: the photo itself
    assert abs(result[30, 75].astype(int) - 200).max() > 60  # seen and hot: coloured
    assert is_darkened(100, 60, (20, 0, 80, 60))
    everything = (0.0, -0.2, 99.9, 60.0)
    assert not is_darkened(100, 60, everything)
    assert heat_overlay(photo, 0 * heat, everything).min() == 200


def test_a_contrast_is_orange_for_the_one_and_blue_for_the_other() -> None:
    photo = np.full((60, 100, 3), 128, np.uint8)
    signed = np.array([[4, 0, -2]], np.float32)
    result = contrast_overlay(photo, signed, (0, 0, 100, 60)).astype(int)
    assert result[30, 2, 0] > 180 > 60 > result[30, 2, 2]  # orange
    assert result[30, 97, 2] > result[30, 97, 1] > result[30, 97, 0]  # blue, and half as strong
    np.testing.assert_array_equal(contrast_overlay(photo, 0 * signed, (0, 0, 100, 60)), photo)


def test_the_colors_are_those_of_plasma() -> None:
    values = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    assert abs(heat_colors(values) - mpl.colormaps["plasma"](values)[..., :3]).max() < 0.02


def lightness(rgb: np.ndarray) -> np.ndarray:
    """CIE L*, 0 to 100, of sRGB colours from 0 to 1 (IEC 61966-2-1 and CIE 15)."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    y = linear @ [0.2126, 0.7152, 0.0722]
    return np.where(y > (6 / 29) ** 3, 116 * np.cbrt(y) - 16, y * (29 / 3) ** 3)


def test_equal_steps_of_a_map_are_equal_steps_for_the_eye() -> None:
    values = np.linspace(0, 1, 17, dtype=np.float32)
    steps = np.diff(lightness(heat_colors(values).astype(np.float64)))
    assert steps.min() > 2  # lighter at each step: it can be read without colours
    assert steps.max() < 4 * steps.min()
    rainbow = np.diff(lightness(mpl.colormaps["turbo"](values)[:, :3]))
    assert rainbow.min() < 0 < rainbow.max()  # a rainbow goes up and down


def test_a_low_map_leaves_the_photo_its_colors_and_a_high_one_covers_it() -> None:
    photo = np.full((4, 4, 3), (30, 120, 60), np.uint8)
    changes = [
        abs(heat_overlay(photo, np.full((4, 4), value, np.float32), (0, 0, 4, 4)).astype(int) - photo).max()
        for value in (0.0, 0.1, 0.25, 0.5, 1.0)
    ]
    # By hand: 0.8 · value^1.5 of the way to the colour of the value, which is (240, 249, 33) for 1.
    assert changes == sorted(changes)
    assert changes[0] == 0
    assert changes[1] <= 4
    assert changes[4] == round(0.8 * (240 - 30))


def test_it_needs_neither_matplotlib_nor_torch() -> None:
    code = "import sys; sys.modules['matplotlib'] = sys.modules['torch'] = None; import twincar.models.cam.overlay"
    subprocess.run([sys.executable, "-c", code], check=True)
