"""The colours of pages and figures are readable: WCAG 2.2 AA, by its own formula, in light and in dark."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import twincar
from twincar.evaluation.plots import _confusion_colors, _is_dark

TWINCAR = Path(twincar.__file__).parent
PAGES = TWINCAR / "assets" / "pages"
TEXT, GRAPHICS = 4.5, 3.0  # WCAG 2.2, 1.4.3 and 1.4.11
Colour = tuple[float, float, float]


def rgb(colour: str) -> Colour:
    """0 to 255, of '#rrggbb'."""
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return red, green, blue


def luminance(colour: Colour) -> float:
    """Relative luminance, as WCAG 2.2 defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: Colour, second: Colour) -> float:
    """Contrast ratio, 1 to 21, as WCAG 2.2 defines it."""
    darker, lighter = sorted((luminance(first), luminance(second)))
    return (lighter + 0.05) / (darker + 0.05)


def over(colour: Colour, opacity: float, ground: Colour) -> Colour:
    """A colour that lies over another, as a browser blends them."""
    red, green, blue = (opacity * a + (1 - opacity) * b for a, b in zip(colour, ground, strict=True))
    return red, green, blue


def palette(scheme: str, *files: str) -> dict[str, str]:
    """The custom properties of style sheets in a scheme."""
    found: dict[str, str] = {}
    for file in files:
        sheet = (PAGES / file).read_text(encoding="utf-8")
        dark = re.search(r"prefers-color-scheme: dark\) \{\s*:root \{(.*?)\}", sheet, re.DOTALL)
        light = re.search(r"^:root \{(.*?)\}", sheet, re.DOTALL | re.MULTILINE)
        assert dark
        assert light
        found |= dict(re.findall(r"--(\w+): ([^;]+);", light[1] + (dark[1] if scheme == "dark" else "")))
    return found


def test_the_formula_gives_known_ratios() -> None:
    assert contrast(rgb("#000000"), rgb("#ffffff")) == pytest.approx(21)
    assert contrast(rgb("#777777"), rgb("#ffffff")) == pytest.approx(4.48, abs=0.005)  # the known near miss
    assert contrast(rgb("#ff0000"), rgb("#ffffff")) == pytest.approx(4.00, abs=0.005)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_on_every_ground(scheme: str) -> None:
    colors = palette(scheme, "base.html.jinja", "compare.html.jinja")
    assert len(colors) == 11
    texts, grounds = ("ink", "soft", "accent", "good", "bad", "first", "second"), ("ground", "card", "wash")
    low = {
        (text, ground): round(ratio, 2)
        for text in texts
        for ground in grounds
        if (ratio := contrast(rgb(colors[text]), rgb(colors[ground]))) < TEXT
    }
    assert low == {}


def hex_colors(module: str) -> set[str]:
    return set(re.findall(r"#[0-9a-fA-F]{6}\b", (TWINCAR / module).read_text(encoding="utf-8")))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_colors_of_the_report_s_figures_stand_out(scheme: str) -> None:
    ground = rgb(palette(scheme, "base.html.jinja")["ground"])
    found = hex_colors("evaluation/report/figures.py")
    assert len(found) > 10
    assert {color: ratio for color in found if (ratio := contrast(rgb(color), ground)) < GRAPHICS} == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("share", [0.0, 0.35, 0.6, 1.0])
def test_the_counts_of_the_matrix_are_readable(scheme: str, share: float) -> None:
    colors = palette(scheme, "base.html.jinja", "report.css")
    ground, ink = rgb(colors["ground"]), rgb(colors["ink"])
    source = (TWINCAR / "evaluation/report/figures.py").read_text(encoding="utf-8")
    ends = re.search(r'"colorscale": \[\[0, "(#\w+)"\].*\[1, "(#\w+)"\]\]', source)
    assert ends
    for color in ends.groups():
        cell = over(rgb(color), share * float(colors["cells"]), ground)
        assert contrast(cell, ink) >= TEXT
        assert share < 1 or contrast(cell, ground) >= GRAPHICS


def test_plots_on_white_are_readable() -> None:
    grid_lines = {"#ececec", "#e4e4e4"}
    found = hex_colors("evaluation/plots.py") | hex_colors("evaluation/overlay_figures.py") | {twincar_blue()}
    white = rgb("#ffffff")
    assert {color for color in found - grid_lines if contrast(rgb(color), white) < GRAPHICS} == set()
    for share in np.linspace(0.01, 1, 34):
        for color in _confusion_colors(np.array([[share, share], [share, share]])).reshape(-1, 4)[:2]:
            cell = tuple(255 * color[:3])
            assert contrast(cell, rgb("#ffffff" if _is_dark(color) else "#000000")) >= TEXT


def twincar_blue() -> str:
    from twincar.models.cam.overlay import BLUE

    return BLUE
