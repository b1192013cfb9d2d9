from __future__ import annotations

import math

import pytest

from twincar.detection import Car, cut_box, main_car
from twincar.detection.cars import without_parts

NEAR = Car(10, 20, 110, 60, 0.5)
FAR = Car(200, 20, 210, 30, 0.99)


def test_the_main_car_is_large_and_probable() -> None:
    assert NEAR.prominence == pytest.approx(0.5 * math.sqrt(100 * 40))
    assert main_car([FAR, NEAR]) is NEAR
    assert main_car([]) is None


WHOLE = Car(0, 0, 100, 100, 0.75)


@pytest.mark.parametrize(
    ("other", "is_part"),
    [
        (Car(57, 20, 107, 100, 0.6), True),  # by hand: 86% within, 40% as large, 1.25 times less probable
        (Car(57, 20, 107, 100, 0.61), False),  # as sure of it: a car behind another one
        (Car(60, 20, 110, 100, 0.6), False),  # 80% within
        (Car(52, 20, 102, 100, 0.93), True),  # 96% within, and not 1.25 times as probable
        (Car(52, 20, 102, 100, 0.94), False),
        (Car(53, 20, 103, 100, 0.93), False),  # 94% within
        (Car(0, 0, 50, 59, 0.6), False),  # 29.5% as large: a car far behind
        (Car(0, 0, 50, 61, 0.6), True),
        (Car(200, 0, 290, 90, 0.6), False),
    ],
)
def test_a_part_is_within_not_much_smaller_and_not_surer(other: Car, is_part: bool) -> None:
    assert without_parts([WHOLE, other]) == ([WHOLE] if is_part else [WHOLE, other])


def test_the_most_prominent_car_is_no_part() -> None:
    assert without_parts([WHOLE, WHOLE]) == [WHOLE]
    assert without_parts([FAR]) == [FAR]


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
