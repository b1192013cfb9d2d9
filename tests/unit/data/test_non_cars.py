from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from PIL import Image

from twincar.data.toy.non_cars import KINDS, non_car_images


@pytest.fixture(scope="module")
def pictures() -> list[tuple[str, Image.Image]]:
    return list(non_car_images(80, seed=1))


def test_kinds_come_in_equal_shares(pictures: list[tuple[str, Image.Image]]) -> None:
    assert Counter(kind for kind, _ in pictures) == dict.fromkeys(("noise", "text", "plain", "scene"), 20)
    assert Counter(kind for kind, _ in non_car_images(6)) == {"noise": 2, "text": 2, "plain": 1, "scene": 1}
    assert list(non_car_images(0)) == []


def test_all_are_rgb_and_no_two_are_equal(pictures: list[tuple[str, Image.Image]]) -> None:
    assert {picture.mode for _, picture in pictures} == {"RGB"}
    assert len({picture.tobytes() for _, picture in pictures}) == 80


def test_the_seed_alone_decides(pictures: list[tuple[str, Image.Image]]) -> None:
    fewer = list(non_car_images(8, seed=1))
    assert [picture.tobytes() for _, picture in fewer] == [picture.tobytes() for _, picture in pictures[:8]]
    other = [picture.tobytes() for _, picture in non_car_images(8, seed=2)]
    assert not set(other) & {picture.tobytes() for _, picture in fewer}


def test_pictures_are_drawn_when_asked_for() -> None:
    assert len(list(islice(non_car_images(10**9), 4))) == 4


def test_each_kind_looks_like_its_name() -> None:
    rng = np.random.default_rng(0)
    plain = [np.asarray(KINDS["plain"](rng), float) for _ in range(10)]
    assert max(np.abs(np.diff(picture, axis=axis)).max() for picture in plain for axis in (0, 1)) <= 3  # no edge
    for picture in (np.asarray(KINDS["text"](rng).convert("L"), float) for _ in range(10)):
        paper = np.median(picture)
        inked = np.abs(picture - paper) > 60
        assert 0.02 < inked.mean() < 0.35  # letters on an even ground
        assert inked.any(axis=1).mean() > 0.4
        assert (~inked.any(axis=1)).sum() > 10  # lines with room between
    noise = [np.asarray(KINDS["noise"](rng), float) for _ in range(10)]
    assert min(picture.std() for picture in noise) > 10
