from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from twincar.core.errors import DataError, UsageError
from twincar.core.labels import ClassNames
from twincar.data.dataset import Annotation, PreparedData, write_prepared

CLASSES = ClassNames(("Audi S4 Sedan 2012", "Ram C/V Cargo Van Minivan 2012"))
PHOTO = Annotation(file="a/1.jpg", label=1, split="train", width=96, height=64, box=(0, 4, 96, 60), sha256="ab")
PHOTOS = (
    PHOTO,
    replace(PHOTO, file='a, "b"\n.jpg', box=None, label=0),
    replace(PHOTO, file="a/2.jpg", crop=(3, 5, 90, 64)),
    # A name that is no UTF-8, as Python gives it.
    replace(PHOTO, file="\udce9t\udce9.jpg", label=None, split="test"),
)


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    folder = tmp_path / "prepared"
    (folder / "photos").mkdir(parents=True)
    write_prepared(folder, CLASSES, PHOTOS, {"photo_root": "photos", "seed": 3})
    return folder


def test_what_is_written_is_read_back(prepared: Path) -> None:
    data = PreparedData.open(prepared)
    assert data.annotations == PHOTOS
    assert data.classes == CLASSES
    assert data.manifest["seed"] == 3
    assert data.path(PHOTOS[0]) == prepared / "photos" / "a" / "1.jpg"
    assert data.split("test") == [PHOTOS[3]]


def test_the_table_on_disk(prepared: Path) -> None:
    lines = (prepared / "annotations.csv").read_bytes().split(b"\n")
    assert lines[0] == b"file,label,class_name,split,width,height,x1,y1,x2,y2,crop_x1,crop_y1,crop_x2,crop_y2,sha256"
    assert lines[1] == b"a/1.jpg,1,Ram C/V Cargo Van Minivan 2012,train,96,64,0,4,96,60,,,,,ab"
    assert lines[4] == b"a/2.jpg,1,Ram C/V Cargo Van Minivan 2012,train,96,64,0,4,96,60,3,5,90,64,ab"
    assert lines[5] == b"\xe9t\xe9.jpg,,,test,96,64,0,4,96,60,,,,,ab"
    assert json.loads((prepared / "classes.json").read_text())[1] == {
        "index": 1,
        "name": "Ram C/V Cargo Van Minivan 2012",
        "make": "Ram",
        "model": "C/V Cargo Van",
        "body": "Minivan",
        "year": 2012,
    }


def test_photos_elsewhere(prepared: Path, tmp_path: Path) -> None:
    write_prepared(prepared, CLASSES, PHOTOS, {"photo_root": str(tmp_path)})
    assert PreparedData.open(prepared).path(PHOTOS[0]) == tmp_path / "a" / "1.jpg"
    write_prepared(prepared, CLASSES, PHOTOS, {"photo_root": str(tmp_path / "gone")})
    with pytest.raises(DataError, match=r"photos of .* in .*gone, but there is no such folder"):
        PreparedData.open(prepared)


def test_a_split_without_photos(prepared: Path) -> None:
    with pytest.raises(DataError, match=r"split 'val' of .*there are train \(3\), test \(1\)"):
        PreparedData.open(prepared).split("val")


def test_folders_that_are_not_prepared(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no such folder. Make it: twincar prepare SOURCE --out .*none"):
        PreparedData.open(tmp_path / "none")
    with pytest.raises(UsageError, match=r"has no manifest\.json"):
        PreparedData.open(tmp_path)


@pytest.mark.parametrize("name", ["annotations.csv", "classes.json"])
def test_damage_is_found(prepared: Path, name: str) -> None:
    (prepared / name).write_bytes((prepared / name).read_bytes().replace(b"2012", b"2011"))
    with pytest.raises(DataError, match=f"{name} was changed"):
        PreparedData.open(prepared)
    (prepared / name).unlink()
    with pytest.raises(DataError, match=f"{name} cannot be read"):
        PreparedData.open(prepared)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ("{", "Expected JSON"),
        ('{"format": 99}', "Expected format 2 in .*found 99"),
        ("[]", "Expected format 2 in .*found None"),
        ('{"format": 2}', "lacks some of its entries"),
    ],
)
def test_manifests_that_are_none(prepared: Path, manifest: str, message: str) -> None:
    (prepared / "manifest.json").write_text(manifest)
    with pytest.raises(DataError, match=message):
        PreparedData.open(prepared)
