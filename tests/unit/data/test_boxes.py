"""Boxes of a source: which can be used, and the sentence for each that cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import run
from conftest import draw_car

from twincar.core.photos import Box
from twincar.data.boxes import BoxFault, BoxFinding, describe_boxes, fit_box, read_box
from twincar.data.sources import open_source
from twincar.data.validate import audit_source


@pytest.mark.parametrize(
    ("sides", "box"),
    [
        (("1", "2", "30", "40"), (1, 2, 30, 40)),
        (("1.4", "-2.6", "30.5001", "4e1"), (1, -3, 31, 40)),
        (("", "", "", ""), None),
        (("1", "2", "", "40"), BoxFault.INCOMPLETE),
        (("0.1", "0.2", "0.9", "1.0"), BoxFault.FRACTIONS),
        (("0", "0", "1", "1"), BoxFault.FRACTIONS),
    ],
)
def test_sides_as_text(sides: tuple[str, ...], box: object) -> None:
    assert read_box(sides) == box


@pytest.mark.parametrize("side", ["wide", "nan", "inf"])
def test_sides_that_are_no_numbers(side: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # the caller names the line
        read_box(("1", "2", side, "40"))


@pytest.mark.parametrize(
    ("box", "used", "fault"),
    [
        ((10, 20, 90, 60), (10, 20, 90, 60), None),
        ((0, 0, 200, 100), (0, 0, 200, 100), None),
        ((90, 20, 10, 60), None, BoxFault.SWAPPED),
        ((10, 60, 90, 20), None, BoxFault.SWAPPED),
        ((10, 20, 10, 60), None, BoxFault.EMPTY),
        ((-5, -4, 90, 60), (0, 0, 90, 60), BoxFault.BEYOND),
        ((150, 20, 230, 60), (150, 20, 200, 60), BoxFault.BEYOND),  # 50 of 80 columns are inside
        ((170, 20, 250, 60), None, BoxFault.ELSEWHERE),  # 30 of 80
        ((300, 20, 400, 60), None, BoxFault.ELSEWHERE),
        ((-90, -60, -10, -20), None, BoxFault.ELSEWHERE),
        ((100, 50, 1100, 550), None, BoxFault.ELSEWHERE),  # a photo five times as large
        ((10, 20, 25, 60), (10, 20, 25, 60), BoxFault.TINY),  # 15 columns
        ((10, 20, 26, 36), (10, 20, 26, 36), None),
    ],
)
def test_boxes_of_a_photo_of_200_by_100_pixels(box: Box, used: Box | None, fault: BoxFault | None) -> None:
    assert fit_box(box, 200, 100) == (used, fault)


def test_each_kind_of_fault_is_one_sentence_with_its_count_and_lines() -> None:
    swapped = [BoxFinding(f"{line}.jpg", BoxFault.SWAPPED, (9, 0, 1, 4), line) for line in range(2, 10)]
    beyond = BoxFinding("train/a.jpg", BoxFault.BEYOND, (-1, 0, 30, 40))
    assert describe_boxes([beyond, *swapped]) == [
        "Expected boxes inside their photo, but found 1 box beyond its edge or negative ('train/a.jpg'); the part "
        "inside is used.",
        "Expected left before right and top before bottom, but found them swapped in 8 boxes (lines 2, 3, 4, 5, 6, 7 "
        "and 2 more); the photos are kept, without a box.",
    ]
    assert swapped[0].detail == (
        "Expected left before right and top before bottom, but found them swapped in 1 box (line 2: 9, 0, 1, 4)."
    )


TABLE = """filename,class,split,XMin,YMin,XMax,YMax
1.jpg,A,train,4,6,90,60
2.jpg,A,train,90,6,4,60
3.jpg,A,train,0.1,0.1,0.9,0.9
4.jpg,A,train,4,6,4,60
5.jpg,B,train,-3,-3,90,60
6.jpg,B,train,400,600,900,1600
7.jpg,B,train,4,,90,60
8.jpg,B,train,,,,
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Photos of 96×64 pixels, six with a box that something is wrong with."""
    for number in range(1, 9):
        draw_car(number % 4, number).save(tmp_path / f"{number}.jpg")
    path = tmp_path / "cars.csv"
    path.write_text(TABLE)
    return path


def test_no_photo_is_lost_for_its_box(table: Path) -> None:
    report = audit_source(open_source(str(table)))
    assert [photo.box for photo in report.valid] == [
        *((4, 6, 90, 60), None, None, None, (0, 0, 90, 60), None, None, None),
    ]
    assert report.findings == ()
    assert [(found.file, found.fault, found.line) for found in report.boxes] == [
        ("2.jpg", BoxFault.SWAPPED, 3),
        ("3.jpg", BoxFault.FRACTIONS, 4),
        ("4.jpg", BoxFault.EMPTY, 5),
        ("5.jpg", BoxFault.BEYOND, 6),
        ("6.jpg", BoxFault.ELSEWHERE, 7),
        ("7.jpg", BoxFault.INCOMPLETE, 8),
    ]


def test_audit_lists_them(table: Path) -> None:
    result = run("audit", table)
    assert result.returncode == 1
    assert "8 valid rows, 0 invalid." in result.stdout
    for said in ("swapped box", "fractions of the photo, 0 to 1, in 1 box (line 4)", "(line 7); the photos are kept"):
        assert said in result.stdout
    assert "--detect" in run("audit", "--help").stdout


def test_a_photo_listed_twice_keeps_the_fault_of_its_own_line(table: Path) -> None:
    table.write_text(TABLE + "1.jpg,A,train,90,6,4,60\n", encoding="utf-8")
    report = audit_source(open_source(str(table)))
    assert "1.jpg" not in [found.file for found in report.boxes]
    assert len(report.findings) == 1
