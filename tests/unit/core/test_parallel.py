from __future__ import annotations

from collections.abc import Iterator
from threading import Event

import pytest

from twincar.core.parallel import map_ahead


def test_results_are_in_the_order_of_the_items() -> None:
    last_begun = Event()

    def work(number: int) -> int:
        if number == 3:
            last_begun.set()
        assert number or last_begun.wait(60)  # the first is finished last
        return number**2

    assert list(map_ahead(work, range(4), threads=4, ahead=4)) == [0, 1, 4, 9]


def test_items_are_taken_no_further_ahead_than_allowed() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(50):
            taken.append(number)
            yield number

    results = map_ahead(str, items(), threads=2, ahead=5)
    assert taken == []
    assert next(results) == "0"
    assert len(taken) == 6
    assert len(list(results)) == 49


def test_an_error_comes_in_its_place_and_ends_the_work() -> None:
    worked: list[int] = []

    def work(number: int) -> float:
        worked.append(number)
        return 1 / (number - 2)

    results = map_ahead(work, range(1000), threads=1, ahead=3)
    assert [next(results), next(results)] == [-0.5, -1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert len(worked) <= 5
