"""The same rows in every form that a command prints: a table, CSV and JSON, also where a cell is a list."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import typer
from colour_model import GREEN, RED, paint_street, write_model
from command_line import run
from detector_files import constant_detector

from twincar.cli import app
from twincar.cli.output import print_csv

BOXES = {GREEN: (25, 25, 50, 50), RED: (100, 50, 300, 175)}  # sixteenths of the photo, which are exact
EDGES = ("left", "top", "right", "bottom")


@pytest.fixture
def street(tmp_path: Path) -> tuple[Path, list[object]]:
    """A folder with a photo of two cars, and the options of a model that finds and names them."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("a.png", "b.png"):
        paint_street(photos / name, BOXES)
    shares = [(left / 400, top / 200, right / 400, bottom / 200) for left, top, right, bottom in BOXES.values()]
    detector = tmp_path / "detector.onnx"
    detector.write_bytes(constant_detector(shares, [(0, 0.9)] * 2))
    return photos, [write_model(tmp_path / "colours.onnx", framing="car"), "--detector", detector]


def rows_of(*command: object) -> list[dict[str, str]]:
    printed = run(*command, "--csv")
    assert "Traceback" not in printed.stderr
    return list(csv.DictReader(io.StringIO(printed.stdout)))


def test_the_commands_that_print_csv() -> None:
    """One more needs a test below."""
    verbs = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    with_csv = {name for name, verb in verbs.items() if any("--csv" in option.opts for option in verb.params)}
    assert with_csv == {"audit", "predict", "similar"}


def test_similar_cars_have_their_boxes_in_each_form(street: tuple[Path, list[object]]) -> None:
    photos, (model, *detector) = street
    command = ("similar", model, photos / "a.png", "--among", photos, *detector)
    cars = json.loads(run(*command, "--json").stdout)["similar"]
    assert {tuple(car["box"]) for car in cars} == set(BOXES.values())
    rows = rows_of(*command)
    assert [(row["photo"], row["car"], *(int(row[edge]) for edge in EDGES)) for row in rows] == [
        (car["photo"], str(car["car"]), *car["box"]) for car in cars
    ]
    printed = run(*command).stdout.splitlines()[1:]
    assert [line.split("\t")[1:] for line in printed] == [[car["photo"], f"{car['car']} of 2"] for car in cars]


def test_predicted_cars_have_their_lists_in_each_form(street: tuple[Path, list[object]]) -> None:
    photos, (model, *detector) = street
    command = ("predict", photos, "--model", model, *detector)
    cars = [car for line in run(*command, "--json").stdout.splitlines() for car in json.loads(line)["cars"]]
    rows = rows_of(*command)
    assert [[int(row[edge]) for edge in EDGES] for row in rows] == [car["box"] for car in cars]
    assert [row["alternatives"] for row in rows] == ["; ".join(car["alternatives"]) for car in cars]
    assert any(car["alternatives"] for car in cars)
    assert run(*command).stdout == run(*command, "--csv").stdout


def test_audited_rows_are_the_same_in_each_form(tmp_path: Path) -> None:
    for name in ("Audi S4 Sedan 2011", "BMW M3 Sedan 2012"):
        (tmp_path / "cars" / name).mkdir(parents=True)
        paint_street(tmp_path / "cars" / name / "a.png", BOXES)
    rows = rows_of("audit", tmp_path / "cars")
    assert len(rows) == 2
    assert rows == [json.loads(line) for line in run("audit", tmp_path / "cars", "--json").stdout.splitlines()]
    deep = rows_of("audit", tmp_path / "cars", "--deep", "--out", tmp_path / "out")
    written = (tmp_path / "out" / "findings.csv").read_text(encoding="utf-8")
    assert deep == list(csv.DictReader(io.StringIO(written)))
    assert len(deep) == 2


def test_a_cell_may_hold_a_list_of_anything(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"a": [1, 2], "b": (0.5, None), "c": "=1", "more": [3]}, {"a": None}]
    print_csv(rows, ["a", "b", "c"])
    assert capsys.readouterr().out == "a,b,c\n1; 2,0.5; None,'=1\n,,\n"
