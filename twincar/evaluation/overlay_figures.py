"""Figures of photos with heat maps over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from twincar.core.wording import cut_middle, percent
from twincar.evaluation.plots import GREY, new_figure
from twincar.models.cam.overlay import contrast_overlay, heat_overlay

_PANEL = 3.9  # width of an overlay in a grid, inches


@dataclass(frozen=True)
class ExplainedPhoto:
    """A photo with the heat map of the predicted class."""

    photo: NDArray[np.uint8]
    """H×W×3."""
    heatmap: NDArray[np.float32]
    """h×w, 0 to 1, of any size; it covers `visible_box`."""
    visible_box: tuple[float, float, float, float]
    """Left, top, right, bottom of the part that the network saw, pixels of the photo."""
    predicted: str
    confidence: float
    truth: str | None = None


@dataclass(frozen=True)
class ContrastedPhoto:
    """A photo with the contrast maps of two classes."""

    photo: NDArray[np.uint8]
    """H×W×3."""
    caption: str
    heatmap: NDArray[np.float32]
    """Grad-CAM++ of the predicted class, 0 to 1; it covers `visible_box`, as do the next two."""
    cam_contrast: NDArray[np.float32]
    """Finer-CAM, signed, in logits: evidence for the first class and, below 0, for the second."""
    occlusion_contrast: NDArray[np.float32]
    """The same by hiding parts of the photo (occlusion), which is finer."""
    visible_box: tuple[float, float, float, float]
    """Left, top, right, bottom of the part that the network saw, pixels of the photo."""

    def panels(self) -> dict[str, NDArray[np.uint8]]:
        """The photo and its three overlays, each H×W×3, by title."""
        return {
            "photo": self.photo,
            "evidence for the prediction (Grad-CAM++)": heat_overlay(self.photo, self.heatmap, self.visible_box),
            "contrast of the two, by cell (Finer-CAM)": contrast_overlay(
                self.photo, self.cam_contrast, self.visible_box
            ),
            "contrast of the two, by hiding parts": contrast_overlay(
                self.photo, self.occlusion_contrast, self.visible_box
            ),
        }


def overlay(item: ExplainedPhoto) -> NDArray[np.uint8]:
    """The photo with its heat map over it, H×W×3; the parts that the network did not see are darkened."""
    return heat_overlay(item.photo, item.heatmap, item.visible_box)


def explanation_figure(item: ExplainedPhoto) -> Figure:
    """The photo and its overlay side by side, with the class names above."""
    height, width = item.photo.shape[:2]
    panel = 4.5
    figure = new_figure(2 * panel + 0.3, panel * height / width + 0.9)
    for axes, image in zip(figure.subplots(1, 2), (item.photo, overlay(item)), strict=True):
        axes.imshow(image)
        axes.axis("off")
    text, color = _title(item, 70)
    figure.suptitle(text, color=color, fontsize=11, fontweight="bold")
    return figure


def explanation_grid(items: Sequence[ExplainedPhoto], columns: int = 4) -> Figure:
    """Overlays of several photos; titles are green if right, red if wrong, black if the truth is unknown."""
    columns = max(1, min(columns, len(items)))
    starts = range(0, len(items), columns)
    heights = [_panel_height(items[start : start + columns]) for start in starts]
    figure = new_figure(_PANEL * columns, sum(heights))
    grid = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights)
    for axes in grid.flat:
        axes.axis("off")
        axes.set_anchor("N")  # titles of a row are at one height
    for axes, item in zip(grid.flat, items, strict=False):
        axes.imshow(overlay(item))
        text, color = _title(item, 36)
        axes.set_title(text, color=color, fontsize=9, fontweight="bold")
    return figure


def contrast_grid(items: Sequence[ContrastedPhoto], title: str) -> Figure:
    """One row per photo, one column per kind of map; orange is evidence for the first class, blue for the second."""
    shown = [item.panels() for item in items]
    names = list(shown[0])
    heights = [3.4 * item.photo.shape[0] / item.photo.shape[1] + 0.3 for item in items]
    figure = new_figure(3.4 * len(names), sum(heights) + 0.6, dpi=80)
    grid = figure.subplots(len(items), len(names), squeeze=False, height_ratios=heights)
    for axes, image in zip(grid.flat, (image for row in shown for image in row.values()), strict=True):
        axes.imshow(image)
        axes.axis("off")
    for axes, name in zip(grid[0], names, strict=True):
        axes.set_title(name, fontsize=9, color=GREY)
    for axes, item in zip(grid[:, 0], items, strict=True):
        axes.text(0, -0.03, cut_middle(item.caption, 90), transform=axes.transAxes, va="top", fontsize=9)
    figure.suptitle(title, fontsize=11, fontweight="bold")
    return figure


def _panel_height(row: Sequence[ExplainedPhoto]) -> float:
    """The height of a row of overlays with its titles, inches."""
    tallest: float = max(item.photo.shape[0] / item.photo.shape[1] for item in row)
    return _PANEL * min(tallest, 1.5) + 0.4


def _title(item: ExplainedPhoto, width: int) -> tuple[str, str]:
    text = f"{cut_middle(item.predicted, width)} ({percent(item.confidence, 0)})"
    if item.truth is None:
        return text, "black"
    if item.truth == item.predicted:
        return text, "#1a7f37"
    return f"{text}\ntrue: {cut_middle(item.truth, width)}", "#c4180c"
