"""The documentation's site builds strictly, asks no other host for anything, and searches when opened from a disk."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import axe
import pytest
from conftest import DESKTOP, PHONE
from test_docs import ROOT

from twincar.core.options import CONFIDENCE

FETCHED = re.compile(
    r"<(?:script|link|img|iframe|source|object|embed)\b[^>]*?(?:src|href|data|srcset)=[\"']?([^\"'\s>]+)"
)
IN_STYLES = re.compile(r"(?:@import\s+|url\()[\"']?([^\"')\s]+)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make docs` does; dead links and anchors are errors."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


def test_every_page_of_docs_is_there(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    built = {path.relative_to(site) for path in site.rglob("*.html")}
    assert pages < built
    assert Path("benchmarks/results.html") in built
    assert not list(site.glob("*.py"))


def test_the_reference_shows_what_is_public(site: Path) -> None:
    import twincar

    text = " ".join(path.read_text(encoding="utf-8") for path in site.glob("reference/**/*.html"))
    anchors = set(re.findall(r'id="(twincar[\w.]*)"', text))
    names = {name for name in twincar.__all__ if not name.startswith("__")}
    assert names <= {anchor.rpartition(".")[2] for anchor in anchors}


def test_a_default_is_shown_by_its_value(site: Path) -> None:
    page = (site / "reference" / "prediction.html").read_text(encoding="utf-8")
    assert f"min_confidence: float = {CONFIDENCE}," in re.sub("<[^>]+>", "", page)


def test_nothing_comes_from_another_host(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    for page in pages:
        named = FETCHED.findall(page.read_text(encoding="utf-8"))
        assert named
        assert not [address for address in named if "//" in address and not address.startswith("data:")], page.name
    for style in site.rglob("*.css"):
        named = IN_STYLES.findall(style.read_text(encoding="utf-8"))
        assert not [address for address in named if address.startswith(("http:", "https:", "//"))], style.name


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_pages_open_from_a_disk_without_a_request(site: Path, browser: Any, viewport: dict[str, int]) -> None:
    trouble: list[str] = []
    context = browser.new_context(viewport=viewport)
    context.set_default_timeout(10_000)
    context.on("request", lambda request: None if request.url.startswith("file:") else trouble.append(request.url))
    tab = context.new_page()
    tab.on("console", lambda message: trouble.append(message.text))
    tab.on("pageerror", lambda error: trouble.append(str(error)))
    for name in ("index", "how_it_works", "command_line", "reference/index", "reference/functions/evaluate"):
        tab.goto((site / f"{name}.html").as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    context.close()
    assert trouble == []


def test_the_search_works_from_a_disk(site: Path, browser: Any) -> None:
    context = browser.new_context(viewport=DESKTOP)
    context.set_default_timeout(10_000)
    tab = context.new_page()
    tab.goto((site / "index.html").as_uri())
    tab.click(".md-search__input")
    tab.keyboard.type("temperature")
    tab.locator(".md-search-result__link[href*='reliability.html']").first.wait_for()
    context.close()


def test_axe_finds_no_fault_of_accessibility(site: Path, browser: Any) -> None:
    pages = ("index", "command_line", "reference/prediction", "deploy", "reliability", "evaluate")
    found = {name: axe.faults(browser, site / f"{name}.html", DESKTOP) for name in pages}
    assert {name: faults for name, faults in found.items() if faults} == {}
