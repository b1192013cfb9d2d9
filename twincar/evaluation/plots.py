"""Figures of results, drawn by matplotlib.

Every function returns a `Figure`, and `save` writes it. No window is opened and no global state is changed.

Shapes: K classes, H×W pixels of a photo.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from twincar.core.files import write_bytes
from twincar.core.labels import make_changes
from twincar.core.runs import MONITOR, Epoch, best_epoch
from twincar.core.wording import cut_middle, percent
from twincar.metrics.classification import Interval
from twincar.models.cam.overlay import BLUE

# After the palette of Okabe and Ito, which is safe for colour-blind people; its purple is darkened and its orange left
# out, so that each colour has a contrast of at least 3 to white (WCAG 2.2, 1.4.11).
_BLUE, _GREEN, _RED, _PURPLE, GREY = BLUE, "#009E73", "#D55E00", "#A8517F", "#6e6e6e"
_BEYOND = 0.25  # how far below 0 and above 1 in-distribution scores are drawn
_MANY_CLASSES = 40  # from here on the texts of the confusion matrix are smaller


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, atomically."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=figure.dpi)
    write_bytes(path, buffer.getvalue())


def training_curves(history: Sequence[Epoch]) -> dict[str, Figure]:
    """Four figures over the epochs, each with the best epoch marked; keys are file names without suffix."""
    curves = {
        "curve_accuracy_f1": (
            "Accuracy and macro-F1",
            {"train_acc": "accuracy, train", "val_acc": "accuracy, validation", MONITOR: "macro-F1, validation"},
        ),
        "curve_loss": ("Loss", {"train_loss": "train", "val_loss": "validation"}),
        "curve_precision_recall": (
            "Precision and recall, validation",
            {
                "val_precision_macro": "precision, macro",
                "val_recall_macro": "recall, macro",
                "val_precision_weighted": "precision, weighted",
                "val_recall_weighted": "recall, weighted",
            },
        ),
        "curve_top_k": ("Top-3 and top-5 accuracy, validation", {"val_top3": "top-3", "val_top5": "top-5"}),
    }
    return {name: _curve(history, title, columns) for name, (title, columns) in curves.items()}


def accuracy_bars(names: Sequence[str], accuracies: Sequence[float], support: Sequence[int], title: str) -> Figure:
    """Accuracy of a few classes as horizontal bars, the first on top, with the number of photos of each."""
    figure = new_figure(9, 1.4 + 0.32 * max(len(names), 3))
    axes = figure.subplots()
    rows = np.arange(len(names))
    axes.barh(rows, accuracies, color=_BLUE, height=0.72)
    axes.set_yticks(rows, [cut_middle(name, 46) for name in names])
    axes.set_ylim(max(len(names), 3) - 0.4, -0.6)  # so that a single bar does not fill the figure
    axes.set_xlim(0, 1.18)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    for row, (accuracy, count) in enumerate(zip(accuracies, support, strict=True)):
        axes.text(accuracy + 0.01, row, f"{percent(accuracy, 0)} of {count}", va="center", fontsize=9, color=GREY)
    if not names:
        axes.text(0.5, 0.5, "no class", transform=axes.transAxes, ha="center", color=GREY)
    axes.set_title(title, loc="left", fontweight="bold")
    _tidy(axes, grid="x")
    return figure


def confused_bars(pairs: Sequence[tuple[str, str, int, int]], title: str) -> Figure:
    """Confused pairs of classes: (first, second, photos of first predicted as second, of second predicted as first)."""
    figure = new_figure(11, 1.6 + 0.42 * max(len(pairs), 3))
    axes = figure.subplots()
    rows = np.arange(len(pairs))
    forward, backward = np.array([p[2] for p in pairs], float), np.array([p[3] for p in pairs], float)
    axes.barh(rows, forward, color=_RED, height=0.72, label="first predicted as second")
    axes.barh(rows, backward, left=forward, color=_PURPLE, height=0.72, label="second predicted as first")
    names = [f"{cut_middle(first, 40)}\n{cut_middle(second, 40)}" for first, second, *_ in pairs]
    axes.set_yticks(rows, names, fontsize=8)
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("photos")
    axes.set_title(title, loc="left", fontweight="bold")
    if pairs:
        axes.legend(frameon=False, loc="lower right")
    else:
        axes.text(0.5, 0.5, "no class was confused with another", transform=axes.transAxes, ha="center", color=GREY)
    _tidy(axes, grid="x")
    return figure


def confusion_figure(matrix: NDArray[np.int64], support: NDArray[np.int64], names: Sequence[str], title: str) -> Figure:
    """A confusion matrix, K×K, large enough to read every name: correct predictions are blue, wrong ones orange.

    The darker a cell, the larger its share of the photos of the true class, of which there are `support`, K; its number
    is the count. Lines separate makes. The side grows with K; 300 classes are about the limit.
    """
    classes = len(names)
    many = classes >= _MANY_CLASSES
    side = 5.0 + 0.17 * classes if many else 4.5 + 0.30 * classes
    figure = new_figure(side, side, dpi=110)
    axes = figure.subplots()
    shares = matrix / np.maximum(support, 1)[:, None]
    edges = np.arange(classes + 1) - 0.5
    # imshow would resample the image to the pixels of the figure, in floats: a gigabyte for 196 classes.
    colors = _confusion_colors(shares)
    axes.pcolormesh(edges, edges, colors)
    axes.invert_yaxis()
    axes.set_aspect("equal")
    ticks = np.arange(classes)
    labels = [cut_middle(name, 52) for name in names]
    axes.set_xticks(ticks, labels, rotation=90, fontsize=7 if many else 8.5)
    axes.set_yticks(ticks, labels, fontsize=7 if many else 8.5)
    axes.set_xticks(edges, minor=True)
    axes.set_yticks(edges, minor=True)
    axes.grid(which="minor", color="#ececec", linewidth=0.5)
    for change in make_changes(names):
        axes.axhline(change - 0.5, color=GREY, linewidth=0.8)
        axes.axvline(change - 0.5, color=GREY, linewidth=0.8)
    axes.tick_params(which="both", length=0)
    for row, column in zip(*np.nonzero(matrix), strict=True):
        color = "white" if _is_dark(colors[row, column]) else "black"
        size = 6 if many else 8.5
        axes.text(
            column,
            row,
            str(matrix[row, column]),
            ha="center",
            va="center",
            fontsize=size,
            color=color,
            in_layout=False,
        )
    axes.set_xlabel("predicted", fontsize=2 * side**0.65)
    axes.set_ylabel("true", fontsize=2 * side**0.65)
    axes.set_title(
        f"{title}\nblue: correct, orange: wrong; darker: larger share of the true class",
        loc="left", fontweight="bold", fontsize=2 * side**0.65,
    )  # fmt: skip
    return figure


def _confusion_colors(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """RGBA, K×K×4; even the smallest share is distinguishable from 0."""
    visible = np.where(shares > 0, 0.2 + 0.8 * shares, 0.0)
    colors = np.where(
        np.eye(len(shares), dtype=bool)[..., None], mpl.colormaps["Blues"](visible), mpl.colormaps["Oranges"](visible)
    )
    colors[shares == 0] = 1.0
    return colors


def _is_dark(color: NDArray[np.float64]) -> bool:
    """Whether white is readable on a colour, RGBA from 0 to 1; otherwise black is.

    The relative luminance (WCAG 2.2, with linear channels for a power of 2.2) at which both have the same contrast.
    """
    return float(color[:3] ** 2.2 @ (0.2126, 0.7152, 0.0722)) < math.sqrt(1.05 * 0.05) - 0.05


def robustness_figure(clean: Interval, corrupted: Mapping[str, Sequence[Interval]], title: str) -> Figure:
    """Accuracy under each corruption by severity, with intervals, compared with that on clean photos."""
    columns = min(4, len(corrupted))
    rows = -(-len(corrupted) // columns)
    figure = new_figure(max(3 * columns + 0.6, 9), 2.4 * rows + 0.9)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    highest = max(score.high for scores in ([clean], *corrupted.values()) for score in scores)
    for axes, (name, scores) in zip(grid, corrupted.items(), strict=False):
        severities, values = np.arange(len(scores)) + 1, np.array([score.value for score in scores])
        errors = np.abs([[score.low, score.high] for score in scores] - values[:, None]).T
        axes.axhline(clean.value, color=GREY, linewidth=1.2, linestyle="--", label="clean photos")
        axes.errorbar(
            severities, values, yerr=errors, color=_BLUE, linewidth=2, marker="o", capsize=3, label="corrupted"
        )
        axes.set_title(name.replace("_", " "), loc="left", fontsize=10)
        axes.set_xticks(severities, [str(severity) for severity in severities] if len(scores) > 1 else ["as given"])
        axes.set_xlim(0.5, len(scores) + 0.5)
        axes.set_ylim(0, 1.05 * highest)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        _tidy(axes, grid="y")
    for axes in grid[len(corrupted) :]:
        axes.axis("off")
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower right", ncols=2, frameon=False)
    if any(len(scores) > 1 for scores in corrupted.values()):
        figure.supxlabel("severity", fontsize=10)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    return figure


def reliability_figure(series: Mapping[str, Sequence[tuple[float, float, int]]], title: str) -> Figure:
    """Reliability diagrams side by side, by title: bins as (confidence, accuracy, photos).

    The height of a bar is the accuracy of its bin, which should end at the diagonal. The darker, the more photos.
    """
    figure = new_figure(5.2 * len(series), 5.4)
    figure.suptitle(title, fontweight="bold", fontsize=11)
    most = max(photos for bins in series.values() for *_, photos in bins)
    for axes, (label, bins) in zip(figure.subplots(1, len(series), squeeze=False).flat, series.items(), strict=True):
        for confidence, accuracy, photos in bins:
            axes.bar(confidence, accuracy, width=0.05, color=_BLUE, alpha=0.25 + 0.75 * photos / most)
            axes.bar(confidence, accuracy, width=0.05, fill=False, edgecolor=_BLUE)
            axes.annotate(str(photos), (confidence, accuracy), (0, 2), textcoords="offset points", ha="center", size=7)
        axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
        axes.set(xlim=(0, 1.03), ylim=(0, 1.08), xlabel="confidence", ylabel="accuracy", aspect="equal")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_title(label, fontsize=10)
        _tidy(axes, grid="both")
    return figure


def risk_coverage_figure(coverage: Sequence[float], risk: Sequence[float], title: str) -> Figure:
    """The error rate of the most confident predictions, by the share of photos that is kept."""
    figure = new_figure(7, 4.2)
    axes = figure.subplots()
    axes.plot(coverage, risk, color=_BLUE, linewidth=2, drawstyle="steps-post")
    axes.set(xlim=(0, 1.01), ylim=(0, None), xlabel="share of photos kept, most confident first", ylabel="error rate")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_title(title, loc="left", fontweight="bold")
    _tidy(axes, grid="both")
    return figure


def score_figure(scores: Mapping[str, NDArray[np.float32]], threshold: float) -> Figure:
    """The in-distribution scores of each kind of photo: one row per kind, one dot per photo.

    A line marks the threshold below which photos are rejected; beside each name is the share that is accepted.
    """
    figure = new_figure(9, 1.6 + 0.5 * len(scores))
    axes = figure.subplots()
    rng = np.random.default_rng(0)
    for row, values in enumerate(scores.values()):
        height = row + rng.uniform(-0.3, 0.3, len(values))
        axes.scatter(
            values.clip(-_BEYOND, 1 + _BEYOND),
            height,
            s=7,
            color=_BLUE if row == 0 else _RED,
            alpha=0.8,
            linewidths=0,
        )
    labels = [
        f"{name}: {percent(float((values >= threshold).mean()), 0)} of {len(values)} accepted"
        for name, values in scores.items()
    ]
    axes.set_yticks(range(len(scores)), labels)
    axes.invert_yaxis()
    axes.axvline(threshold, color="black", linestyle="--", linewidth=1)
    axes.set_xlabel("in-distribution score: share of validation photos that score lower")
    # Scores outside the range of all validation photos are drawn below 0 and above 1, where there are no shares.
    axes.set_xlim(-1.1 * _BEYOND, 1 + 1.1 * _BEYOND)
    shares = np.linspace(0, 1, 6)
    ticks = [-_BEYOND, *shares, 1 + _BEYOND]
    axes.set_xticks(ticks, ["less than\nall of them", *(f"{share:.0%}" for share in shares), "more than\nall of them"])
    axes.set_title("How much photos look like a known car", loc="left", fontweight="bold")
    _tidy(axes, grid="x")
    return figure


def removal_curves(curves: Mapping[str, Mapping[str, NDArray[np.float32]]], title: str) -> Figure:
    """Mean probability of the predicted class by share of replaced pixels: one panel per curve, one line per map."""
    figure = new_figure(10, 4.2)
    panels = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    for axes, (kind, lines) in zip(panels, curves.items(), strict=True):
        for (name, curve), color in zip(lines.items(), (_BLUE, _RED, GREY), strict=False):
            axes.plot(np.linspace(0, 1, len(curve)), curve, color=color, linewidth=2, label=name)
        axes.set_title(kind, fontsize=10)
        axes.set_xlabel("pixels replaced, highest first")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_ylim(0, 1.02)
        _tidy(axes, grid="both")
    panels[0].set_ylabel("probability of the predicted class")
    panels[0].legend(frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=11, fontweight="bold")
    return figure


def _curve(history: Sequence[Epoch], title: str, columns: dict[str, str]) -> Figure:
    figure = new_figure(8, 4.6)
    axes = figure.subplots()
    epochs = [row["epoch"] for row in history]
    best = best_epoch(history)
    colors = (_BLUE, _RED, _GREEN, _PURPLE)
    for (column, label), color in zip(columns.items(), colors, strict=False):
        values = [row[column] for row in history]
        axes.plot(epochs, values, color=color, linewidth=2, marker="o", markersize=3.5, label=label)
        axes.plot(best["epoch"], best[column], "o", color=color, markersize=8, markeredgecolor="black")
    axes.axvline(best["epoch"], color=GREY, linewidth=1, linestyle="--", label=f"best epoch: {best['epoch']:.0f}")
    axes.set_title(title, loc="left", fontweight="bold")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if "loss" in title.lower():
        axes.set_ylabel("cross-entropy, nats")
        axes.set_ylim(bottom=0)
    else:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_ylim(0, 1.02)
    axes.legend(frameon=False, fontsize=9)
    _tidy(axes, grid="both")
    return figure


def new_figure(width: float, height: float, dpi: int = 120) -> Figure:
    """An empty figure; width and height in inches."""
    return Figure(figsize=(width, height), dpi=dpi, layout="constrained")


def _tidy(axes: Axes, grid: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="#e4e4e4", linewidth=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
