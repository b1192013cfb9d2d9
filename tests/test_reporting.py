"""Files read back for the report, and the figures made of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from twincar import pages
from twincar.errors import DataError
from twincar.files import MONITOR, write_csv, write_json, write_text
from twincar.metrics import Interval
from twincar.reporting import figures, files
from twincar.reporting.files import Corruption, Corruptions, ExplanationScore, Quality, UnknownGroup

METRICS = {
    "split": "test",
    "photos": 8,
    "accuracy": {"value": 0.5, "low": 0.2, "high": 0.8},
    "macro_f1": {"value": 0.4, "low": 0.1, "high": 0.7},
    "metrics": {"loss": 1.5, "top5": 1},
}


def test_metrics_of_an_earlier_version_lack_what_was_not_measured_then(tmp_path: Path) -> None:
    write_json(tmp_path / "metrics.json", METRICS)
    metrics = files.read_metrics(tmp_path)
    assert metrics.accuracy == Interval(0.5, 0.2, 0.8)
    assert metrics.values == {"loss": 1.5, "top5": 1.0}
    assert (metrics.calibration, metrics.rejection, metrics.risk_coverage, metrics.levels) == (None, None, None, [])


def test_calibration_and_rejection_may_lack_some_figures(tmp_path: Path) -> None:
    found = {
        "calibration": {"temperature": 1.5, "after": {"ece": 0.02}, "bins": [
            {"confidence": 0.9, "accuracy": 1, "photos": 3}, {"confidence": None, "accuracy": None, "photos": 0}
        ]},
        "rejection": {"accepted": 0.9, "accuracy_of_accepted": float("nan")},
        "risk_coverage": {"coverage": [0.5, 1], "risk": [0, 0.25]},
        "levels": [{"level": "make", "accuracy": 0.75, "answered": 0.0, "precision": None}],
    }  # fmt: skip
    write_json(tmp_path / "metrics.json", {**METRICS, **found})
    metrics = files.read_metrics(tmp_path)
    assert metrics.calibration
    assert metrics.calibration.after == Quality(ece=0.02, nll=None, brier=None)
    assert metrics.calibration.before == Quality(ece=None, nll=None, brier=None)
    assert [(found.confidence, found.photos) for found in metrics.calibration.bins] == [(0.9, 3)]
    assert metrics.rejection == files.Rejection(false_rejection=None, accepted=0.9, accuracy_of_accepted=None)
    assert metrics.risk_coverage
    assert metrics.risk_coverage.coverage == [0.5, 1]
    assert metrics.risk_coverage.area is None
    assert metrics.levels == [files.Level("make", 0.75, 0.0, None)]
    drawn = [figures.reliability(metrics.calibration), figures.risk_coverage(metrics.risk_coverage)]
    assert json.loads(pages.script_json(drawn)) == drawn


@pytest.mark.parametrize("text", ["{", "[]", '{"split": "test"}', '{"split": "test", "photos": "many"}'])
def test_damaged_metrics_are_named(tmp_path: Path, text: str) -> None:
    write_text(tmp_path / "metrics.json", text)
    with pytest.raises(DataError, match=r"metrics\.json"):
        files.read_metrics(tmp_path)


def test_answers_and_classes(tmp_path: Path) -> None:
    rows = [
        {"file": "a.jpg", "truth": "A", "correct": 1, "top1": "A", "probability1": "0.75", "top2": "B"},
        {"file": "b.jpg", "truth": "A", "correct": 0, "top1": "B", "probability1": "0.5", "top2": "A"},
    ]
    write_csv(tmp_path / "predictions.csv", rows)
    first, second = files.read_answers(tmp_path)
    assert (first.file, first.confidence, first.correct) == ("a.jpg", 0.75, True)
    assert (second.answer, second.second, second.correct) == ("B", "A", False)

    row = {"precision": 1.0, "recall": 0.5, "f1": 0.66, "accuracy": 0.5, "support": 2, "most_confused_with": "B"}
    average = {**row, "most_confused_with": ""}
    names = ["macro average", "A", "macro average", "weighted average"]  # the first is a class
    write_csv(
        tmp_path / "classification_report.csv",
        [{"class_name": name, **(row if place < 2 else average)} for place, name in enumerate(names)],
    )
    assert [found.name for found in files.read_classes(tmp_path)] == ["macro average", "A"]
    assert files.read_classes(tmp_path)[1].taken_for == "B"


def test_what_was_not_measured_is_none(tmp_path: Path) -> None:
    assert files.read_open_set(tmp_path) is None
    assert files.read_corruptions(tmp_path) is None
    assert files.read_explanation_scores(tmp_path) is None
    assert files.read_audit(tmp_path) is None
    assert files.read_comparisons(tmp_path) == {}
    with pytest.raises(DataError, match="Run twincar evaluate again"):
        files.read_answers(tmp_path)


def test_the_other_verbs_files(tmp_path: Path) -> None:
    write_json(
        tmp_path / "open_set" / "open_set.json",
        {"rejected": 0.05, "groups": [{"name": "hard", "is_car": True, "auroc": 0.7}, {"name": "text", "photos": 5}]},
    )
    assert files.read_open_set(tmp_path) == files.OpenSet(
        accuracy=None,
        rejected=0.05,
        groups=[
            UnknownGroup("hard", True, None, 0.7, None, None, None),
            UnknownGroup("text", False, 5, None, None, None, None),
        ],
    )
    write_json(
        tmp_path / "corruptions.json",
        {
            "clean": {"value": 0.9},
            "corruptions": [{"corruption": "motion_blur", "accuracy": 0.5}, {"corruption": "fog"}],
        },
    )
    assert files.read_corruptions(tmp_path) == Corruptions(
        0.9, None, [Corruption("motion blur", None, 0.5, None, None)]
    )
    write_json(tmp_path / "explanation_scores.json", {"scores": [{"score": "ROAD", "map": "random", "value": 0.1}]})
    scores = files.read_explanation_scores(tmp_path)
    assert scores
    assert scores.by_score == {"ROAD": [ExplanationScore("ROAD", "random", 0.1, None, None, "")]}
    write_json(
        tmp_path / "audit" / "audit.json",
        {"unsound": {"empty": 1}, "findings": {"leak": 3}, "classes": [{"reason": "order", "detail": "A, B"}]},
    )
    assert files.read_audit(tmp_path) == files.Audit(None, {"empty": 1, "leak": 3}, ["order: A, B"], None, None)
    write_json(
        tmp_path / "compare" / "compare.json",
        {"pairs": [{"first": "A", "second": "B", "page": "a-b.html"}, {"first": "A", "second": "C"}]},
    )
    assert files.read_comparisons(tmp_path) == {frozenset("BA"): "a-b.html"}


def test_other_damaged_files_are_named(tmp_path: Path) -> None:
    write_json(tmp_path / "corruptions.json", {"corruptions": [{"accuracy": "good"}]})
    with pytest.raises(DataError, match=r"corruptions\.json as TwinCar writes it"):
        files.read_corruptions(tmp_path)


def test_the_matrix_tells_right_from_wrong_by_its_sign() -> None:
    matrix = np.array([[3, 1], [0, 2]])
    figure = figures.confusion(matrix, matrix.sum(axis=1), ["A & B", "<b>C"])
    cells = figure["data"][0]
    # By hand: 0.35 + 0.65 × 3/4 right, 0.35 + 0.65 × 1/4 wrong, none, all.
    np.testing.assert_allclose(cells["z"], [[0.837, -0.512], [0, 1]], atol=0.001)
    assert cells["customdata"] == [[3, 1], [0, 2]]
    assert cells["text"] == [["3", "1"], ["", "2"]]
    assert cells["x"] == cells["y"] == ["A &amp; B", "&lt;b&gt;C"]  # Plotly takes tags for markup


def test_corruptions_are_drawn_hardest_last_and_by_severity() -> None:
    rows = [Corruption(name, severity, accuracy, None, 0.95) for name, severity, accuracy in
        [("fog", 1, 0.5), ("fog", 5, 0.3), ("jpeg", 1, 0.8), ("jpeg", 5, 0.6)]]  # fmt: skip
    figure = figures.corruption_dots(Corruptions(0.9, 0.55, rows))
    assert figure["layout"]["yaxis"]["categoryarray"] == ["fog", "jpeg"]  # from below
    light, heavy = figure["data"]
    assert (light["name"], light["x"]) == ("severity 1", [0.5, 0.8])
    assert (heavy["name"], heavy["x"]) == ("severity 5", [0.3, 0.6])
    np.testing.assert_allclose(heavy["error_x"]["array"], [0.65, 0.35])
    assert heavy["error_x"]["arrayminus"] == [0, 0]


def test_curves_take_a_loss_that_is_no_number() -> None:
    history = [{"epoch": 1, "train_loss": 2.0, "val_loss": float("inf"), MONITOR: 0.1}]
    training, validation = figures.loss_curves(history)["data"]
    assert training["y"] == [2.0]
    assert validation["y"] == [None]


def test_json_in_a_page_cannot_end_its_script() -> None:
    value = {"</script><!--": ["<script>", "a & b", "é", 1.5, None]}
    text = pages.script_json(value)
    assert not set("<>&") & set(text)
    assert json.loads(text) == value
