"""Labels of figures: shares are between 0 and 100%, and shortened names keep their ends."""

from __future__ import annotations

import numpy as np

from twincar.evaluation import plots


def test_the_axis_of_scores_ends_at_0_and_at_100_percent() -> None:
    scores = {"known cars": np.array([0.02, 0.5, 1.0], np.float32), "noise": np.array([-3.0, -0.1, 1.4], np.float32)}
    (axes,) = plots.score_figure(scores, 0.05).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "less than\nall of them", "0%", "20%", "40%", "60%", "80%", "100%", "more than\nall of them"
    ]  # fmt: skip
    low, high = axes.get_xlim()
    assert low < -0.25
    assert high > 1.25  # all dots are visible
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "known cars: 67% of 3 accepted",
        "noise: 33% of 3 accepted",
    ]


def test_bars_show_the_year_of_a_long_name_and_a_note_without_classes() -> None:
    name = "Chevrolet Silverado 2500HD Regular Cab Long Bed Diesel 2012"
    (axes,) = plots.accuracy_bars([name], [0.996], [500], "title").axes
    (label,) = axes.get_yticklabels()
    assert label.get_text().endswith("Diesel 2012")
    assert axes.texts[0].get_text() == ">99% of 500"
    (axes,) = plots.accuracy_bars([], [], [], "title").axes
    assert [text.get_text() for text in axes.texts] == ["no class"]
