from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import draw_car, encoded
from hub_server import COMMIT, HubClient, HubServer
from scipy.io import savemat

from twincar.core.errors import DataError, HubError, LabelError, UsageError
from twincar.data.prepare import prepare
from twincar.data.sources import Source, SourceRow, open_source, read_class_file

VAN = "Ram C/V Cargo Van Minivan 2012"
NAMES = ["Audi S4 Sedan 2012", VAN, "BMW Z4 Convertible 2012"]


def jpeg(number: int = 0) -> bytes:
    return encoded(draw_car(number % 4, number))


def rows_of(source: Source) -> list[SourceRow]:
    rows = list(source.rows())
    assert len(rows) == source.total
    return rows


def named(source: Source) -> set[tuple[str, str, str]]:
    """Split, class and file name of every row."""
    return {
        (row.split, source.classes[row.label] if isinstance(row.label, int) else str(row.label), Path(row.name).name)
        for row in rows_of(source)
    }


# --- class folders


def photos_below(*folders: Path) -> None:
    for number, folder in enumerate(folders):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.JPG").write_bytes(jpeg(number))


def test_class_folders_in_splits(tmp_path: Path) -> None:
    train, valid, test = (tmp_path / name for name in ("train", "valid", "test"))
    photos_below(
        train / "Ram C-V Cargo Van Minivan 2012", train / "audi_s4_sedan_2012", train / "BMW Z4 Convertible 2012"
    )
    photos_below(valid / "Audi S4 Sedan 2012", test / "Ram_C-V_Cargo_Van_Minivan_2012")
    (train / "BMW Z4 Convertible 2012" / "Thumbs.db").write_text("no photo")
    source = open_source(str(tmp_path))
    assert source.classes.names == tuple(sorted(NAMES))
    assert named(source) == {
        ("train", VAN, "0.JPG"),
        ("train", NAMES[0], "1.JPG"),
        ("train", NAMES[2], "2.JPG"),
        ("val", NAMES[0], "0.JPG"),
        ("test", VAN, "1.JPG"),
    }
    assert source.photo_root == tmp_path
    assert all((tmp_path / row.name) == row.photo for row in source.rows())


def test_one_tree_of_class_folders_is_training_photos(tmp_path: Path) -> None:
    photos_below(tmp_path / "Audi S4 Sedan 2012", tmp_path / "My Own Car")
    assert named(open_source(str(tmp_path))) == {("train", NAMES[0], "0.JPG"), ("train", "My Own Car", "1.JPG")}


def test_class_without_training_photos_is_refused(tmp_path: Path) -> None:
    photos_below(
        tmp_path / "train" / "A", tmp_path / "train" / "B", tmp_path / "test" / "A", tmp_path / "test" / "Lost"
    )
    with pytest.raises(DataError, match="split 'test' in the training split too, but 1 are not: 'Lost'"):
        open_source(str(tmp_path))


def test_class_with_training_photos_only_is_fine(tmp_path: Path) -> None:
    photos_below(tmp_path / "train" / "A", tmp_path / "train" / "B", tmp_path / "test" / "A")
    assert open_source(str(tmp_path)).classes.names == ("A", "B")


def test_two_spellings_of_a_class_in_one_split_are_refused(tmp_path: Path) -> None:
    photos_below(tmp_path / "Audi S4 Sedan 2012", tmp_path / "audi_s4_sedan_2012")
    with pytest.raises(LabelError, match="same class"):
        open_source(str(tmp_path))


def test_an_empty_class_folder_is_left_out_with_a_note(tmp_path: Path) -> None:
    photos_below(tmp_path / "train" / "A", tmp_path / "train" / "B")
    (tmp_path / "train" / "Lost").mkdir()
    source = open_source(str(tmp_path))
    assert source.classes.names == ("A", "B")
    assert source.notes == ("1 of 3 class folders without photos, left out: 'Lost'.",)
    photos_below(tmp_path / "test" / "Lost")  # but not a class that would be tested on and never trained on
    with pytest.raises(DataError, match="1 are not: 'Lost'"):
        open_source(str(tmp_path))


