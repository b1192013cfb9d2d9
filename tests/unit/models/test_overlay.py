"""Photos under maps: what is coloured, what stays as it is, and in which colours."""

from __future__ import annotations

import subprocess
import sys

import matplotlib as mpl
import numpy as np

from twincar.models.cam.overlay import contrast_overlay, heat_overlay, is_darkened, turbo


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


def test_the_colors_are_those_of_turbo() -> None:
    values = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    assert abs(turbo(values) - mpl.colormaps["turbo"](values)[..., :3]).max() < 0.03


def test_it_needs_neither_matplotlib_nor_torch() -> None:
    code = "import sys; sys.modules['matplotlib'] = sys.modules['torch'] = None; import twincar.models.cam.overlay"
    subprocess.run([sys.executable, "-c", code], check=True)
