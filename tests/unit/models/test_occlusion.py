"""The contrast by hiding, on networks whose answer follows from a known place in the photo."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from twincar.models.cam.occlusion import blur, contrastive_occlusion, grid_of

PLACE = slice(16, 24), slice(24, 32)  # row 2, column 3 of the 8×12 cells of 64×96 pixels


def white_square() -> NDArray[np.uint8]:
    photo = np.zeros((64, 96, 3), np.uint8)
    photo[PLACE] = 255
    return photo


def brightness_of_the_place(photos: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Three logits: the place's brightness, its half, and 5."""
    shown = photos[:, *PLACE].mean(axis=(1, 2, 3)) / 255
    return np.stack([shown, shown / 2, np.full_like(shown, 5)], axis=1).astype(np.float32)


def test_the_place_that_decides_is_found() -> None:
    """All four patches over the cell hide it, two of a cell beside it, one of a cell across the corner."""
    photo = white_square()
    drop = (1 - blur(photo)[PLACE].mean() / 255) / 2  # of the first logit less the second
    expected = np.zeros((8, 12))
    expected[1:4, 2:5] = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4 * drop
    np.testing.assert_allclose(contrastive_occlusion(brightness_of_the_place, photo, 0, 1), expected, atol=1e-6)
    assert drop > 0.2


def test_the_other_way_round_is_the_negative() -> None:
    photo = white_square()
    there = contrastive_occlusion(brightness_of_the_place, photo, 0, 2)
    np.testing.assert_array_equal(contrastive_occlusion(brightness_of_the_place, photo, 2, 0), -there)


def test_the_photo_stays_as_it_is_and_the_network_is_asked_in_batches() -> None:
    photo, asked = white_square(), []

    def logits(photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        asked.append(len(photos))
        return brightness_of_the_place(photos)

    contrastive_occlusion(logits, photo, 0, 1)
    np.testing.assert_array_equal(photo, white_square())
    assert sum(asked) == 9 * 13 + 1
    assert max(asked) <= 32


def test_cells_are_about_square_whatever_the_photo() -> None:
    assert grid_of(64, 96) == (8, 12)
    assert grid_of(224, 224) == (8, 8)
    assert grid_of(100, 64) == (12, 8)
    odd = np.random.default_rng(0).integers(0, 256, (50, 37, 3), np.uint8)
    assert contrastive_occlusion(lambda x: x.mean(axis=(1, 2)).astype(np.float32), odd, 0, 1).shape == (11, 8)