def test_folders_beside_the_splits_and_loose_photos_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    photos_below(
        *(tmp_path / "train" / name for name in "AB"), tmp_path / "tests_2" / "A", tmp_path / "train", tmp_path
    )
    source = open_source(str(tmp_path))
    assert named(source) == {("train", "A", "0.JPG"), ("train", "B", "1.JPG")}
    assert source.skipped == {"photo outside the class folders": 2, "photo in a folder beside the splits": 1}
    assert f"{tmp_path}/tests_2 is not read" in caplog.text


def test_folders_of_folders_are_not_guessed_to_be_one_class(tmp_path: Path) -> None:
    photos_below(tmp_path / "Audi" / "A4", tmp_path / "Audi" / "A6", tmp_path / "BMW")
    with pytest.raises(DataError, match=r"Audi, but it has only folders, which may be classes themselves: 'A4', 'A6'"):
        open_source(str(tmp_path))
    photos_below(tmp_path / "Audi")  # a photo of its own makes it a class
    assert {name for _, name, _ in named(open_source(str(tmp_path)))} == {"Audi", "BMW"}


def test_folders_that_are_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the folder is empty"):
        open_source(str(tmp_path))
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match=r"found 'notes\.txt'"):
        open_source(str(tmp_path))
    photos_below(tmp_path)
    with pytest.raises(DataError, match="1 photos without a folder"):
        open_source(str(tmp_path))


def test_test_photos_alone_are_read_where_they_are_asked_for(tmp_path: Path) -> None:
    photos_below(tmp_path / "test" / "A")
    with pytest.raises(DataError, match=r"training photos in .*add --split test"):
        open_source(str(tmp_path))
    assert named(open_source(str(tmp_path), splits=["test"])) == {("test", "A", "0.JPG")}
    assert named(open_source(str(tmp_path), allow_untrained=True)) == {("test", "A", "0.JPG")}
    # A tree that is named after no split is what is asked for.
    assert named(open_source(str(tmp_path / "test"), splits=["test"])) == {("test", "A", "0.JPG")}


