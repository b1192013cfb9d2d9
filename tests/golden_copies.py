"""Golden copies of pages: their words and their order, without figures, dates and hashes.

`python -m pytest --renew-golden` writes them anew; `git diff tests/golden` then shows what has changed.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

FOLDER = Path(__file__).with_name("golden")
_INLINE = {"a", "abbr", "b", "br", "code", "em", "i", "kbd", "mark", "small", "span", "strong", "sub", "sup"}
_UNSHOWN = {"script", "style", "template"}
_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"


class _Words(HTMLParser):
    """What a page shows, a line for each block."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.unshown = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.unshown += tag in _UNSHOWN
        self.text += [] if tag in _INLINE else ["\n"]
        self.text += [f"[{value}]\n" for name, value in attrs if name == "alt" and value]

    def handle_endtag(self, tag: str) -> None:
        self.unshown -= tag in _UNSHOWN
        self.text += [] if tag in _INLINE else ["\n"]

    def handle_data(self, data: str) -> None:
        self.text += [] if self.unshown else [re.sub(r"\s+", " ", data)]


def words_of(page: str) -> str:
    """The words of an HTML page."""
    words = _Words()
    words.feed(page)
    return "".join(words.text)


def without_figures(text: str) -> str:
    """The text with `#` for each number, `<hash>` for each hash and `<date>` for each date, and without empty lines."""
    text = re.sub(r"\b(?=\d*[a-f])[0-9a-f]{12,64}\b", "<hash>", text)
    text = re.sub(r"(?<!\w)[+−-]?(?<![\w.])\d+(?:[.,]\d+)*", "#", text)
    text = re.sub(rf"# (?:{_MONTHS}) #", "<date>", text)
    return "\n".join(line for line in (" ".join(line.split()) for line in text.splitlines()) if line) + "\n"


def check(name: str, text: str, *, renew: bool) -> None:
    """Compare a text with its golden copy, or renew that."""
    copy, found = FOLDER / f"{name}.txt", without_figures(text)
    if renew:
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(found, encoding="utf-8")
    assert copy.exists(), f"no golden copy {copy}; python -m pytest --renew-golden makes it"
    expected = copy.read_text(encoding="utf-8").splitlines()
    assert found.splitlines() == expected, "if it is meant: python -m pytest --renew-golden; git diff tests/golden"
