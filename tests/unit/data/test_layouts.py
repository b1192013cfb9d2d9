"""Folders as people keep them: other names of the splits, makes and models, folders around folders."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import draw_car

from twincar.core.errors import DataError
from twincar.data.prepare import prepare
from twincar.data.sources import Source, open_source


def photos_in(root: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        draw_car(number % 4, number).save(root / name)


def named(source: Source) -> set[tuple[str, str, str]]:
    """Split, class and place of every photo."""
    return {(row.split, source.classes[int(row.label or 0)], row.name) for row in source.rows()}


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("training", "validation", "testing"),
        ("training_set", "val_set", "test_set"),
        ("Train", "VALID", "Test-Set"),
        ("train set", "validation set", "testset"),
    ],
)
def test_other_names_of_the_splits(tmp_path: Path, train: str, val: str, test: str) -> None:
    photos_in(tmp_path, f"{train}/A/1.jpg", f"{train}/B/1.jpg", f"{val}/A/1.jpg", f"{test}/B/1.jpg")
    assert named(open_source(str(tmp_path))) == {
        ("train", "A", f"{train}/A/1.jpg"),
        ("train", "B", f"{train}/B/1.jpg"),
        ("val", "A", f"{val}/A/1.jpg"),
        ("test", "B", f"{test}/B/1.jpg"),
    }


def test_two_folders_for_one_split_are_refused(tmp_path: Path) -> None:
    photos_in(tmp_path, "train/A/1.jpg", "training/A/1.jpg")
    with pytest.raises(DataError, match="one folder for the split 'train'"):
        open_source(str(tmp_path))


def test_a_folder_that_means_no_split_is_told(tmp_path: Path) -> None:
    photos_in(tmp_path, "train/A/1.jpg", "train/B/1.jpg", "extra/A/2.jpg")
    (tmp_path / "docs").mkdir()
    source = open_source(str(tmp_path))
    assert source.total == 2
    assert source.skipped == {"photo in a folder beside the splits": 1}


@pytest.mark.parametrize("above", ["", "train/"])
def test_makes_models_and_years(tmp_path: Path, above: str) -> None:
    names = [f"{above}{place}/1.jpg" for place in ("Audi/A4/2010", "Audi/A4/2012", "BMW/M3/2012")]
    photos_in(tmp_path, *names)
    source = open_source(str(tmp_path))
    assert source.classes.names == ("Audi A4 2010", "Audi A4 2012", "BMW M3 2012")
    assert {name for _, _, name in named(source)} == set(names)
    assert source.notes == ("Folders of makes, models and years: Audi/A4/2010 is the class 'Audi A4 2010'.",)


@pytest.mark.parametrize(
    "names",
    [
        ("Audi/A4/1.jpg", "BMW/M3/1.jpg"),  # models, or two views of a class?
        ("Audi/A4/2010/1.jpg", "BMW/M3/1.jpg"),
        ("Audi/A4/2010/1.jpg", "BMW/2012/1.jpg"),
        ("images/Audi/1.jpg", "images/BMW/1.jpg"),  # 'images' is no make
    ],
)
def test_deeper_folders_that_may_mean_anything_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    photos_in(tmp_path, *names)
    with pytest.raises(DataError, match=r"directly in its folder in .*but they lie deeper, such as in (Audi|images)/"):
        open_source(str(tmp_path))


def test_copy_of_stanford_cars_by_classes(tmp_path: Path) -> None:
    top = "car_data/car_data"
    photos_in(tmp_path, f"{top}/train/A/00001.jpg", f"{top}/train/B/00002.jpg", f"{top}/test/A/00001.jpg")
    (tmp_path / "names.csv").write_text("A\nB\n")
    (tmp_path / "anno_train.csv").write_text("00001.jpg,1,5,96,60,1\n00002.jpg,3,4,50,40,2\n00003.jpg,1,1,9,9,2\n")
    (tmp_path / "anno_test.csv").write_text("00001.jpg,2,2,80,50,1\n")
    source = open_source(str(tmp_path))
    assert {(row.split, row.name.rpartition("/")[2]): row.box for row in source.rows()} == {
        ("train", "00001.jpg"): (0, 4, 96, 60),  # they count from 1 there, the last included
        ("train", "00002.jpg"): (2, 3, 50, 40),
        ("test", "00001.jpg"): (1, 1, 80, 50),
    }
    assert source.notes == ("1 of 3 boxes for train match no photo, such as 00003.jpg.",)
    (tmp_path / "anno_test.csv").write_text("image,x1,y1,x2,y2,class\n")
    with pytest.raises(DataError, match=r"five whole numbers in .*anno_test\.csv, but line 1 has"):
        open_source(str(tmp_path))


def test_folders_around_the_splits(tmp_path: Path) -> None:
    photos_in(tmp_path, "cars/v2/train/A/1.jpg", "cars/v2/train/B/1.jpg")
    assert {name for _, _, name in named(open_source(str(tmp_path)))} == {
        "cars/v2/train/A/1.jpg",
        "cars/v2/train/B/1.jpg",
    }


def test_a_folder_that_is_named_for_no_label_is_no_class(tmp_path: Path) -> None:
    """Scripts that sort photos into folders by a column of labels make one for its gaps."""
    photos_in(tmp_path, "A/1.jpg", "A/2.jpg", "B/1.jpg", "B/2.jpg", "nan/1.jpg")
    source = open_source(str(tmp_path))
    assert source.classes.names == ("A", "B")
    assert [row.label for row in source.rows()] == [0, 0, 1, 1, None]
    assert prepare(str(tmp_path), tmp_path / "out").manifest["left_out"] == {"unknown label": 1}


def test_folders_that_are_no_data_set_say_what_to_do(tmp_path: Path) -> None:
    photos_in(tmp_path, "source/A/1.jpg", "source/A/2.jpg", "source/B/1.jpg", "source/B/2.jpg")
    prepare(str(tmp_path / "source"), tmp_path / "data" / "cars")
    with pytest.raises(DataError, match=r"data/cars in it is prepared already: use that for twincar train"):
        open_source(str(tmp_path / "data"))
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "mine.csv").write_text("filename,label\n")
    with pytest.raises(DataError, match=r"give the path of mine\.csv if it lists the photos"):
        open_source(str(tmp_path / "table"))