# --- specs


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ("", "not an existing file or folder"),
        ("someone/cars", "not an existing file or folder"),
        ("cars.zip", "another kind of file"),
    ],
)
def test_unknown_spec_lists_the_forms(spec: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cars.zip").write_bytes(b"PK")
    with pytest.raises(UsageError, match=rf"hub:owner/name.*toycars\[:SEED\].*found '{spec}', which is {found}"):
        open_source(spec)


def test_splits_that_no_folder_can_have(tmp_path: Path) -> None:
    photos_below(tmp_path / "train" / "A")
    with pytest.raises(UsageError, match="out of train, val, test, but found 'contrast'"):
        open_source(str(tmp_path), splits=("train", "contrast"))
    with pytest.raises(DataError, match=r"folder for the split 'test' in .*but its splits are 'train'"):
        open_source(str(tmp_path), splits=("test",))
    with pytest.raises(UsageError, match="there are none"):
        open_source(str(tmp_path), splits=(" ",))


def test_class_list_goes_with_a_csv_file_only(tmp_path: Path) -> None:
    photos_below(tmp_path / "A")
    with pytest.raises(UsageError, match="goes with a CSV file"):
        open_source(str(tmp_path), classes_file=tmp_path / "classes.txt")


def test_toy_cars_are_not_drawn_before_they_are_made() -> None:
    source = open_source("toycars:3")
    assert source.description == "toycars:3"
    assert source.make is not None
    assert source.fingerprint == open_source("toycars:3").fingerprint != open_source("toycars").fingerprint
    with pytest.raises(UsageError, match="toycars:x"):
        open_source("toycars:x")


# --- the original release


def write_devkit(
    root: Path,
    *,
    nested: bool = False,
    labels: Iterable[int] = (1, 3, 2),
    test_labels: bool = True,
    devkit: str = "devkit",
) -> None:
    folder = root / devkit
    folder.mkdir(parents=True, exist_ok=True)
    class_names = np.empty((1, len(NAMES)), object)
    class_names[0] = NAMES
    savemat(folder / "cars_meta.mat", {"class_names": class_names})
    save_annotations(folder / "cars_train_annos.mat", list(labels))
    save_annotations(folder / "cars_test_annos.mat", [None, None])
    if test_labels:
        save_annotations(root / "cars_test_annos_withlabels.mat", [3, 1])
    for split, count in (("train", len(list(labels))), ("test", 2)):
        photos = root / f"cars_{split}" / (f"cars_{split}" if nested else "")
        photos.mkdir(parents=True)
        for number in range(1, count + 1):
            (photos / f"{number:05d}.jpg").write_bytes(jpeg(number))


def save_annotations(path: Path, labels: list[int | None]) -> None:
    entries = []
    for number, label in enumerate(labels, start=1):
        entry = {"bbox_x1": 1, "bbox_y1": 5, "bbox_x2": 96, "bbox_y2": 60, "fname": f"{number:05d}.jpg"}
        entries.append(entry if label is None else {**entry, "class": label})
    columns = {key: [entry[key] for entry in entries] for key in entries[0]}
    table = np.empty((1, len(entries)), [(key, object) for key in columns])
    for key, values in columns.items():
        for place, value in enumerate(values):
            table[0, place][key] = value
    savemat(path, {"annotations": table})


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("devkit", ["devkit", "car_devkit/devkit", ""])
def test_original_release(tmp_path: Path, nested: bool, devkit: str) -> None:
    write_devkit(tmp_path, nested=nested, devkit=devkit)
    source = open_source(str(tmp_path))
    assert source.classes.names == tuple(NAMES)
    assert named(source) == {
        ("train", NAMES[0], "00001.jpg"),
        ("train", NAMES[2], "00002.jpg"),
        ("train", NAMES[1], "00003.jpg"),
        ("test", NAMES[2], "00001.jpg"),
        ("test", NAMES[0], "00002.jpg"),
    }
    # 1 to 96 across and 5 to 60 down, both ends included, counted from 1.
    assert {row.box for row in source.rows()} == {(0, 4, 96, 60)}
    assert all(isinstance(row.photo, Path) and row.photo.is_file() for row in source.rows())


def test_original_release_without_test_labels(tmp_path: Path) -> None:
    write_devkit(tmp_path, test_labels=False)
    assert [row.label for row in open_source(str(tmp_path)).rows() if row.split == "test"] == [None, None]


@pytest.mark.parametrize("number", [0, 4])
def test_class_numbers_count_from_one(tmp_path: Path, number: int) -> None:
    write_devkit(tmp_path, labels=(1, number, 2))
    with pytest.raises(DataError, match=rf"from 1 to 3 in .*cars_train_annos\.mat, but 00002\.jpg has {number}"):
        open_source(str(tmp_path))


def test_original_release_with_parts_missing(tmp_path: Path) -> None:
    write_devkit(tmp_path)
    (tmp_path / "cars_test").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"photos of 'test' in .*cars_test"):
        open_source(str(tmp_path))
    assert {row.split for row in open_source(str(tmp_path), splits=["train"]).rows()} == {"train"}
    (tmp_path / "devkit" / "cars_train_annos.mat").write_bytes(b"not MATLAB")
    with pytest.raises(DataError, match=r"MATLAB file of Stanford Cars at .*cars_train_annos\.mat"):
        open_source(str(tmp_path), splits=["train"])
    (tmp_path / "devkit" / "cars_train_annos.mat").unlink()
    with pytest.raises(DataError, match=r"Expected cars_train_annos\.mat"):
        open_source(str(tmp_path))


def write_merged_release(root: Path, *, nested: bool = False) -> None:
    """The later release: one list for both halves, photos in car_ims/ under numbers of their own."""
    photos = root / ("car_ims/car_ims" if nested else "car_ims")
    photos.mkdir(parents=True)
    table = np.empty((1, 3), [(key, object) for key in ("relative_im_path", *BOX_FIELDS, "class", "test")])
    for place, (label, test) in enumerate([(1, 0), (3, 1), (2, 0)]):
        (photos / f"{place + 1:06d}.jpg").write_bytes(jpeg(place))
        table[0, place] = (f"car_ims/{place + 1:06d}.jpg", 1, 5, 96, 60, label, np.uint8(test))
    savemat(root / "cars_annos.mat", {"annotations": table, "class_names": np.array([NAMES], object)})


