"""Figures of the report, as the dictionaries that Plotly draws.

Backgrounds and texts are coloured by the style sheet of the page, for its light and its dark mode; the colours here are
those of the data, with a contrast of at least 3 to both grounds (WCAG 2.2, 1.4.11). Names are escaped, because Plotly
interprets tags in texts as markup.

Shapes: K classes.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twincar.core.labels import make_changes
from twincar.core.runs import Epoch, best_epoch
from twincar.evaluation.results import Robustness
from twincar.metrics.reliability import CalibrationReport, ReliabilityBin, RiskCoverage

PlotlyFigure = dict[str, Any]

# After the palette of Okabe and Ito, safe for colour-blind people; each as light as both grounds allow.
_BLUE, _ORANGE, _GREEN, _PINK, _GREY = "#2f8fd0", "#c77414", "#168f6c", "#c0699a", "#7d848b"
_SEVERITIES = ("#d07b12", "#cc6a1c", "#c45a22", "#bb4a27", "#b23c2b")  # a dot also grows with its severity
_FEW_CLASSES = 30  # up to this number the cells of the matrix have room for counts
_FEW_EPOCHS = 12  # up to this number each has a tick
_MIN_HEIGHT, _MAX_HEIGHT = 400, 1000  # of the matrix, pixels
_CELL = 26  # pixels per class in the matrix, if there is room


def loss_curves(history: Sequence[Epoch]) -> PlotlyFigure:
    """Cross-entropy in training and on validation."""
    lines = {"train_loss": ("training", _GREY), "val_loss": ("validation", _BLUE)}
    return _curves(history, lines, {"title": {"text": "cross-entropy, nats"}, "rangemode": "tozero"}, ".3f")


def quality_curves(history: Sequence[Epoch]) -> PlotlyFigure:
    """Accuracy, macro-F1 and top-5 on validation, and accuracy in training."""
    lines = {
        "val_top5": ("top-5, validation", _PINK),
        "val_acc": ("accuracy, validation", _BLUE),
        "val_f1_macro": ("macro-F1, validation", _GREEN),
        "train_acc": ("accuracy, training", _GREY),
    }
    return _curves(history, lines, {"range": [0, 1.02], "tickformat": ".0%"}, ".1%")


def confusion(matrix: NDArray[np.int64], support: NDArray[np.int64], names: Sequence[str]) -> PlotlyFigure:
    """A confusion matrix, K×K: correct predictions are blue, wrong ones orange.

    The stronger the colour of a cell, the larger its share of the photos of the true class, of which there are
    `support`, K; its number is the count. Lines separate makes.
    """
    shares = matrix / np.maximum(support, 1)[:, None]
    visible = np.where(shares > 0, 0.35 + 0.65 * shares, 0)  # even the smallest share is distinguishable from 0
    signs = 2 * np.eye(len(names)) - 1  # correct predictions are above 0, wrong ones below
    labels = [_text(name) for name in names]
    cells: PlotlyFigure = {
        "type": "heatmap",
        "x": labels,
        "y": labels,
        "z": (visible * signs).round(3).tolist(),
        "customdata": matrix.tolist(),
        "zmin": -1,
        "zmax": 1,
        "colorscale": [[0, "#dd6b10"], [0.5, "rgba(221,107,16,0)"], [0.5, "rgba(47,143,208,0)"], [1, "#2f8fd0"]],
        "showscale": False,
        "hovertemplate": "true: <b>%{y}</b><br>predicted: <b>%{x}</b><br>photos: <b>%{customdata}</b><extra></extra>",
    }
    if len(names) <= _FEW_CLASSES:
        cells |= {"text": [[str(count or "") for count in row] for row in matrix.tolist()], "texttemplate": "%{text}"}
        cells |= {"xgap": 1, "ygap": 1}
    side = min(max(_CELL * len(names) + 240, _MIN_HEIGHT), _MAX_HEIGHT)
    axis = {"automargin": True, "showgrid": False, "ticks": "", "ticklabelstandoff": 5, "type": "category"}
    axis |= {"tickfont": {"size": 11}}
    return {
        "data": [cells],
        "layout": {
            "height": side,
            "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
            "xaxis": {**axis, "tickangle": -90, "title": {"text": "predicted", "standoff": 8}},
            "yaxis": {**axis, "autorange": "reversed", "title": {"text": "true", "standoff": 8}},
            "shapes": [line for change in make_changes(names) for line in _cross(change - 0.5)],
        },
    }


def reliability(calibration: CalibrationReport) -> PlotlyFigure:
    """Accuracy by confidence, before and after temperature scaling."""
    diagonal = {
        "x": [0, 1],
        "y": [0, 1],
        "mode": "lines",
        "name": "perfect calibration",
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
            "yaxis": {"title": {"text": "accuracy"}, "range": [0, 1.02], "tickformat": ".0%"},
        },
    }


def risk_coverage_curve(curve: RiskCoverage) -> PlotlyFigure:
    """The error rate of the most confident predictions, by the share that is kept."""
    line = {
        "x": curve.coverage,
        "y": curve.risk,
        "mode": "lines",
        "line": {"color": _BLUE, "width": 2},
        "hovertemplate": "%{x:.0%} kept<br>error rate: <b>%{y:.1%}</b><extra></extra>",
    }
    return {
        "data": [line],
        "layout": {
            "height": 380,
            "showlegend": False,
            "xaxis": {
                "title": {"text": "share of photos kept, most confident first"},
                "range": [0, 1.02],
                "tickformat": ".0%",
            },
            "yaxis": {"title": {"text": "error rate"}, "rangemode": "tozero", "tickformat": ",.2~%"},
        },
    }


def corruption_dots(robustness: Robustness) -> PlotlyFigure:
    """Accuracy under each corruption with intervals, lowest last; a dot grows with the severity."""
    names = [_text(name) for name in _lowest_last(robustness)]
    severities = sorted({row.severity for row in robustness.corruptions}, key=lambda severity: severity or 0)
    traces = [_corruption_trace(robustness, severity) for severity in severities]
    return {
        "data": traces,
        "layout": {
            "height": 110 + 44 * len(names),
            "showlegend": len(traces) > 1,
            "shapes": [_vertical_line(robustness.clean.value)],
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


def _lowest_last(robustness: Robustness) -> list[str]:
    found: dict[str, list[float]] = {}
    for row in robustness.corruptions:
        found.setdefault(row.name, []).append(row.accuracy)
    return sorted(found, key=lambda name: -float(np.mean(found[name])))


def _corruption_trace(robustness: Robustness, severity: int | None) -> PlotlyFigure:
    color = _SEVERITIES[min(max(severity or 3, 1), 5) - 1]
    rows = [row for row in robustness.corruptions if row.severity == severity]
    below = [row.accuracy - row.low for row in rows]
    above = [row.high - row.accuracy for row in rows]
    return {
        "x": [row.accuracy for row in rows],
        "y": [_text(row.name) for row in rows],
        "mode": "markers",
        "name": "" if severity is None else f"severity {severity}",
        "marker": {"color": color, "size": 9 if severity is None else 5 + 2 * severity},
        "error_x": {"type": "data", "array": above, "arrayminus": below, "color": color, "thickness": 1, "width": 0},
        "hovertemplate": "%{y}: <b>%{x:.1%}</b>",
    }


def _reliability_line(bins: Sequence[ReliabilityBin], name: str, color: str) -> PlotlyFigure:
    return {
        "x": [found.confidence for found in bins],
        "y": [found.accuracy for found in bins],
        "customdata": [found.photos for found in bins],
        "text": [f"{found.photos:,}" for found in bins],
        "textposition": "bottom center",
        "textfont": {"size": 9},
        "mode": "lines+markers" if name == "before" else "lines+markers+text",  # the numbers of both would overlap
        "name": name,
        "line": {"color": color, "width": 2},
        "marker": {"size": 7},
        "hovertemplate": "confidence: %{x:.1%}<br>accuracy: <b>%{y:.1%}</b><br>photos: %{customdata}",
    }


def _curves(
    history: Sequence[Epoch], lines: dict[str, tuple[str, str]], y_axis: PlotlyFigure, digits: str
) -> PlotlyFigure:
    traces = [
        {
            "x": [epoch["epoch"] for epoch in history],
            "y": [_finite(epoch.get(column)) for epoch in history],
            "mode": "lines+markers" if len(history) < 40 else "lines",
            "name": name,
            "line": {"color": color, "width": 2},
            "marker": {"size": 5},
            "hovertemplate": f"%{{y:{digits}}}",
        }
        for column, (name, color) in lines.items()
    ]
    x_axis: PlotlyFigure = {"title": {"text": "epoch; dashed: the best one, which is kept"}}
    if len(history) <= _FEW_EPOCHS:
        x_axis["dtick"] = 1  # no ticks between epochs
    return {
        "data": traces,
        "layout": {
            "height": 340,
            "hovermode": "x unified",
            "shapes": [_vertical_line(best_epoch(history)["epoch"])],
            "xaxis": x_axis,
            "yaxis": y_axis,
        },
    }


def _text(name: str) -> str:
    """A name escaped so that Plotly shows it unchanged: it interprets tags as markup, but not &quot;."""
    return html.escape(name, quote=False)


def _finite(value: float | None) -> float | None:
    """The value, or None if it is not finite, which JSON cannot represent."""
    return value if value is not None and math.isfinite(value) else None


def _vertical_line(x: float) -> PlotlyFigure:
    line = {"color": _GREY, "width": 1, "dash": "dash"}
    return {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper", "line": line}


def _cross(place: float) -> list[PlotlyFigure]:
    """A vertical and a horizontal line through the whole matrix."""
    upright: PlotlyFigure = {"type": "line", "x0": place, "x1": place, "y0": 0, "y1": 1, "yref": "paper"}
    level: PlotlyFigure = {"type": "line", "y0": place, "y1": place, "x0": 0, "x1": 1, "xref": "paper"}
    return [{**shape, "line": {"color": _GREY, "width": 1}} for shape in (upright, level)]
