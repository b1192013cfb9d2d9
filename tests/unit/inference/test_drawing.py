"""Boxes and names in photos: at their cars, within the photo, apart from each other, and large enough to read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bmw_model import bmw_classifier
from PIL import Image

from twincar.core.errors import UsageError
from twincar.inference import drawing
from twincar.inference.drawing import draw_all, draw_cars
from twincar.inference.results import Box, Failure, Prediction, Reason

SURE = bmw_classifier([0.97, 0.01, 0.01, 0.01]).predict(Image.new("RGB", (9, 9)))
ORANGE, SKY = (0xE6, 0x9F, 0x00), (0x56, 0xB4, 0xE9)


def cars(*boxes: Box | None) -> list[Prediction]:
    return [replace(SURE, box=box, car=n, car_count=len(boxes)) for n, box in enumerate(boxes, start=1)]


@pytest.fixture
def labels(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Box, tuple[int, int]]]:
    """Each label that is placed, and the size of its picture."""
    found: list[tuple[Box, tuple[int, int]]] = []
    place = drawing._place

    def placing(label: tuple[int, int], box: Box, placed: list[Box], size: tuple[int, int]) -> Box:
        found.append((place(label, box, placed, size), size))
        return found[-1][0]

    monkeypatch.setattr(drawing, "_place", placing)
    return found


def coloured(picture: Image.Image, colour: tuple[int, int, int]) -> Box:
    """The box around all pixels of a colour."""
    rows, columns = np.nonzero((np.asarray(picture) == colour).all(axis=2))
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def test_a_box_is_drawn_where_the_car_is_and_its_name_above() -> None:
    photo = Image.new("RGB", (1000, 600), "white")
    picture = draw_cars(photo, cars((200, 300, 800, 500)))
    left, top, right, bottom = coloured(picture, ORANGE)
    assert (left, right, bottom) == (200, 799, 499)  # within a black edge of one pixel
    assert 300 - 50 < top < 300
    assert photo.getextrema() == ((255, 255),) * 3


@pytest.mark.parametrize("size", [(40, 30), (30, 400), (640, 480), (8000, 6000), (3000, 90)])
def test_labels_stay_in_the_photo_and_are_legible_at_any_size(
    size: tuple[int, int], labels: list[tuple[Box, tuple[int, int]]]
) -> None:
    width, height = size
    corners = [(0, 0, width // 3, height // 3), (width * 2 // 3, height * 2 // 3, width, height)]
    picture = draw_cars(Image.new("RGB", size), cars(*corners, (0, 0, width, height)))
    assert (max(picture.size), min(picture.size)) >= (400, 200)
    for (left, top, right, bottom), (wide, high) in labels:
        assert 0 <= left < right <= wide
        assert top >= 0
        assert bottom <= high
        assert bottom - top >= min(max(picture.size) / 40, min(picture.size) / 8)


def test_labels_do_not_cover_each_other_where_there_is_room(labels: list[tuple[Box, tuple[int, int]]]) -> None:
    near = [(300 + 10 * n, 200 + 10 * n, 600 + 10 * n, 400 + 10 * n) for n in range(6)]
    draw_cars(Image.new("RGB", (1200, 800)), cars(*near))
    places = [place for place, _ in labels]
    assert len(places) == 6
    assert sum(drawing._overlap(a, b) for a in places for b in places if a is not b) == 0


def test_two_hundred_cars_have_smaller_names() -> None:
    many = [(x * 80, y * 80, x * 80 + 70, y * 80 + 70) for x in range(20) for y in range(10)]
    picture = draw_cars(Image.new("RGB", (1600, 800)), cars(*many))
    assert picture.size == (1600, 800)


def test_what_is_written_says_why_there_is_no_name() -> None:
    assert drawing._label(SURE) == "BMW 3 Series Sedan 2012 97.0%"
    for reason, text in (
        (Reason.UNKNOWN_CAR, "unknown car"),
        (Reason.TOO_SMALL, "too small"),
        (Reason.NO_CAR, "no car found"),
        (Reason.NOT_SURE, "not sure"),
    ):
        assert drawing._label(replace(SURE, answer=None, reason=reason)) == text
    assert [drawing._label(car) for car in cars((0, 0, 5, 5), None)] == [
        f"{number} BMW 3 Series Sedan 2012 97.0%" for number in (1, 2)
    ]


def test_a_photo_of_ordinary_size_keeps_it() -> None:
    assert draw_cars(Image.new("RGB", (600, 400)), cars((20, 30, 200, 300))).size == (600, 400)


def test_text_is_black_on_light_and_white_on_dark_colours() -> None:
    assert [drawing._contrast(color) for color in ("#F0E442", "#E69F00", "#0072B2")] == ["black", "black", "white"]


def test_a_photo_without_boxes_has_its_name_in_a_corner() -> None:
    picture = draw_cars(Image.new("RGB", (900, 500), "white"), cars(None))
    left, top, right, bottom = coloured(picture, ORANGE)
    assert (left, top) == (0, 0)
    assert right < 600
    assert bottom < 60


def test_each_photo_is_written_under_a_name_of_its_own(tmp_path: Path) -> None:
    predictions: list[Prediction | Failure] = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (900, 500), "white").save(tmp_path / folder / "car.png")
        two = cars((0, 0, 100, 100), (500, 300, 600, 400))
        predictions += [replace(car, photo=str(tmp_path / folder / "car.png")) for car in two]
    predictions.insert(2, Failure("gone.jpg", ValueError()))  # type: ignore[arg-type]
    assert list(draw_all(predictions, tmp_path / "drawn")) == predictions
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["car-2.jpg", "car.jpg"]
    with Image.open(tmp_path / "drawn" / "car.jpg") as picture:
        assert picture.size == (900, 500)
    with pytest.raises(UsageError, match="new or an empty folder for --draw"):
        draw_all(predictions, tmp_path / "drawn")