BOX_FIELDS = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")


@pytest.mark.parametrize("nested", [False, True])
def test_later_release(tmp_path: Path, nested: bool) -> None:
    write_merged_release(tmp_path, nested=nested)
    source = open_source(str(tmp_path))
    assert named(source) == {
        ("train", NAMES[0], "000001.jpg"),
        ("test", NAMES[2], "000002.jpg"),
        ("train", NAMES[1], "000003.jpg"),
    }
    assert {row.box for row in source.rows()} == {(0, 4, 96, 60)}
    assert all(isinstance(row.photo, Path) and row.photo.is_file() for row in source.rows())
    assert {row.split for row in open_source(str(tmp_path), splits=["train"]).rows()} == {"train"}


def test_later_release_beside_the_photos_of_the_first(tmp_path: Path) -> None:
    """Photo 00001 of one is another car than 000001 of the other."""
    write_merged_release(tmp_path)
    (tmp_path / "car_ims").rename(tmp_path / "cars_train")
    with pytest.raises(DataError, match=r"in .*car_ims, .*cars_train and cars_test have other numbers"):
        open_source(str(tmp_path))


def test_original_release_with_its_test_half_only(tmp_path: Path) -> None:
    write_devkit(tmp_path)
    assert {row.split for row in open_source(str(tmp_path), splits=["test"]).rows()} == {"test"}


# --- CSV


def write_table(folder: Path, text: str, *names: str, photos: str = "images") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "annotations.csv"
    path.write_bytes(text.encode())
    for number, name in enumerate(names):
        photo = folder / photos / name
        photo.parent.mkdir(parents=True, exist_ok=True)
        photo.write_bytes(jpeg(number))
    return path


def test_table_with_names(tmp_path: Path) -> None:
    text = (
        "\ufefffilename,Label,owner,split,x1,y1,x2,y2\r\n"
        f"a/1.jpg,{VAN},x,train,0,4,96,60\r\n"
        "b.jpg,Audi S4 Sedan 2012,y,validation,,,,\r\n"
        "a\\2.jpg,audi_s4_sedan_2012,z,Train,1.0,2.0,5.0,9.0\r\n"
        "gone.jpg,,z,test,,,,\r\n"
    )
    path = write_table(tmp_path, text, "a/1.jpg", "a/2.jpg", "b.jpg")
    source = open_source(str(tmp_path))
    assert source.classes.names == tuple(sorted([NAMES[0], VAN]))
    assert named(source) == {
        ("train", VAN, "1.jpg"),
        ("train", NAMES[0], "2.jpg"),
        ("val", NAMES[0], "b.jpg"),
        ("test", "None", "gone.jpg"),
    }
    assert [row.box for row in source.rows()] == [(0, 4, 96, 60), None, (1, 2, 5, 9), None]
    assert source.photo_root == tmp_path / "images"
    assert source.fingerprint == open_source(str(path)).fingerprint


def test_photos_beside_the_table(tmp_path: Path) -> None:
    write_table(tmp_path, "filename,label\nimages/1.jpg,A\nimages/2.jpg,B\n", "images/1.jpg", "images/2.jpg", photos="")
    source = open_source(str(tmp_path))
    assert source.photo_root == tmp_path
    assert [row.split for row in source.rows()] == ["train", "train"]


