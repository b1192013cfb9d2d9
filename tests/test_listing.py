from __future__ import annotations

import os
import zipfile
from pathlib import Path

import fsspec
import pytest

from twincar.errors import DataError, UsageError
from twincar.listing import find_photos


def test_photos_are_found_in_folders_and_patterns(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.JPEG", "sub/c.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [str(tmp_path / name) for name in ("a.JPEG", "b.jpg", "sub/c.png")]
    assert list(find_photos([str(tmp_path)])) == names
    assert list(find_photos([str(tmp_path / "*.jpg"), str(tmp_path / "notes.txt")])) == [
        names[1],
        str(tmp_path / "notes.txt"),
    ]
    assert list(find_photos([str(tmp_path / "**/*.png")])) == [names[2]]
    assert list(find_photos(["gone.jpg"])) == ["gone.jpg"]  # told as an error of its own later
    (tmp_path / "[odd].jpg").touch()
    assert list(find_photos([str(tmp_path / "[odd].jpg")])) == [str(tmp_path / "[odd].jpg")]


@pytest.mark.parametrize("argument", ["empty", "*.jpg"])
def test_a_folder_or_pattern_without_photos_is_told(tmp_path: Path, argument: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    with pytest.raises(UsageError, match="found none"):
        list(find_photos([str(tmp_path / argument)]))


def test_an_address_is_listed_in_the_order_of_a_folder(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    names = ["2.jpg", "10.jpg", "b/1.png", "a/z/0.webp", "a/3.jpg", "a/notes.txt"]
    for name in names:
        memory.pipe_file(f"/cars/{name}", b"x")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = list(find_photos(["memory://cars"]))
    assert found == [f"memory:///cars/{name}" for name in ("10.jpg", "2.jpg", "a/3.jpg", "a/z/0.webp", "b/1.png")]
    assert [os.path.relpath(path, tmp_path) for path in find_photos([str(tmp_path)])] == [
        address.removeprefix("memory:///cars/") for address in found
    ]
    assert list(find_photos(["memory://cars/*.jpg"])) == found[:2]
    assert list(find_photos(["memory://cars/2.jpg"])) == [found[1]]
    assert list(find_photos([f"file://{tmp_path}/b"])) == [f"file://{tmp_path}/b/1.png"]


@pytest.mark.parametrize(
    ("address", "error", "words"),
    [
        ("nowhere://cars", UsageError, "an address that fsspec opens"),
        ("memory://empty/*.jpg", UsageError, "found none"),
        ("zip://*.jpg::gone.zip", DataError, "Expected to reach zip://"),
    ],
)
def test_an_address_that_cannot_be_listed_is_told(address: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        list(find_photos([address]))


def test_photos_in_an_archive_are_found(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "cars.zip", "w") as archive:
        archive.writestr("sub/a.jpg", b"x")
    assert list(find_photos([f"zip://::{tmp_path}/cars.zip"])) == [f"zip://sub/a.jpg::{tmp_path}/cars.zip"]


def test_memory_does_not_grow_with_the_photos_of_one_folder_after_the_other(tmp_path: Path) -> None:
    """The first photo comes before the second folder is looked into."""
    for name in ("a/1.jpg", "b/2.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    found = find_photos([str(tmp_path)])
    assert next(found) == str(tmp_path / "a" / "1.jpg")
    (tmp_path / "b" / "3.jpg").touch()
    assert list(found) == [str(tmp_path / "b" / "2.jpg"), str(tmp_path / "b" / "3.jpg")]
