"""Results that are read back for the report, and its figures."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from twincar.core import html as pages
from twincar.core.errors import DataError
from twincar.core.files import write_csv, write_json, write_text
from twincar.core.runs import MONITOR
from twincar.data.class_issues import ClassIssue
from twincar.evaluation.report import artifacts, figures
from twincar.evaluation.results import ComparedPair, CorruptionScore, OpenSetEvaluation, Robustness
from twincar.metrics.classification import Interval
from twincar.metrics.reliability import LevelReport, Rejection, ReliabilityBin, UnknownGroup
from twincar.metrics.saliency import Score

FIGURES = {"ece": 0.02, "nll": 0.5, "brier": 0.3}
BINS = [{"confidence": 0.9, "accuracy": 1, "photos": 3}]
METRICS = {
    "split": "test",
    "photos": 8,
    "data": None,
    "seen": None,
    "left_out": {},
    "no_car": None,
    "absent": [],
    "intervals": {},
    "tta": None,
    "folder": "where it was written",
    "accuracy": {"value": 0.5, "low": 0.2, "high": 0.8},
    "macro_f1": {"value": 0.4, "low": 0.1, "high": 0.7},
    "chance": {"accuracy": 0.3, "macro_f1": 0.2},
    "metrics": {"loss": 1.5, "top5": 1},
    "calibration": {"temperature": 1.5, "before": FIGURES, "after": FIGURES, "bins_before": BINS, "bins": BINS},
    "confidence": 0.8,
    "levels": [
        {"level": "make", "photos": 8, "accuracy": 0.75, "ece": 0.1, "answered": 0.0, "precision": None},
        {"level": "year", "photos": 8, "accuracy": 0.5, "ece": 0.1, "answered": None, "precision": None},
    ],
    "rejection": {
        "false_rejection": 0.05, "accepted": 1.0, "accuracy_of_accepted": 0.5, "accuracy_of_rejected": None
    },
    "risk_coverage": {"coverage": [0.5, 1], "risk": [0, 0.25], "area": 0.125},
}  # fmt: skip


def test_metrics_are_read_as_evaluate_writes_them(tmp_path: Path) -> None:
    write_json(tmp_path / "metrics.json", METRICS)
    metrics = artifacts.read_metrics(tmp_path)
    assert metrics.folder == tmp_path
    assert metrics.accuracy == Interval(0.5, 0.2, 0.8)
    assert metrics.metrics == {"loss": 1.5, "top5": 1.0}
    assert metrics.calibration.bins == [ReliabilityBin(0.9, 1.0, 3)]
    assert metrics.rejection == Rejection(0.05, 1.0, 0.5, None)
    assert metrics.levels[0] == LevelReport("make", 8, 0.75, 0.1, 0.0, None)
    drawn = [figures.reliability(metrics.calibration), figures.risk_coverage_curve(metrics.risk_coverage)]
    assert json.loads(pages.script_json(drawn)) == drawn


@pytest.mark.parametrize("text", ["{", "[]", '{"split": "test"}', '{"split": "test", "photos": "many"}'])
def test_damaged_metrics_are_named(tmp_path: Path, text: str) -> None:
    write_text(tmp_path / "metrics.json", text)
    with pytest.raises(DataError, match=r"metrics\.json"):
        artifacts.read_metrics(tmp_path)


def test_predictions_and_classes_are_read(tmp_path: Path) -> None:
    rows = [
        {"file": "a.jpg", "truth": "A", "correct": 1, "top1": "A", "probability1": "0.75", "top2": "B"},
        {"file": "b.jpg", "truth": "A", "correct": 0, "top1": "B", "probability1": "0.5", "top2": "A"},
    ]
    write_csv(tmp_path / "predictions.csv", rows)
    first, second = artifacts.read_predictions(tmp_path / "predictions.csv")
    assert (first.file, first.confidence, first.correct) == ("a.jpg", 0.75, True)
    assert (second.predicted, second.second, second.correct) == ("B", "A", False)

    row = {"precision": 1.0, "recall": 0.5, "f1": 0.66, "accuracy": 0.5, "support": 2, "most_confused_with": "B"}
    average = {**row, "most_confused_with": ""}
    names = ["macro average", "A", "macro average", "weighted average"]  # the first is a class
    write_csv(
        tmp_path / "classification_report.csv",
        [{"class_name": name, **(row if index < 2 else average)} for index, name in enumerate(names)],
    )
    assert [found.name for found in artifacts.read_classes(tmp_path)] == ["macro average", "A"]
    assert artifacts.read_classes(tmp_path)[1].most_confused_with == "B"


def test_missing_results_are_none(tmp_path: Path) -> None:
    assert artifacts.read_open_set_results(tmp_path) is None
    assert artifacts.read_corruptions(tmp_path) is None
    assert artifacts.read_explanation_scores(tmp_path) is None
    assert artifacts.read_audit(tmp_path) is None
    assert artifacts.read_comparisons(tmp_path) == {}
    with pytest.raises(DataError, match="Run twincar evaluate again"):
        artifacts.read_predictions(tmp_path / "predictions.csv")


def test_the_results_of_the_other_verbs_are_read(tmp_path: Path) -> None:
    group = {"name": "hard", "is_car": True, "photos": 5, "auroc": 0.7, "fpr95": 0.6, "oscr": 0.5, "rejected": 0.1}
    group["auroc_by_others"] = {"energy": 0.6}
    open_set = OpenSetEvaluation("test", 8, 0.9, 0.04, 0.05, [UnknownGroup(**group)], tmp_path / "open_set")
    write_json(tmp_path / "open_set" / "open_set.json", open_set.to_dict())
    assert artifacts.read_open_set_results(tmp_path) == open_set
    blurred = CorruptionScore("motion_blur", None, 0.5, 0.4, 0.6, 8)
    robustness = Robustness("test", 8, False, Interval(0.9, 0.8, 0.95), (blurred,), tmp_path)
    write_json(tmp_path / "corruptions.json", robustness.to_dict())
    assert artifacts.read_corruptions(tmp_path) == robustness
    assert (robustness.mean, blurred.name) == (0.5, "motion blur")
    score = {"score": "ROAD", "map": "random", "value": 0.1, "low": 0.0, "high": 0.2, "better": "lower"}
    write_json(tmp_path / "explanation_scores.json", {"split": "test", "photos": 3, "scores": [score]})
    scores = artifacts.read_explanation_scores(tmp_path)
    assert scores
    assert scores.by_score() == {"ROAD": [Score(**score)]}
    issue = {"reason": "order", "detail": "A, B"}
    audit = {"photos": 9, "invalid": {"empty": 1}, "findings": {"leak": 3}, "classes": [issue], "to_exclude": 2}
    write_json(tmp_path / "audit" / "audit.json", {**audit, "estimated_label_noise": None})
    found = artifacts.read_audit(tmp_path)
    assert found
    assert found.counts() == {"empty": 1, "leak": 3}
    assert (found.to_exclude, found.classes) == (2, [ClassIssue("order", "A, B")])
    pair = ComparedPair(
        first="A", second="B", split="test", photos_first=3, photos_second=3, right_first=2, right_second=3,
        first_as_second=1, second_as_first=0, confidence_first_as_second=0.9, confidence_second_as_first=None,
        page="a-b.html", pngs=[],
    )  # fmt: skip
    write_json(tmp_path / "compare" / "compare.json", {"pairs": [asdict(pair)]})
    assert artifacts.read_comparisons(tmp_path) == {frozenset("BA"): "a-b.html"}


def test_other_damaged_files_are_named(tmp_path: Path) -> None:
    write_json(tmp_path / "corruptions.json", {"corruptions": [{"accuracy": "good"}]})
    with pytest.raises(DataError, match=r"corruptions\.json as TwinCar writes it, but it is damaged \(split: "):
        artifacts.read_corruptions(tmp_path)


def test_correct_cells_of_the_matrix_are_positive_and_wrong_ones_negative() -> None:
    matrix = np.array([[3, 1], [0, 2]])
    figure = figures.confusion(matrix, matrix.sum(axis=1), ["A & B", "<b>C"])
    cells = figure["data"][0]
    # By hand: 0.35 + 0.65 × 3/4 correct, 0.35 + 0.65 × 1/4 wrong, none, all.
    np.testing.assert_allclose(cells["z"], [[0.837, -0.512], [0, 1]], atol=0.001)
    assert cells["customdata"] == [[3, 1], [0, 2]]
    assert cells["text"] == [["3", "1"], ["", "2"]]
    assert cells["x"] == cells["y"] == ["A &amp; B", "&lt;b&gt;C"]  # Plotly interprets tags as markup


def test_corruptions_are_drawn_by_accuracy_and_severity() -> None:
    scores = tuple(CorruptionScore(name, severity, accuracy, accuracy, 0.95, 8) for name, severity, accuracy in
        [("fog", 1, 0.5), ("fog", 5, 0.3), ("jpeg", 1, 0.8), ("jpeg", 5, 0.6)])  # fmt: skip
    figure = figures.corruption_dots(Robustness("test", 8, True, Interval(0.9, 0.8, 0.95), scores, Path()))
    assert figure["layout"]["yaxis"]["categoryarray"] == ["fog", "jpeg"]  # from the bottom
    light, heavy = figure["data"]
    assert (light["name"], light["x"]) == ("severity 1", [0.5, 0.8])
    assert (heavy["name"], heavy["x"]) == ("severity 5", [0.3, 0.6])
    np.testing.assert_allclose(heavy["error_x"]["array"], [0.65, 0.35])
    assert heavy["error_x"]["arrayminus"] == [0, 0]


def test_curves_omit_a_loss_that_is_not_finite() -> None:
    history = [{"epoch": 1, "train_loss": 2.0, "val_loss": float("inf"), MONITOR: 0.1}]
    training, validation = figures.loss_curves(history)["data"]
    assert training["y"] == [2.0]
    assert validation["y"] == [None]


def test_json_in_a_page_cannot_end_its_script() -> None:
    value = {"</script><!--": ["<script>", "a & b", "é", 1.5, None]}
    text = pages.script_json(value)
    assert not set("<>&") & set(text)
    assert json.loads(text) == value
