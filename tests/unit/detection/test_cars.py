from __future__ import annotations

import math

import pytest

from twincar.detection import Car, cut_box, main_car

NEAR = Car(10, 20, 110, 60, 0.5)
FAR = Car(200, 20, 210, 30, 0.99)


def test_the_main_car_is_large_and_probable() -> None:
    assert NEAR.prominence == pytest.approx(0.5 * math.sqrt(100 * 40))
    assert main_car([FAR, NEAR]) is NEAR
    assert main_car([]) is None


@pytest.mark.parametrize(
    ("margin", "expected"),
    [(0, (10, 20, 110, 60)), (0.1, (0, 16, 120, 64)), (0.25, (0, 10, 135, 70)), (5, (0, 0, 300, 100))],
)
def test_a_cut_grows_by_a_share_of_the_box(margin: float, expected: tuple[int, int, int, int]) -> None:
    assert cut_box(NEAR, 300, 100, margin) == expected


def test_a_cut_takes_whole_pixels() -> None:
    assert cut_box(Car(1.2, 1.2, 8.5, 7.1, 1.0), 10, 8, 0) == (1, 1, 9, 8)


@pytest.mark.parametrize("car", [Car(3.5, 2, 3.5, 2, 1.0), Car(10, 8, 10, 8, 1.0), Car(0, 0, 0, 0, 1.0)])
def test_a_cut_is_never_empty(car: Car) -> None:
    left, top, right, bottom = cut_box(car, 10, 8, 0)
    assert 0 <= left < right <= 10
    assert 0 <= top < bottom <= 8