@pytest.mark.parametrize(("listed", "stored"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_file_names_in_either_unicode_form(
    tmp_path: Path, listed: Literal["NFC", "NFD"], stored: Literal["NFC", "NFD"]
) -> None:
    name = "été/voiture n°1.jpg"
    text = f"filename,label\n{unicodedata.normalize(listed, name)},A\n"
    write_table(tmp_path, text, unicodedata.normalize(stored, name))
    (row,) = rows_of(open_source(str(tmp_path)))
    assert isinstance(row.photo, Path)
    assert row.photo.is_file()
    assert row.name == unicodedata.normalize(stored, name)


def test_numbers_need_a_class_list(tmp_path: Path) -> None:
    path = write_table(tmp_path, "filename,label\n1.jpg,1\n2.jpg,0\n3.jpg,7\n4.jpg,\n", "1.jpg", "2.jpg", "3.jpg")
    with pytest.raises(DataError, match=r"found numbers.*--classes FILE"):
        open_source(str(path))
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "names.txt").write_text("\n".join(["Audi_S4_Sedan_2012", "Ram C-V Cargo Van Minivan 2012", ""]))
    (lists / "names.json").write_text(json.dumps([{"index": 0, "name": NAMES[0]}, {"index": 1, "name": VAN}]))
    savemat(lists / "cars_meta.mat", {"class_names": np.array([NAMES[:2]], object)})
    for file in sorted(lists.iterdir()):
        source = open_source(str(path), classes_file=file)
        assert source.classes.names == (NAMES[0], VAN) == read_class_file(file).names
        # 7 is out of range and stays as it is written, for the audit to report.
        assert [row.label for row in source.rows()] == [1, 0, "7", None]
    (lists / "names.txt").rename(tmp_path / "classes.txt")
    assert [row.label for row in open_source(str(path)).rows()] == [1, 0, "7", None]


def test_names_that_are_not_in_the_class_list(tmp_path: Path) -> None:
    path = write_table(tmp_path, "filename,label\n1.jpg,B\n2.jpg,Other\n")
    (tmp_path / "classes.txt").write_text("A\nB\n")
    assert [row.label for row in open_source(str(path)).rows()] == [1, "Other"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found an empty file"),
        ("photo,kind\n1.jpg,A\n", "columns filename and label .*found 'photo', 'kind'"),
        ("filename,label,split\n1.jpg,A,trial\n", "line 2 has 'trial'"),
        ("filename,label,split\n1.jpg,A,test\n", "labelled training photos"),
        ("filename,label,split\n1.jpg,A,train\n2.jpg,B,test\n", "split 'test' in the training split too.*'B'"),
        ("filename,label,x1,y1,x2,y2\n1.jpg,A,1,2,wide,4\n", "line 2 has 1, 2, wide, 4"),
        ('filename,label\n1.jpg,"A\n2.jpg,B\n', "cannot be read"),
        ("filename,label\n1.jpg,A b\n2.jpg,a_B\n", "same class"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    path = write_table(tmp_path, text)
    with pytest.raises((DataError, LabelError), match=message):
        open_source(str(path))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "cars.csv"
    path.write_bytes("filename,label\nété.jpg,A\n".encode("latin-1"))
    with pytest.raises(DataError, match="UTF-8 text"):
        open_source(str(path))
    path.write_text("filename,label\n1.jpg,A\n")
    with pytest.raises(UsageError, match=r"class list at .*none\.txt"):
        open_source(str(path), classes_file=tmp_path / "none.txt")


# --- parquet


def parquet(
    labels: list[int | None], names: list[str] | None = NAMES, *, first: int = 0, photos: list[bytes] | None = None
) -> bytes:
    """A parquet file of photos `first`.jpg and so on."""
    found = photos or [jpeg(first + place) for place in range(len(labels))]
    rows = [{"bytes": photo, "path": f"{first + place}.jpg"} for place, photo in enumerate(found)]
    image = pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    table = pa.table({"image": image, "label": pa.array(labels, pa.int64())})
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def write_parquet(folder: Path, **files: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split, data in files.items():
        (folder / f"{split}-00000-of-00001.parquet").write_bytes(data)
    return folder


@pytest.mark.parametrize("place", ["", "data"])
def test_parquet_splits_with_different_name_orders(tmp_path: Path, place: str) -> None:
    reordered = ["BMW Z4 Convertible 2012", "Audi S4 Sedan 2012", "Ram C-V Cargo Van Minivan 2012"]
    write_parquet(tmp_path / place, train=parquet([0, 1, 2]), test=parquet([0, 1, 2], reordered, first=10))
    source = open_source(str(tmp_path))
    assert source.classes.names == tuple(NAMES)
    assert named(source) == {
        ("train", NAMES[0], "0.jpg"),
        ("train", VAN, "1.jpg"),
        ("train", NAMES[2], "2.jpg"),
        ("test", NAMES[2], "10.jpg"),
        ("test", NAMES[0], "11.jpg"),
        ("test", VAN, "12.jpg"),
    }
    first = next(iter(source.rows()))
    assert first.name == "train/Audi S4 Sedan 2012/0.jpg"
    assert first.photo == jpeg(0)
    assert {row.name.split("/")[1] for row in source.rows()} == {
        "Audi S4 Sedan 2012",
        "BMW Z4 Convertible 2012",
        "Ram C-V Cargo Van Minivan 2012",
    }


def test_parquet_class_without_training_photos(tmp_path: Path) -> None:
    write_parquet(tmp_path, train=parquet([0, 1], NAMES[:2]))
    (tmp_path / "test-00000-of-00002.parquet").write_bytes(parquet([2]))
    (tmp_path / "test-00001-of-00002.parquet").write_bytes(parquet([0], NAMES[:2]))
    with pytest.raises(DataError, match=r"split 'test' in the training split too.*'BMW Z4"):
        open_source(str(tmp_path))


def test_parquet_names_stay_inside_and_apart(tmp_path: Path) -> None:
    image = pa.array(
        [{"bytes": jpeg(number), "path": path} for number, path in enumerate(["../../a.jpg", "b/a.jpg", None, ".."])],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    table = pa.table({"image": image, "label": pa.array([0, 0, 0, 1])})
    features = {"label": {"names": ["../Evil", "..."]}}
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, tmp_path / "train-00000-of-00001.parquet")
    assert [row.name for row in rows_of(open_source(str(tmp_path)))] == [
        "train/-Evil/a.jpg",
        "train/-Evil/train-00000-of-00001-00001-a.jpg",
        "train/-Evil/00002.jpg",
        "train/other/00003.jpg",
    ]


def test_parquet_labels_that_name_no_class(tmp_path: Path) -> None:
    write_parquet(tmp_path, train=parquet([0, 9, -1, None]))
    assert [row.label for row in open_source(str(tmp_path)).rows()] == [0, "9", None, None]


def test_parquet_with_test_photos_only(tmp_path: Path) -> None:
    write_parquet(tmp_path, test=parquet([2, 0]))
    with pytest.raises(DataError, match=r"training photos in .*add --split test"):
        open_source(str(tmp_path))
    assert [row.label for row in open_source(str(tmp_path), splits=["test"]).rows()] == [2, 0]


def test_parquet_labels_that_count_from_one_are_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path, train=parquet([1, 3, 2]))
    with pytest.raises(DataError, match=r"from 0 to 2 in .*but 1 to 3 count from 1"):
        open_source(str(tmp_path))
    write_parquet(tmp_path, train=parquet([1, 2]))  # a class that is not used: numbers of names count from 0
    assert [row.label for row in open_source(str(tmp_path)).rows()] == [1, 2]


def test_parquet_class_that_says_there_is_none(tmp_path: Path) -> None:
    write_parquet(tmp_path, train=parquet([0, 1], ["A", "None"]))
    assert [row.label for row in open_source(str(tmp_path)).rows()] == [0, None]


def test_parquet_that_cannot_be_used(tmp_path: Path) -> None:
    write_parquet(tmp_path, val=parquet([0]))
    with pytest.raises(DataError, match=r"parquet files of 'train' .*found those of val"):
        open_source(str(tmp_path))
    with pytest.raises(DataError, match=r"parquet files of 'test' .*found those of val"):
        open_source(str(tmp_path), splits=["test"])
    write_parquet(tmp_path, train=parquet([0], None))
    with pytest.raises(DataError, match="names of the classes in the schema"):
        open_source(str(tmp_path))
    write_parquet(tmp_path, train=parquet([0])[:-20])
    with pytest.raises(DataError, match="it is damaged"):
        open_source(str(tmp_path))
    (tmp_path / "train-00000-of-00001.parquet").rename(tmp_path / "train-00000-of-00002.parquet")
    with pytest.raises(DataError, match="Expected 2 files such as train-00000-of-00002"):
        open_source(str(tmp_path))
    (tmp_path / "train-00000-of-00002.parquet").unlink()
    pq.write_table(pa.table({"pixels": [1]}), tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"columns image \(struct\) and label .*found 'pixels \(int64\)'"):
        open_source(str(tmp_path))
    pq.write_table(pa.table({"image": [b"bytes"], "label": [1]}), tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"found 'image \(binary\)', 'label \(int64\)'"):
        open_source(str(tmp_path))


# --- the hub

CLIENT = """
import json, sys
from twincar.data.sources import open_source
from twincar.core.errors import TwinCarError
try:
    source = open_source(sys.argv[1], splits=sys.argv[2].split(","))
    rows = list(source.rows())
    print(json.dumps([source.revision, source.description, sorted(row.name for row in rows)]))
except TwinCarError as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""


def ask_hub(spec: str, url: str, home: Path, splits: str = "train,test", **environment: str) -> list[object]:
    """In a process of its own, because the hub's library reads its environment when it is imported."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    ours = {"HF_HOME": str(home), "HF_ENDPOINT": url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    process = subprocess.run(
        [sys.executable, "-c", CLIENT, spec, splits],
        env={**kept, **ours, **environment},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    answer: list[object] = json.loads(process.stdout)
    return answer


@pytest.fixture(scope="module")
def hub_files() -> dict[str, bytes]:
    return {
        "README.md": b"cars",
        "data/train-00000-of-00002.parquet": parquet([0, 1, 2] * 4),
        "data/train-00001-of-00002.parquet": parquet([0, 1, 2], first=20),
        "data/test-00000-of-00001.parquet": parquet([0, 1], first=30),
        "data/contrast-00000-of-00001.parquet": parquet([0, 1], first=40),
    }


def test_hub_fetches_the_splits_asked_for_and_works_offline_after(tmp_path: Path, hub_files: dict[str, bytes]) -> None:
    with HubServer(hub_files) as hub:
        revision, description, names = ask_hub("hub:someone/cars", hub.url, tmp_path)
        assert (revision, description) == (COMMIT, "hub:someone/cars")
        assert isinstance(names, list)
        assert len(names) == 17
        assert sorted(name for name, _ in hub.fetched) == [
            "data/test-00000-of-00001.parquet",
            "data/train-00000-of-00002.parquet",
            "data/train-00001-of-00002.parquet",
        ]
        hub.fetched.clear()
        assert ask_hub("hub:someone/cars@main", hub.url, tmp_path, "train")[0] == COMMIT
        assert hub.fetched == []
        contrast = ask_hub("hub:someone/cars", hub.url, tmp_path, "train,contrast")
        assert [name for name, _ in hub.fetched] == ["data/contrast-00000-of-00001.parquet"]
        assert "contrast/Audi S4 Sedan 2012/40.jpg" in str(contrast)
    assert ask_hub("hub:someone/cars", hub.url, tmp_path, HF_HUB_OFFLINE="1") == [revision, description, names]
    # The network is gone and nobody has said so.
    assert ask_hub("hub:someone/cars", hub.url, tmp_path) == [revision, description, names]


def test_hub_resumes_after_a_dropped_connection(tmp_path: Path) -> None:
    # The library writes what it gets in blocks of 10 MiB.
    block = 10 * 1024**2
    large = np.random.default_rng(0).bytes(block + 2000)
    with HubServer({"data/train-00000-of-00001.parquet": parquet([0], photos=[large])}, drop_at=block + 1000) as hub:
        assert ask_hub("hub:someone/cars", hub.url, tmp_path)[0] == COMMIT
        assert [wanted for _, wanted in hub.fetched] == ["", f"bytes={block}-"]


def test_hub_errors_say_what_to_do(tmp_path: Path, hub_files: dict[str, bytes]) -> None:
    def refused(spec: str, url: str, **environment: str) -> str:
        kind, message = ask_hub(spec, url, tmp_path / "empty", **environment)
        assert kind == "HubError"
        return str(message)

    with HubServer(hub_files) as hub:
        assert "does not exist or you have no access (HTTP 404)" in refused("hub:someone/else", hub.url)
        assert "has no such revision" in refused("hub:someone/cars@v9", hub.url)
        assert "HF_HUB_OFFLINE is set" in refused("hub:someone/cars", hub.url, HF_HUB_OFFLINE="1")
        (kind, message) = ask_hub("hub:someone/cars", hub.url, tmp_path / "other", "train,blur")
        assert kind == "DataError"
        assert "parquet files of 'blur'" in str(message)
    assert "Check the network" in refused("hub:someone/cars", hub.url)
    with HubServer(hub_files, token="secret") as hub:
        assert "log in (hf auth login, or HF_TOKEN)" in refused("hub:someone/cars", hub.url)
        assert ask_hub("hub:someone/cars", hub.url, tmp_path / "mine", HF_TOKEN="secret")[0] == COMMIT


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"cut_at": 1000}, "run the same command again"),
        ({"changed": "data/train-00001-of-00002.parquet"}, "data/train-00001-of-00002.parquet of the data set"),
        ({"token": "secret"}, "no access (HTTP 401)"),
    ],
)
def test_nothing_is_prepared_from_files_that_did_not_come_whole(
    hub_client: HubClient, hub_files: dict[str, bytes], tmp_path: Path, fault: dict[str, Any], told: str
) -> None:
    with HubServer(hub_files, **fault) as hub:
        hub_client.use(hub)
        with pytest.raises(HubError, match=re.escape(told)):
            prepare("hub:someone/cars", tmp_path / "out")
        assert not (tmp_path / "out").exists()
        hub.cut_at, hub.changed, hub.token = 0, "", ""
        photos = prepare("hub:someone/cars", tmp_path / "out").manifest["photos"]
    assert sum(photos.values()) == 17


