"""Golden copies hold words, and a changed word is noticed."""

from __future__ import annotations

from pathlib import Path

import golden_copies
import pytest

PAGE = """<html><style>p { color: red }</style><h1>A  car</h1><p>It is <b>12.5%</b> sure,
on 28 November 2026 &amp; later.</p><img alt="a heat map" src="data:,x"><script>let x</script>"""


def test_a_page_is_its_words() -> None:
    text = golden_copies.words_of(PAGE)
    assert golden_copies.without_figures(text) == "A car\nIt is #% sure, on <date> & later.\n[a heat map]\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("apache-2.0, 1-2.png", "apache-#, #-#.png"),
        ("-1.5 to 1,200", "# to #"),
        ("BMW M3, top3", "BMW M3, top3"),
        ("1.3333333333333333", "#"),
        ("4a349c36dc47b3586177a11672eedb90561fd272", "<hash>"),
    ],
)
def test_figures_do_not_count(text: str, expected: str) -> None:
    assert golden_copies.without_figures(text) == f"{expected}\n"


def test_a_changed_word_is_noticed_until_the_copy_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden_copies, "FOLDER", tmp_path)
    with pytest.raises(AssertionError, match="no golden copy"):
        golden_copies.check("page", "3 cars", renew=False)
    golden_copies.check("page", "3 cars", renew=True)
    golden_copies.check("page", "4 cars", renew=False)
    with pytest.raises(AssertionError, match="--renew-golden"):
        golden_copies.check("page", "3 trucks", renew=False)


def test_every_golden_copy_has_a_test() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("*/test_*.py"))
    copies = list(golden_copies.FOLDER.glob("*.txt"))
    assert copies
    assert all(f'golden("{copy.stem}"' in tests for copy in copies)
