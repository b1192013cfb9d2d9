"""Draws every speed-up in `results.md` as a bar, with its range.

python -m benchmarks.speed.picture [FOLDER]
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

HERE = Path(__file__).parents[1]
_RATIO = re.compile(r"^([\d.]+) \(([\d.]+) to ([\d.]+)\)$")


@dataclass(frozen=True)
class Bar:
    """One speed-up over the baseline."""

    name: str
    times: float
    low: float
    high: float


def draw_ratios(results: Path, picture: Path) -> None:
    """Read the tables of `results` and draw the speed-ups in them."""
    bars = [bar for bar in read_ratios(results.read_text(encoding="utf-8")) if not bar.name.endswith("baseline")]
    figure = Figure(figsize=(8, 0.8 + 0.32 * len(bars)), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(bars), 0, -1)
    times = [bar.times for bar in bars]
    # The ratio of medians may lie outside the rounds' own ratios.
    spread = [[max(0, bar.times - bar.low) for bar in bars], [max(0, bar.high - bar.times) for bar in bars]]
    axes.barh(places, times, height=0.6, color="#4878a8")
    axes.errorbar(times, places, xerr=spread, fmt="none", ecolor="#333333", capsize=2, linewidth=1)
    for place, bar in zip(places, bars, strict=True):
        axes.annotate(
            f"{bar.times:.1f}", (bar.high, place), (6, 0), textcoords="offset points", va="center", fontsize=9
        )
    axes.axvline(1, color="#b03030", linewidth=1)
    axes.set_yticks(list(places), [bar.name for bar in bars])
    axes.set_xlabel("speed-up over the baseline (red line); thin lines: lowest and highest round")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(picture, dpi=120)


def read_ratios(markdown: str) -> list[Bar]:
    """Cells of the form '5.2 (4.9 to 5.6)', named by section, row, and the header of the column before."""
    bars = []
    section, header = "", [""]
    for line in markdown.splitlines():
        if line.startswith("## "):
            section, header = line[3:], []
        if not line.startswith("| "):
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not header:
            header = cells
        columns = [column for column, cell in enumerate(cells) if _RATIO.match(cell)]
        for column in columns:
            what = f", {header[column - 1].split(',')[0]}" if len(columns) > 1 else ""
            numbers = _RATIO.match(cells[column])
            assert numbers
            bars.append(Bar(f"{section}{what}: {cells[0]}", *map(float, numbers.groups())))
    return bars


def main() -> None:
    """Redraw the figure of a folder with results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.picture", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=HERE, help="where results.md is")
    folder = parser.parse_args().folder
    draw_ratios(folder / "results.md", folder / "results" / "ratios.png")


if __name__ == "__main__":
    main()
