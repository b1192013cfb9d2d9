from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import draw_car
from PIL import Image

from twincar.errors import PhotoError, UsageError
from twincar.explain import explain
from twincar.plots import Explained, explanation_grid, overlay


def test_a_split_is_explained_photo_by_photo_and_in_a_grid(small_run: Path) -> None:
    result = explain(small_run, split="test", count=5)
    assert len(result.photos) == 5
    for path in [*result.photos, result.grid]:
        with Image.open(path) as image:
            assert image.width > 200
    assert {path.name.split("_")[0] for path in result.photos} == {"001", "002", "003", "004", "005"}


def test_photos_of_ones_own_are_explained(small_run: Path, tmp_path: Path) -> None:
    draw_car(0, 0).save(tmp_path / "car.jpg")
    assert len(explain(small_run, images=[str(tmp_path / "car.jpg")]).photos) == 1
    with pytest.raises(PhotoError):
        explain(small_run, images=[str(tmp_path / "gone.jpg")])


def test_more_than_there_are_is_all_of_them(small_run: Path) -> None:
    assert len(explain(small_run, split="test", count=1000).photos) == 12
    with pytest.raises(UsageError, match="at least 1"):
        explain(small_run, split="test", count=0)


def test_the_overlay_keeps_the_photo_and_marks_what_was_not_seen() -> None:
    photo = np.full((60, 100, 3), 200, np.uint8)
    heat = np.zeros((3, 3), np.float32)
    heat[1, 2] = 1
    result = overlay(Explained(photo, heat, (20, 0, 80, 60), "A", 0.5))
    assert result.shape == photo.shape
    assert result[:, :19].max() < 80  # not seen: dark
    assert result[:, 81:].max() < 80
    np.testing.assert_allclose(result[5, 25], 200, atol=3)  # seen and cool: the photo itself
    assert abs(result[30, 75].astype(int) - 200).max() > 60  # seen and hot: coloured


@pytest.mark.parametrize(("truth", "colour"), [("A", "#1a7f37"), ("B", "#c4180c"), (None, "black")])
def test_titles_tell_right_from_wrong(truth: str | None, colour: str) -> None:
    item = Explained(np.zeros((10, 20, 3), np.uint8), np.ones((2, 2), np.float32), (0, 0, 20, 10), "A", 0.5, truth)
    axes = explanation_grid([item]).axes[0]
    assert axes.title.get_color() == colour
    assert "A (50%)" in axes.get_title()
