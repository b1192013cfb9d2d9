"""Two and three reports side by side: the counts and tests by hand, the page, and what is refused."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import axe
import pytest
from command_line import run as command
from conftest import PHONE, draw_car
from golden_copies import words_of
from test_report import CLASSES, FALCON, NINE, PREDICTIONS, SCRIPT, VAN, build_run

from twincar.core.errors import UsageError
from twincar.core.files import write_csv
from twincar.core.runs import RunFolder
from twincar.evaluation.report.artifacts import read_predictions
from twincar.evaluation.report.page import Report, report

BETTER = [(truth, truth, 0.9) for truth, *_ in PREDICTIONS]
WORSE = [(truth, truth if number == 0 else (truth + 1) % 4, 0.6) for number, (truth, *_) in enumerate(PREDICTIONS)]


def predicting(run: Path, folder: Path, predictions: list[tuple[int, int, float]]) -> Path:
    """A copy of a run with other predictions for the same photos."""
    other = shutil.copytree(run, folder)
    table = other / "reports" / "test" / "predictions.csv"
    rows = [
        {
            "file": row.file,
            "truth": CLASSES[truth],
            "top1": CLASSES[predicted],
            "probability1": confidence,
            "top2": SCRIPT,
        }
        for row, (truth, predicted, confidence) in zip(read_predictions(table), predictions, strict=True)
    ]
    write_csv(table, rows)
    return other


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The run of `test_report`, with 11 of 16 right; one with all right; and one with 1 right."""
    root = tmp_path_factory.mktemp("runs")
    first = build_run(root, CLASSES, PREDICTIONS, lambda number: draw_car(number % 4, number))
    return first, predicting(first, root / "better", BETTER), predicting(first, root / "worse", WORSE)


@pytest.fixture(scope="module")
def written(runs: tuple[Path, Path, Path]) -> Report:
    return report(*runs)


def test_the_counts_and_the_p_values_are_those_by_hand(runs: tuple[Path, Path, Path], written: Report) -> None:
    (two,) = report(runs[0], runs[1], out=runs[0].parent / "two.html").differences
    assert (two.first, two.second) == ("run", "better")
    assert (two.tests.both, two.tests.only_first, two.tests.only_second, two.tests.neither) == (11, 0, 5, 0)
    assert two.tests.accuracy.difference.value == 5 / 16
    assert two.tests.accuracy.p == pytest.approx(2 / 2**5)  # five coins alike: 0.0625, not more than chance
    assert not two.tests.accuracy.is_significant
    f1 = (0.8 + 4 / 9 + 1 + 0.4) / 4  # see PREDICTIONS
    assert two.tests.macro_f1.difference.value == pytest.approx(1 - f1)
    pairs = {(found.first, found.second): found.tests.accuracy.p for found in written.differences}
    assert list(pairs) == [("run", "better"), ("run", "worse"), ("better", "worse")]
    # Holm, 1979: the lowest of the three p-values is tripled, the next one doubled.
    assert pairs["better", "worse"] == pytest.approx(3 * 2 / 2**15)
    assert pairs["run", "worse"] == pytest.approx(2 * 2 / 2**10)  # 10 photos only by the first, none only by the other
    assert pairs["run", "better"] == pytest.approx(2 / 2**5)


def test_the_page_shows_scores_differences_and_photos(
    runs: tuple[Path, Path, Path], written: Report, golden: Callable[[str, str], None]
) -> None:
    assert written.path == runs[0] / "reports" / "report-beside-better-worse.html"
    page = written.path.read_text(encoding="utf-8")
    golden("side_by_side", words_of(page))
    assert written.bytes == written.path.stat().st_size < 1_000_000
    assert SCRIPT not in page
    assert page.count("<img") == 5 + 10 + 12  # right by one only; the last group has 15 and shows 12
    assert "src=" in page
    assert not re.findall(r'src="(?!data:)', page)
    for name in (FALCON, NINE):
        assert name in page
    assert str(runs[0].parent) not in page


def test_settings_that_differ_are_shown(runs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """And no others: neither those that are the same, nor the folders of this computer."""
    other = RunFolder(Path(shutil.copytree(runs[0], tmp_path / "other")))
    config = other.read_config()
    other.config.write_text(replace(config, epochs=7, augment=replace(config.augment, flip=0.25)).to_yaml())
    report(runs[0], other.path, out=tmp_path / "page.html")
    words = words_of((tmp_path / "page.html").read_text(encoding="utf-8"))
    section = words.partition("Settings that differ")[2].partition("Differences")[0]
    assert section.split() == ["setting", "run", "other", "epochs", "2", "7", "augment.flip", "0.5", "0.25"]
    report(runs[0], runs[1], out=tmp_path / "same.html")
    assert "None: all settings of the runs are the same." in (tmp_path / "same.html").read_text(encoding="utf-8")


def test_axe_finds_nothing(browser: Any, written: Report) -> None:
    assert axe.faults(browser, written.path, PHONE) == []


@pytest.mark.parametrize(
    ("change", "differ"),
    [
        (lambda rows: rows[:-2], "2 photos of run (16) and other (14) differ: '14.jpg', '15.jpg'"),
        (lambda rows: [rows[0] | {"truth": VAN}, *rows[1:]], "1 photo of run (16) and other (16) differ: '00.jpg'"),
    ],
)
def test_different_photos_are_refused(
    runs: tuple[Path, Path, Path], tmp_path: Path, change: Callable[[list[dict[str, Any]]], Any], differ: str
) -> None:
    other = shutil.copytree(runs[0], tmp_path / "other")
    table = other / "reports" / "test" / "predictions.csv"
    rows = [
        {
            "file": row.file,
            "truth": row.truth,
            "top1": row.predicted,
            "probability1": row.confidence,
            "top2": row.second,
        }
        for row in read_predictions(table)
    ]
    write_csv(table, change(rows))
    with pytest.raises(UsageError, match=re.escape(differ)) as raised:
        report(runs[0], other)
    assert f"First run: twincar evaluate {other} --split test --data" in str(raised.value)


def test_a_split_that_one_lacks_and_too_many_models_are_refused(runs: tuple[Path, Path, Path]) -> None:
    with pytest.raises(UsageError, match="on test photos only"):
        report(*runs, split="val")
    with pytest.raises(UsageError, match="at most 3 models side by side, but found 4"):
        report(*runs, runs[0])


def test_the_command_says_whether_it_is_more_than_chance(runs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    result = command("report", runs[0], runs[1], "--out", tmp_path / "page.html")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("Accuracy: better scores +0.312 (+0.")
    assert lines[0].endswith("compared with run, which is not more than chance (p = 0.062).")
    assert lines[1].startswith("Macro-F1: better scores +0.339 (")
    assert lines[2].startswith(f"Report on the test photos: {tmp_path / 'page.html'}")
