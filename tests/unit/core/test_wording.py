"""What people read is never wrong by rounding, by a plural, or by what was cut off."""

from __future__ import annotations

import pytest

from twincar.core.labels import stanford_cars
from twincar.core.wording import cut_middle, percent


def test_only_nothing_is_0_percent_and_only_all_is_100() -> None:
    assert [percent(share) for share in (0, 0.0004, 0.0006, 0.9994, 0.99951, 1)] == [
        "0.0%", "<0.1%", "0.1%", "99.9%", ">99.9%", "100.0%"
    ]  # fmt: skip
    assert [percent(share, 0) for share in (0, 0.004, 0.996, 1)] == ["0%", "<1%", ">99%", "100%"]
    assert percent(None) == "–"


@pytest.mark.parametrize("width", [20, 21, 36])
def test_a_name_that_is_cut_keeps_its_make_and_its_year(width: int) -> None:
    long = [name for name in stanford_cars() if len(name) > width]
    assert long
    for name in long:
        cut = cut_middle(name, width)
        assert len(cut) == width
        assert (cut[:6], cut[-4:]) == (name[:6], name[-4:])
    assert cut_middle("Audi TT RS Coupe 2012", 21) == "Audi TT RS Coupe 2012"
