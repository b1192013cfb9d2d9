from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import encoded
from numpy.typing import NDArray
from PIL import Image

from twincar.core.errors import StorageError
from twincar.core.labels import parse_class_name
from twincar.data.toy import cars as toycars
from twincar.data.toy.cars import (
    CLASS_NAMES,
    TWIN_PAIRS,
    WIDTH,
    ToyPhoto,
    TwinPair,
    draw_data_set,
    draw_photo,
    draw_street,
)
from twincar.data.toy.twins import draw_twins

pairs = pytest.mark.parametrize("pair", TWIN_PAIRS, ids=lambda pair: pair.first)


def pixels(photo: ToyPhoto) -> NDArray[np.uint8]:
    return np.asarray(photo.image)


def both(pair: TwinPair, number: int) -> tuple[ToyPhoto, ToyPhoto]:
    """The twins from the same random stream: the same view, paint, place, obstacle and noise."""
    first, second = (toycars.photograph(name, np.random.default_rng(number)) for name in (pair.first, pair.second))
    return first, second


def test_names() -> None:
    assert len(CLASS_NAMES) == len(set(CLASS_NAMES)) == 24
    assert list(CLASS_NAMES) == sorted(CLASS_NAMES)
    assert {name for pair in TWIN_PAIRS for name in (pair.first, pair.second)} == set(CLASS_NAMES)
    cars = [parse_class_name(name) for name in CLASS_NAMES]
    assert all(car.make and car.model and car.body and car.year for car in cars)
    assert {car.make for car in cars} == {"Aurora", "Bellwood", "Corvane", "Dunmore", "Estrella"}
    assert len({car.body for car in cars}) == 9


@pairs
def test_the_names_of_twins_differ_in_make_or_year_only(pair: TwinPair) -> None:
    first, second = parse_class_name(pair.first), parse_class_name(pair.second)
    assert first.body == second.body
    if pair.part in ("grille", "badge"):
        assert first.make != second.make
        assert first.year == second.year
    else:
        assert (first.make, first.model) == (second.make, second.model)
        assert first.year != second.year


def test_a_photo_is_the_same_each_time() -> None:
    one, two = draw_photo(CLASS_NAMES[3], seed=5, number=2), draw_photo(CLASS_NAMES[3], seed=5, number=2)
    assert pixels(one).tobytes() == pixels(two).tobytes()
    assert one.part_mask.tobytes() == two.part_mask.tobytes()
    assert one.box == two.box


def test_a_photo_depends_on_seed_split_class_and_number() -> None:
    name = CLASS_NAMES[0]
    photos = [
        draw_photo(name, seed=1),
        draw_photo(name, seed=2),
        draw_photo(name, seed=1, split="test"),
        draw_photo(name, seed=1, number=1),
        draw_photo(CLASS_NAMES[1], seed=1),
    ]
    assert len({pixels(photo).tobytes() for photo in photos}) == len(photos)


def test_twins_do_not_share_their_views() -> None:
    first, second = (draw_photo(name, seed=1) for name in (TWIN_PAIRS[0].first, TWIN_PAIRS[0].second))
    assert first.box != second.box


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(ValueError, match="found 'Aurora Falcon'"):
        draw_photo("Aurora Falcon", seed=0)


@pairs
def test_twins_differ_within_the_mask_only(pair: TwinPair) -> None:
    for number in range(4):
        first, second = both(pair, number)
        assert first.box == second.box
        np.testing.assert_array_equal(first.part_mask, second.part_mask)
        different = (pixels(first) != pixels(second)).any(axis=2)
        assert not different[first.part_mask == 0].any()
        # The part is small, and within it much is different to see.
        part = first.part_mask > 0
        assert 0.005 < part.mean() < 0.25
        contrast = np.abs(pixels(first).astype(int) - pixels(second)).max(axis=2)
        assert (contrast > 40).sum() > 0.15 * part.sum()


@pairs
def test_the_box_holds_the_part(pair: TwinPair) -> None:
    for number in range(8):
        photo = draw_photo(pair.first, seed=3, number=number)
        height = photo.image.height
        assert photo.image.width == WIDTH
        assert 80 < height < 160
        assert photo.image.mode == "RGB"
        assert photo.part_mask.shape == (height, WIDTH)
        assert set(np.unique(photo.part_mask)) == {0, 255}
        x1, y1, x2, y2 = photo.box
        assert 0 <= x1 < x2 <= WIDTH
        assert 0 <= y1 < y2 <= height
        rows, columns = np.nonzero(photo.part_mask)
        reach = toycars._LENS // 2  # the mask is grown by the reach of the blur
        assert x1 - reach <= columns.min() <= columns.max() < x2 + reach
        assert y1 - reach <= rows.min() <= rows.max() < y2 + reach


