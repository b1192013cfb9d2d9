"""Photos with heat maps over them, as figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from twincar.core.wording import cut_middle, percent
from twincar.evaluation.plots import GREY, new_figure
from twincar.models.cam.overlay import contrast_overlay, heat_overlay


@dataclass(frozen=True)
class Explained:
    """One photo with the heat map of what was looked at."""

    photo: NDArray[np.uint8]
    """H×W×3."""
    heatmap: NDArray[np.float32]
    """0 to 1, of any size; it covers `seen`."""
    visible_box: tuple[float, float, float, float]
    """Left, top, right, bottom of what the network saw, pixels of the photo."""
    predicted: str
    confidence: float
    truth: str | None = None


@dataclass(frozen=True)
class Contrasted:
    """One photo between two classes: what it shows, and what in it speaks for which."""

    photo: NDArray[np.uint8]
    """H×W×3."""
    caption: str
    heatmap: NDArray[np.float32]
    """Grad-CAM++ of the answer, 0 to 1, of any size; as the next two, it covers `seen`."""
    cells: NDArray[np.float32]
    """Signed, in logits, of any size: what speaks for the first class and, below 0, for the second."""
    hiding: NDArray[np.float32]
    """The same by hiding parts of the photo, which is finer."""
    visible_box: tuple[float, float, float, float]
    """Left, top, right, bottom of what the network saw, pixels of the photo."""

    def pictures(self) -> dict[str, NDArray[np.uint8]]:
        """What there is to see, each H×W×3, under its name."""
        return {
            "photo": self.photo,
            "what the answer rests on (Grad-CAM++)": heat_overlay(self.photo, self.heatmap, self.visible_box),
            "contrast of the two, by cell (Finer-CAM)": contrast_overlay(self.photo, self.cells, self.visible_box),
            "contrast of the two, by hiding parts": contrast_overlay(self.photo, self.hiding, self.visible_box),
        }


def overlay(explained: Explained) -> NDArray[np.uint8]:
    """The photo, H×W×3, in its own proportions under its heat map; what the network did not see is darkened."""
    return heat_overlay(explained.photo, explained.heatmap, explained.visible_box)


def explanation_figure(explained: Explained) -> Figure:
    """The photo and its overlay side by side, with the names above."""
    height, width = explained.photo.shape[:2]
    panel = 4.5
    figure = new_figure(2 * panel + 0.3, panel * height / width + 0.9)
    for axes, picture in zip(figure.subplots(1, 2), (explained.photo, overlay(explained)), strict=True):
        axes.imshow(picture)
        axes.axis("off")
    text, colour = _title(explained, 70)
    figure.suptitle(text, color=colour, fontsize=11, fontweight="bold")
    return figure


def explanation_grid(items: Sequence[Explained], columns: int = 4) -> Figure:
    """Overlays of several photos; titles green where right, red where wrong, black where the truth is not known."""
    columns = max(1, min(columns, len(items)))
    rows = -(-len(items) // columns)
    tallest = max(item.photo.shape[0] / item.photo.shape[1] for item in items)
    figure = new_figure(3.9 * columns, (3.9 * min(tallest, 1.5) + 0.5) * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, item in zip(grid.flat, items, strict=False):
        axes.imshow(overlay(item))
        text, colour = _title(item, 36)
        axes.set_title(text, color=colour, fontsize=9, fontweight="bold")
    return figure


def contrast_grid(items: Sequence[Contrasted], title: str) -> Figure:
    """A row a photo, a column a kind of picture; orange speaks for the first class of the pair, blue for the second."""
    shown = [item.pictures() for item in items]
    names = list(shown[0])
    heights = [3.4 * item.photo.shape[0] / item.photo.shape[1] + 0.3 for item in items]
    figure = new_figure(3.4 * len(names), sum(heights) + 0.6, dpi=80)
    grid = figure.subplots(len(items), len(names), squeeze=False, height_ratios=heights)
    for axes, picture in zip(grid.flat, (picture for row in shown for picture in row.values()), strict=True):
        axes.imshow(picture)
        axes.axis("off")
    for axes, name in zip(grid[0], names, strict=True):
        axes.set_title(name, fontsize=9, color=GREY)
    for axes, item in zip(grid[:, 0], items, strict=True):
        axes.text(0, -0.03, cut_middle(item.caption, 90), transform=axes.transAxes, va="top", fontsize=9)
    figure.suptitle(title, fontsize=11, fontweight="bold")
    return figure


def _title(explained: Explained, width: int) -> tuple[str, str]:
    answer = f"{cut_middle(explained.predicted, width)} ({percent(explained.confidence, 0)})"
    if explained.truth is None:
        return answer, "black"
    if explained.truth == explained.predicted:
        return answer, "#1a7f37"
    return f"{answer}\ntrue: {cut_middle(explained.truth, width)}", "#c4180c"
