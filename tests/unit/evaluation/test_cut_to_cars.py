"""Models of crops are judged and explained on the main car of each photo."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from colour_model import GREEN, RED, YELLOW, ColourDetector, paint, paint_street, write_model

from twincar.core.options import DetectOptions
from twincar.evaluation import overlay_figures
from twincar.evaluation.evaluate import evaluate
from twincar.evaluation.subject import Subject
from twincar.explanation.explain import explain
from twincar.inference import crops

RED_BOX, GREEN_BOX = (100, 60, 150, 90), (20, 20, 50, 45)


@pytest.fixture(autouse=True)
def colour_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crops, "load_detector", lambda _: ColourDetector())


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "colours.onnx", framing="car")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Small cars on cyan, which looks like others, named after the larger one; and a wall that is said to be a car."""
    red, green = (tmp_path / "photos" / name for name in ("BMW M3 Sedan 2012", "Volvo C30 Hatchback 2012"))
    for folder in (red, green):
        folder.mkdir(parents=True)
    paint_street(red / "two.png", {RED: RED_BOX, GREEN: GREEN_BOX}, "cyan")
    paint_street(red / "one.png", {RED: (10, 10, 40, 30)}, "cyan")
    paint_street(green / "one.png", {GREEN: GREEN_BOX}, "cyan")
    paint(green / "wall.png", YELLOW)
    return tmp_path / "photos"


def test_the_main_car_is_judged_and_photos_without_one_are_counted(model: Path, data: Path, tmp_path: Path) -> None:
    found = evaluate(model, data_folder=data, out=tmp_path / "found")
    assert (found.photos, found.no_car, found.accuracy.value) == (4, 1, 0.75)  # all but the wall
    assert found.rejection.accepted <= 0.75
    assert found.rejection.accuracy_of_rejected == 0
    whole = evaluate(model, data_folder=data, detection=DetectOptions(detect="never"), out=tmp_path / "whole")
    assert whole.no_car is None
    assert whole.accuracy.value < 0.75


def test_photos_that_are_cut_already_are_not_searched(model: Path, data: Path) -> None:
    subject = Subject(model, data)
    assert subject.finder(subject.data) is not None
    cut = replace(subject.data, manifest={**subject.data.manifest, "framing": "car"})
    assert subject.finder(cut) is None
    assert Subject(model, data, detection=DetectOptions(detect="always")).finder(cut) is not None


def test_maps_are_over_the_cut(model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[overlay_figures.Explained] = []
    figure = overlay_figures.explanation_figure
    monkeypatch.setattr(overlay_figures, "explanation_figure", lambda item: (shown.append(item), figure(item))[1])
    photo = str(data / "BMW M3 Sedan 2012" / "two.png")
    explain(model, images=[photo], out=tmp_path / "cut")
    explain(model, images=[photo], out=tmp_path / "whole", detection=DetectOptions(detect="never"))
    assert [item.photo.shape for item in shown] == [(30, 50, 3), (200, 400, 3)]
    assert (shown[0].photo == RED).all()
    assert shown[0].predicted == "BMW M3 Sedan 2012"