def test_the_box_is_that_of_the_car(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the paint changes lies in the box, and reaches near to all its sides."""
    name = "Estrella Cielo Sedan 2008"  # its wheels and flanks, which are what is lowest and widest, show its paint
    monkeypatch.setattr(toycars, "draw_obstacle", lambda *_: [])
    photos = []
    for factor in (0.2, 1.0):
        on = toycars.Paint.on
        with monkeypatch.context() as patch:
            patch.setattr(toycars.Paint, "on", lambda self, face, f=factor, on=on: toycars.shaded(on(self, face), f))
            patch.setattr(toycars, "shadow_faces", lambda *_: [])
            photos.append(toycars.photograph(name, np.random.default_rng(4)))
    rows, columns = np.nonzero((pixels(photos[0]) != pixels(photos[1])).any(axis=2))
    found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    np.testing.assert_allclose(found, photos[0].box, atol=3)


def test_obstacles_are_seldom() -> None:
    met = sum(bool(toycars.draw_obstacle(np.random.default_rng(number), (10, 10, 180, 110))) for number in range(400))
    assert 0.08 < met / 400 < 0.22


@pytest.mark.parametrize(("share", "drawn"), [(0.2, True), (0.5, False)])
def test_an_obstacle_that_hides_too_much_is_left_out(share: float, drawn: bool) -> None:
    image, mask = Image.new("RGB", (100, 10)), Image.new("L", (100, 10), 255)
    toycars._put_before(
        image, mask, [(np.array([(0, 0), (100 * share - 1, 0), (100 * share - 1, 9), (0, 9)]), (9, 9, 9))]
    )
    assert np.asarray(image).max() == (9 if drawn else 0)
    assert (np.asarray(mask) == 0).mean() == pytest.approx(share if drawn else 0)


def test_color_does_not_tell_the_class() -> None:
    """Every class is painted in all colours: over many photos, the mean colours of the classes are close."""
    means = [
        np.mean([pixels(draw_photo(name, seed=2, number=number)).mean(axis=(0, 1)) for number in range(24)], axis=0)
        for name in (TWIN_PAIRS[0].first, TWIN_PAIRS[0].second)
    ]
    assert np.abs(means[0] - means[1]).max() < 20


def test_the_files_agree_with_the_table(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    counts = {"train": 2, "test": 1}
    draw_data_set(tmp_path, seed=9, photos_per_class=counts, on_photo=lambda done, total: steps.append((done, total)))
    with (tmp_path / "photos.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["filename", "label", "split", "x1", "y1", "x2", "y2"]
    assert steps == [(done, 72) for done in range(1, 73)]
    files = {path.relative_to(tmp_path / "photos").as_posix() for path in tmp_path.glob("photos/*/*/*.jpg")}
    masks = {path.relative_to(tmp_path / "masks").with_suffix(".jpg").as_posix() for path in tmp_path.rglob("*.png")}
    assert {row["filename"] for row in rows} == files == masks
    assert len(rows) == 72
    for row in rows[::7]:
        split, label, name = row["filename"].split("/")
        assert (split, label) == (row["split"], row["label"])
        photo = draw_photo(label, seed=9, split=split, number=int(Path(name).stem))
        assert photo.box == tuple(int(row[key]) for key in ("x1", "y1", "x2", "y2"))
        assert (tmp_path / "photos" / row["filename"]).read_bytes() == encoded(photo.image, quality=92)
        mask = np.asarray(Image.open((tmp_path / "masks" / row["filename"]).with_suffix(".png")))
        np.testing.assert_array_equal(mask, photo.part_mask)
    facts = json.loads((tmp_path / "toycars.json").read_text())
    assert facts["seed"] == 9
    assert facts["photos_per_class"] == counts
    assert [TwinPair(**pair) for pair in facts["twin_pairs"]] == list(TWIN_PAIRS)


def test_a_larger_data_set_begins_with_the_photos_of_a_smaller_one(tmp_path: Path) -> None:
    draw_data_set(tmp_path / "small", photos_per_class={"test": 1})
    draw_data_set(tmp_path / "large", photos_per_class={"train": 1, "test": 2})
    small = sorted((tmp_path / "small").glob("*/test/*/0000.*"))
    assert len(small) == 48
    for path in small:
        assert path.read_bytes() == (tmp_path / "large" / path.relative_to(tmp_path / "small")).read_bytes()


def test_a_folder_that_cannot_be_written_to_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(StorageError, match="the disk is full"):
        draw_data_set(tmp_path, photos_per_class={"train": 1})
    assert not (tmp_path / "toycars.json").exists()


def test_the_picture_of_twins_shows_each_pair_in_the_same_place(tmp_path: Path) -> None:
    draw_twins(tmp_path / "new" / "twins.png")
    sheet = np.asarray(Image.open(tmp_path / "new" / "twins.png").convert("RGB")).astype(int)
    first, second = sheet[10:150, 10:202], sheet[10:150, 212:404]  # the photos of the first pair
    car = toycars.photograph(TWIN_PAIRS[0].first, np.random.default_rng(0))
    top = (140 - car.image.height) // 2
    np.testing.assert_array_equal(first[top : top + car.image.height], np.asarray(car.image))
    different = (first != second).any(axis=2)[top : top + car.image.height]
    assert different.any()
    assert not (different & (car.part_mask == 0)).any()


def test_a_street_shows_each_car_in_its_box(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [CLASS_NAMES[0], CLASS_NAMES[9], CLASS_NAMES[18]]
    street, boxes = draw_street(names, seed=3, width=480)
    assert street.width == 480
    assert len(boxes) == 3
    assert draw_street(names, seed=3, width=480)[0].tobytes() == street.tobytes()
    monkeypatch.setattr(toycars, "_draw_faces", lambda *_: None)
    empty = np.asarray(draw_street(names, seed=3, width=480)[0]).astype(int)
    changed = abs(np.asarray(street).astype(int) - empty).max(axis=2) > 60
    inside = np.zeros_like(changed)
    for left, top, right, bottom in boxes:
        assert changed[top:bottom, left:right].mean() > 0.3
        inside[top:bottom, left:right] = True
    assert changed[~inside].mean() < 0.02  # shadows