@pytest.mark.parametrize("spec", ["hub:", "hub:cars", "hub:a/b/c", "hub:a/b@"])
def test_hub_specs_of_another_form(spec: str) -> None:
    with pytest.raises(UsageError, match="hub:owner/name"):
        open_source(spec)


# --- real photos


def test_real_sources_agree_on_the_classes(real_photos: Path) -> None:
    sample = open_source(str(real_photos / "devkit_sample"))
    hub = open_source(str(real_photos / "hub"))
    assert sample.classes == hub.classes
    assert (len(sample.classes), sample.total, hub.total) == (196, 784, 7329)
    rows = rows_of(sample)
    assert all(row.box and row.box[:2] == (0, 0) for row in rows)
    labels = [row.label for row in rows]
    assert {labels.count(label) for label in range(196)} == {4}


def test_a_photo_that_all_rows_of_a_parquet_file_share_is_in_memory_a_few_times(tmp_path: Path) -> None:
    photo = np.random.default_rng(0).bytes(50 << 20)
    image = pa.array(
        [{"bytes": photo, "path": "a.jpg"}] * 24, pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    )
    pq.write_table(pa.table({"image": image, "label": pa.array([0] * 24)}), tmp_path / "train.parquet")
    code = (
        "import sys; from pathlib import Path; from benchmarks.measuring import peak_memory\n"
        "from twincar.data.sources.parquet import _cells_of\n"
        "before = peak_memory(); size = sum(len(image['bytes']) for image, *_ in _cells_of(Path(sys.argv[1])))\n"
        "print(size >> 20, peak_memory() - before >> 20)"
    )
    command = [sys.executable, "-c", code, tmp_path / "train.parquet"]
    root = Path(__file__).resolve().parents[3]
    read, grown = map(int, subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.split())
    assert read == 24 * 50
    assert grown < 450  # as a page of the file, as the reader's batch, as Python's bytes, and the ones before
