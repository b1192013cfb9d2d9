"""Boxes and names in photos: at their cars, within the photo, apart from each other, and large enough to read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bmw_model import bmw_classifier
from PIL import Image, ImageDraw

from twincar.core.errors import UsageError
from twincar.core.listing import find_photos
from twincar.core.photos import Box
from twincar.inference import drawing
from twincar.inference.drawing import draw_all, draw_cars
from twincar.inference.results import Failure, Prediction, Status

SURE = bmw_classifier([0.97, 0.01, 0.01, 0.01]).predict(Image.new("RGB", (9, 9)))
GREEN, ORANGE, GREY = (0x00, 0x9E, 0x73), (0xE6, 0x9F, 0x00), (0xBB, 0xBB, 0xBB)


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
    left, top, right, bottom = coloured(picture, GREEN)
    assert (left, right, bottom) == (200, 799, 499)  # within a black edge of one pixel
    assert 300 - 50 < top < 300
    assert photo.getextrema() == ((255, 255),) * 3


def test_the_colour_of_a_box_says_what_to_trust_and_not_which_car_it_is() -> None:
    photo, box = Image.new("RGB", (400, 300), "white"), (100, 100, 300, 250)
    for status, colour in (("named", GREEN), ("named in part", ORANGE), ("not sure", GREY), ("unknown car", GREY)):
        for number in (1, 2):
            car = replace(cars(box)[0], status=Status(status), car=number)
            assert coloured(draw_cars(photo, [car]), colour)[2:] == (299, 249)
    with pytest.raises(ValueError, match="zero-size"):
        coloured(draw_cars(photo, cars(box)), GREY)


@pytest.mark.parametrize("size", [(40, 30), (60, 400), (640, 480), (8000, 6000), (3000, 90)])
def test_labels_stay_in_the_photo_and_are_legible_at_any_size(
    size: tuple[int, int], labels: list[tuple[Box, tuple[int, int]]]
) -> None:
    width, height = size
    corners = [(0, 0, width // 3, height // 3), (width * 2 // 3, height * 2 // 3, width, height)]
    picture = draw_cars(Image.new("RGB", size), cars(*corners, (0, 0, width, height)))
    assert picture.size == size
    for (left, top, right, bottom), (wide, high) in labels:
        assert 0 <= left < right <= wide
        assert top >= 0
        assert bottom <= high
        assert bottom - top >= max(12, min(max(size) / 40, min(size) / 8))


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


def test_the_number_of_a_car_and_its_name_are_written_in_the_words_of_the_answer() -> None:
    assert drawing._label(SURE) == "BMW 3 Series Sedan 2012 97.0%"
    assert drawing._label(replace(SURE, car=3, car_count=6)) == "3 BMW 3 Series Sedan 2012 97.0%"
    assert drawing._label(replace(SURE, car=2, car_count=6, answer=None, status=Status.UNKNOWN_CAR)) == "2 unknown car"
    for status, text in (
        (Status.UNKNOWN_CAR, "unknown car"),
        (Status.TOO_SMALL, "too small"),
        (Status.CUT_OFF, "cut off"),
        (Status.NO_CAR, "no car found"),
        (Status.NOT_SURE, "not sure"),
    ):
        assert drawing._label(replace(SURE, answer=None, status=status)) == text


def test_text_is_black_on_light_and_white_on_dark_colours() -> None:
    assert [drawing._contrast(color) for color in ("#F0E442", "#E69F00", "#0072B2")] == ["black", "black", "white"]


def test_a_photo_without_boxes_has_its_name_in_a_corner() -> None:
    picture = draw_cars(Image.new("RGB", (900, 500), "white"), cars(None))
    left, top, right, bottom = coloured(picture, GREEN)
    assert (left, top) == (0, 0)
    assert right < 600
    assert bottom < 60


def test_where_a_name_does_not_fit_there_is_the_number_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(ImageDraw.ImageDraw, "multiline_text", lambda _, __, text, **___: written.append(text))
    draw_cars(Image.new("RGB", (30, 24)), cars((0, 0, 15, 24), (15, 0, 30, 24)))
    draw_cars(Image.new("RGB", (300, 240)), cars((0, 0, 150, 240), (150, 0, 300, 240)))
    assert written == ["1", "2", "1 BMW 3 Series Sedan 2012 97.0%", "2 BMW 3 Series Sedan 2012 97.0%"]


def paint(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (90, 50), "white").save(path)
    return str(path)


def test_drawings_keep_the_folders_names_and_sizes_of_their_photos(tmp_path: Path) -> None:
    photos = [paint(tmp_path / "photos" / name) for name in ("a/car.jpg", "a/car.png", "b/2012/car.jpg", "b/car.JPEG")]
    predictions: list[Prediction | Failure] = []
    for photo in photos:
        predictions += [replace(car, photo=photo) for car in cars((0, 0, 10, 10), (50, 30, 60, 40))]
    predictions.insert(2, Failure("gone.jpg", ValueError()))  # type: ignore[arg-type]
    drawn = tmp_path / "drawn"
    assert list(draw_all(predictions, drawn, [str(tmp_path / "photos")])) == predictions
    found = sorted(path.relative_to(drawn).as_posix() for path in drawn.rglob("*") if path.suffix)
    assert found == ["a/car.jpg", "a/car.png.jpg", "b/2012/car.jpg", "b/car.JPEG"]
    with Image.open(drawn / "a/car.jpg") as picture:
        assert picture.size == (90, 50)
    with pytest.raises(UsageError, match="new or an empty folder for --draw"):
        draw_all(predictions, drawn, [str(tmp_path / "photos")])


def test_drawings_within_the_folder_that_is_searched_are_not_drawn_again(tmp_path: Path) -> None:
    """Neither while they are drawn, when the folder is listed only after the first of them, nor later."""
    photo = paint(tmp_path / "a" / "car.jpg")
    for drawn in ("b", "c"):
        found = find_photos([str(tmp_path)])
        predictions = (replace(car, photo=name) for name in found for car in cars((0, 0, 10, 10)))
        assert [car.photo for car in draw_all(predictions, tmp_path / drawn, [str(tmp_path)])] == [photo]
    (tmp_path / "d").mkdir()
    for _ in range(2):  # a run that has drawn nothing leaves the folder as good as empty
        list(draw_all([], tmp_path / "d", [str(tmp_path)]))


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (["a/car.jpg"], "car.jpg"),
        (["a"], "car.jpg"),
        (["a", "b"], "a/car.jpg"),
        (["a/car.jpg", "b/2012/car.jpg"], "a/car.jpg"),
        (["*/car.jpg"], "a/car.jpg"),
        (["./a/*.jpg"], "car.jpg"),
        (["../cars/a/car.jpg", "s3://bucket/cars"], "{root}/cars/a/car.jpg"),
    ],
)
def test_names_begin_below_the_folder_that_all_photos_share(
    named: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b/2012"):
        paint(tmp_path / "cars" / name / "car.jpg")
    monkeypatch.chdir(tmp_path / "cars")
    list(draw_all([replace(SURE, photo="a/car.jpg")], tmp_path / "drawn", named))
    (found,) = (path for path in (tmp_path / "drawn").rglob("*") if path.suffix)
    root = tmp_path.relative_to(tmp_path.anchor).as_posix()
    assert found.relative_to(tmp_path / "drawn").as_posix() == expected.format(root=root)


@pytest.mark.parametrize(
    ("named", "photo", "expected"),
    [
        ("s3://bucket/cars", "s3://bucket/cars/a/car.png", "a/car.png.jpg"),
        ("s3://bucket/cars/*.jpg", "s3://bucket/cars/car.jpg", "car.jpg"),
        ("https://host/car.jpg", "https://host/car.jpg", "car.jpg"),
        ("https://host/photo", "https://host/photo", "photo.jpg"),
        ("s3://bucket/cars", "s3://bucket/cars/../../../car.jpg", "car.jpg"),
    ],
)
def test_photos_at_addresses_are_drawn_below_the_folder_too(
    named: str, photo: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "read_photo", lambda _: Image.new("RGB", (9, 9)))
    list(draw_all([replace(SURE, photo=photo)], tmp_path / "drawn", [named]))
    (found,) = (path for path in (tmp_path / "drawn").rglob("*") if path.suffix)
    assert found.relative_to(tmp_path / "drawn").as_posix() == expected
