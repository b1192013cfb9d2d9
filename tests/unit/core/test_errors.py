"""One line of an error, to quote in a sentence."""

from __future__ import annotations

import pytest

from twincar.core.errors import reason


@pytest.mark.parametrize(
    ("error", "first", "last"),
    [
        (ValueError("disk gone."), "disk gone", "disk gone"),
        (RuntimeError("\n  Cannot open:\n\n\tat line 3\nno such node. \n"), "Cannot open", "no such node"),
        (KeyError(), "KeyError", "KeyError"),
        (OSError(" \n"), "OSError", "OSError"),
    ],
)
def test_one_line_of_a_message_without_its_full_stop(error: Exception, first: str, last: str) -> None:
    assert (reason(error), reason(error, last=True)) == (first, last)
