"""Numbers in, figures out, as the plain dictionaries that Plotly draws.

Grounds and texts are coloured by the page's style sheet, in its light and its dark dress; the colours here are those of
the data and read well on both. Names are escaped, because Plotly takes tags in texts for markup.

Shapes: K classes.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twincar.core.runs import Epoch, best_epoch
from twincar.evaluation.report.artifacts import Corruptions
from twincar.metrics.reliability import CalibrationReport, ReliabilityBin, RiskCoverage

Figure = dict[str, Any]

# Okabe and Ito's palette, which stays apart for colour-blind eyes, lightened where it is too dark for a dark ground.
_BLUE, _ORANGE, _GREEN, _PINK, _GREY = "#2f8fd0", "#e28b1f", "#18a57d", "#cc79a7", "#8b9299"
_SEVERITIES = ("#f5c26b", "#eba23e", "#dd7f1d", "#bd5c0f", "#8f3f0c")
_FEW_CLASSES = 30  # up to here the cells of the matrix have room for their counts
_FEW_EPOCHS = 12  # up to here each gets a tick
_SHORTEST, _LONGEST = 400, 1000  # height of the matrix, pixels
_CELL = 26  # pixels of the matrix a class, where there is room


def loss_curves(history: Sequence[Epoch]) -> Figure:
    """Cross-entropy in training and on validation."""
    lines = {"train_loss": ("training", _GREY), "val_loss": ("validation", _BLUE)}
    return _curves(history, lines, {"title": {"text": "cross-entropy, nats"}, "rangemode": "tozero"}, ".3f")


def quality_curves(history: Sequence[Epoch]) -> Figure:
    """Accuracy, macro-F1 and top-5 on validation, and accuracy in training."""
    lines = {
        "val_top5": ("top-5, validation", _PINK),
        "val_acc": ("accuracy, validation", _BLUE),
        "val_f1_macro": ("macro-F1, validation", _GREEN),
        "train_acc": ("accuracy, training", _GREY),
    }
    return _curves(history, lines, {"range": [0, 1.02], "tickformat": ".0%"}, ".1%")


def confusion(matrix: NDArray[np.int64], support: NDArray[np.int64], names: Sequence[str]) -> Figure:
    """A confusion matrix, K×K: right answers blue, wrong ones orange.

    The stronger the colour of a cell, the larger its share of the class's photos, of which there are `support`, K; its
    number is the count.
    """
    shares = matrix / np.maximum(support, 1)[:, None]
    visible = np.where(shares > 0, 0.35 + 0.65 * shares, 0)  # even the smallest share is told from none
    signs = 2 * np.eye(len(names)) - 1  # right answers above 0, wrong ones below
    labels = [_text(name) for name in names]
    cells: Figure = {
        "type": "heatmap",
        "x": labels,
        "y": labels,
        "z": (visible * signs).round(3).tolist(),
        "customdata": matrix.tolist(),
        "zmin": -1,
        "zmax": 1,
        "colorscale": [[0, "#dd6b10"], [0.5, "rgba(221,107,16,0)"], [0.5, "rgba(47,143,208,0)"], [1, "#2f8fd0"]],
        "showscale": False,
        "hovertemplate": "true: <b>%{y}</b><br>answered: <b>%{x}</b><br>photos: <b>%{customdata}</b><extra></extra>",
    }
    if len(names) <= _FEW_CLASSES:
        cells |= {"text": [[str(count or "") for count in row] for row in matrix.tolist()], "texttemplate": "%{text}"}
        cells |= {"xgap": 1, "ygap": 1}
    side = min(max(_CELL * len(names) + 240, _SHORTEST), _LONGEST)
    axis = {"automargin": True, "showgrid": False, "ticks": "", "ticklabelstandoff": 5, "type": "category"}
    axis |= {"tickfont": {"size": 11}}
    return {
        "data": [cells],
        "layout": {
            "height": side,
            "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
            "xaxis": {**axis, "tickangle": -90, "title": {"text": "answered", "standoff": 8}},
            "yaxis": {**axis, "autorange": "reversed", "title": {"text": "true", "standoff": 8}},
        },
        "matrix": True,
    }


def reliability(calibration: CalibrationReport) -> Figure:
    """How often answers of some confidence are right, before and after the temperature."""
    diagonal = {
        "x": [0, 1],
        "y": [0, 1],
        "mode": "lines",
        "name": "as sure as right",
        "line": {"color": _GREY, "dash": "dash", "width": 1},
        "hoverinfo": "skip",
    }
    lines = [_reliability_line(calibration.bins, "after", _BLUE)]
    if calibration.bins_before != calibration.bins:
        lines.insert(0, _reliability_line(calibration.bins_before, "before", _ORANGE))
    return {
        "data": [diagonal, *lines],
        "layout": {
            "height": 380,
            "xaxis": {"title": {"text": "confidence"}, "range": [0, 1.02], "tickformat": ".0%"},
            "yaxis": {"title": {"text": "right"}, "range": [0, 1.02], "tickformat": ".0%"},
        },
    }


def risk_coverage(curve: RiskCoverage) -> Figure:
    """Share of wrong answers, the more photos are answered, surest first."""
    line = {
        "x": curve.coverage,
        "y": curve.risk,
        "mode": "lines",
        "line": {"color": _BLUE, "width": 2},
        "hovertemplate": "of the surest %{x:.0%}<br>wrong: <b>%{y:.1%}</b><extra></extra>",
    }
    return {
        "data": [line],
        "layout": {
            "height": 380,
            "showlegend": False,
            "xaxis": {"title": {"text": "answered, surest first"}, "range": [0, 1.02], "tickformat": ".0%"},
            "yaxis": {"title": {"text": "wrong among them"}, "rangemode": "tozero", "tickformat": ",.2~%"},
        },
    }


def corruption_dots(corruptions: Corruptions) -> Figure:
    """Accuracy for each corruption, hardest last, with intervals; the darker a dot, the severer."""
    names = [_text(name) for name in _hardest_last(corruptions)]
    severities = sorted({row.severity for row in corruptions.corruptions}, key=lambda severity: severity or 0)
    traces = [_corruption_trace(corruptions, severity) for severity in severities]
    return {
        "data": traces,
        "layout": {
            "height": 110 + 44 * len(names),
            "showlegend": len(traces) > 1,
            "shapes": [_upright(corruptions.clean.value)],
            "xaxis": {"range": [0, 1.02], "tickformat": ".0%", "title": {"text": "accuracy; dashed: clean photos"}},
            "yaxis": {
                "type": "category",
                "categoryorder": "array",
                "categoryarray": names[::-1],
                "automargin": True,
                "ticks": "",
            },
        },
    }


def _hardest_last(corruptions: Corruptions) -> list[str]:
    found: dict[str, list[float]] = {}
    for row in corruptions.corruptions:
        found.setdefault(row.name, []).append(row.accuracy)
    return sorted(found, key=lambda name: -float(np.mean(found[name])))


def _corruption_trace(corruptions: Corruptions, severity: int | None) -> Figure:
    colour = _SEVERITIES[min(max(severity or 3, 1), 5) - 1]
    rows = [row for row in corruptions.corruptions if row.severity == severity]
    below = [row.accuracy - row.low for row in rows]
    above = [row.high - row.accuracy for row in rows]
    return {
        "x": [row.accuracy for row in rows],
        "y": [_text(row.name) for row in rows],
        "mode": "markers",
        "name": "" if severity is None else f"severity {severity}",
        "marker": {"color": colour, "size": 9},
        "error_x": {"type": "data", "array": above, "arrayminus": below, "color": colour, "thickness": 1, "width": 0},
        "hovertemplate": "%{y}: <b>%{x:.1%}</b>",
    }


def _reliability_line(bins: Sequence[ReliabilityBin], name: str, colour: str) -> Figure:
    return {
        "x": [found.confidence for found in bins],
        "y": [found.accuracy for found in bins],
        "customdata": [found.photos for found in bins],
        "text": [f"{found.photos:,}" for found in bins],
        "textposition": "top center" if name == "before" else "bottom center",
        "textfont": {"size": 9, "color": colour},
        "mode": "lines+markers+text",
        "name": name,
        "line": {"color": colour, "width": 2},
        "marker": {"size": 7},
        "hovertemplate": "sure: %{x:.1%}<br>right: <b>%{y:.1%}</b><br>photos: %{customdata}",
    }


def _curves(history: Sequence[Epoch], lines: dict[str, tuple[str, str]], y_axis: Figure, digits: str) -> Figure:
    traces = [
        {
            "x": [epoch["epoch"] for epoch in history],
            "y": [_finite(epoch.get(column)) for epoch in history],
            "mode": "lines+markers" if len(history) < 40 else "lines",
            "name": name,
            "line": {"color": colour, "width": 2},
            "marker": {"size": 5},
            "hovertemplate": f"%{{y:{digits}}}",
        }
        for column, (name, colour) in lines.items()
    ]
    x_axis: Figure = {"title": {"text": "epoch; dashed: the best, which was kept"}}
    if len(history) <= _FEW_EPOCHS:
        x_axis["dtick"] = 1  # no half epochs
    return {
        "data": traces,
        "layout": {
            "height": 340,
            "hovermode": "x unified",
            "shapes": [_upright(best_epoch(history)["epoch"])],
            "xaxis": x_axis,
            "yaxis": y_axis,
        },
    }


def _text(name: str) -> str:
    """A name as Plotly shows it unchanged: it takes tags for markup, and knows no &quot;."""
    return html.escape(name, quote=False)


def _finite(value: float | None) -> float | None:
    """JSON has no word for infinity."""
    return value if value is not None and math.isfinite(value) else None


def _upright(x: float) -> Figure:
    line = {"color": _GREY, "width": 1, "dash": "dash"}
    return {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper", "line": line}
