"""Answers on a terminal: a block for each car, and what `predict` says where no photo is named."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from bmw_model import BMWS, bmw_classifier
from command_line import run
from conftest import draw_car

from twincar.cli.answers import Summary, print_blocks
from twincar.core.errors import Defect, PhotoError
from twincar.inference.results import Failure, Status

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard output is a terminal of 80 columns that has colours."""
    for name, value in {"COLUMNS": "80", "TERM": "xterm", "FORCE_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)


def blocks(text: str) -> list[list[str]]:
    """The lines of each block, without colours and without the spaces that fill a line."""
    return [[line.rstrip() for line in block.splitlines()] for block in ESCAPES.sub("", text).split("\n\n")]


def test_a_block_a_car(capsys: pytest.CaptureFixture[str]) -> None:
    answers = [
        bmw_classifier(probabilities).predict(draw_car(0, 0), top_k=3)
        for probabilities in ([0.9, 0.06, 0.03, 0.01], [0.5, 0.35, 0.1, 0.05], [0.3, 0.26, 0.24, 0.2])
    ]
    answers.append(bmw_classifier([0.9, 0.06, 0.03, 0.01]).predict(draw_car(0, 0, (5, 5)), top_k=1))
    answers.append(replace(answers[0], answer=None, status=Status.CUT_OFF))
    print_blocks([*answers, Failure("bad.jpg", PhotoError(Defect.EMPTY, "It is empty."))])
    space = " " * 25
    sure, coarse, unsure, small, cut, failed = blocks(capsys.readouterr().out)
    assert sure[1:] == [f"  {'█' * 18}░░  90.0%  {BMWS[0]}", f"{space}6.0%  {BMWS[1]}", f"{space}3.0%  {BMWS[2]}"]
    assert coarse[1] == f"  {'█' * 17}░░░  85.0%  BMW Sedan (make and body)"
    assert [line.split("  ")[-1] for line in coarse[2:]] == list(BMWS[:3])
    assert unsure[1] == "  not sure"
    assert [line.split() for line in unsure[2:]] == [
        [share, *name.split()] for share, name in zip(("30.0%", "26.0%", "24.0%"), BMWS, strict=False)
    ]
    assert (small[1:], cut[1:]) == (["  too small"], ["  cut off"])
    assert failed == ["bad.jpg", "  error: It is empty."]


def test_no_colours_where_they_are_not_wanted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = bmw_classifier([0.9, 0.06, 0.03, 0.01]).predict(draw_car(0, 0))
    print_blocks([answer])
    assert "\x1b[32m█" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    print_blocks([answer])
    assert not re.search(r"\x1b\[(?:\d+;)*3\d", capsys.readouterr().out)


def test_what_came_of_the_photos_is_one_sentence() -> None:
    """Counted by hand: a.jpg has three cars, b.jpg one, c.jpg none, d.jpg cannot be read, e.jpg has an unknown car."""
    sure, coarse, unsure = (
        bmw_classifier(probabilities).predict(draw_car(0, 0))
        for probabilities in ([0.9, 0.06, 0.03, 0.01], [0.5, 0.35, 0.1, 0.05], [0.3, 0.26, 0.24, 0.2])
    )
    street = [replace(car, car=n, car_count=3) for n, car in enumerate((sure, coarse, unsure), start=1)]
    empty = replace(unsure, topk=(), levels=(), car=None, car_count=0, status=Status.NO_CAR)
    failed = Failure("d.jpg", PhotoError(Defect.EMPTY, "It is empty."))
    unknown = replace(unsure, status=Status.UNKNOWN_CAR)
    answers = [*street, sure, empty, failed, unknown, unknown]
    summary = Summary(known=196)
    assert list(summary.counting(answers)) == answers
    assert str(summary) == (
        "6 photos, 6 cars: 2 named, 1 named in part, 1 not sure, 2 unknown cars; 1 photo without a car; 1 photo could "
        "not be read.\nA confidence holds for the 196 cars that the model knows; others may get a high one too."
    )
    assert (summary.photos, summary.failed) == (6, 1)
    assert "confidence" not in str(Summary(known=196))


def test_of_photos_that_cannot_be_read_no_cars_are_counted() -> None:
    summary = Summary(known=196)
    summary.photos = summary.failed = 1
    assert str(summary) == "1 photo could not be read, and there was no other."


def test_without_photos_predict_says_what_to_type() -> None:
    shown = run("predict", "--json")
    assert shown.returncode == 2
    assert shown.stdout == ""
    assert "twincar predict PHOTO" in shown.stderr
    example = shown.stderr.split()[-1]
    assert run("predict", example, "--csv").returncode == 0
