from __future__ import annotations

import os
import zipfile
from pathlib import Path

import fsspec
import pytest
from conftest import draw_car, encoded

from twincar.core.errors import DataError, PhotoError, UsageError
from twincar.core.listing import find_photos, look_into
from twincar.core.photos import read_photo
from twincar.core.skipped import DRAWN, Skipped
from twincar.data.sources import open_source


def test_photos_are_found_in_folders_and_patterns(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.JPEG", "sub/c.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [str(tmp_path / name) for name in ("a.JPEG", "b.jpg", "sub/c.png")]
    assert list(find_photos([str(tmp_path)])) == names
    assert list(find_photos(str(tmp_path))) == list(find_photos(tmp_path)) == names  # one alone, not its letters
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


@pytest.mark.parametrize(
    ("model", "what"),
    [
        ("tiny run", "the folder of a training run"),
        ("started", "the folder of a training run"),
        ("openvino", "an exported model"),
        ("model.ONNX", "a model file"),
    ],
)
def test_a_model_among_the_photos_is_refused_before_any_photo_is_listed(tmp_path: Path, model: str, what: str) -> None:
    """The figures in a run folder look like photos, and would be named by another model."""
    for name in ("tiny run/best.safetensors", "started/train.lock", "openvino/model.xml", "openvino/model.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for name in ("model.ONNX", "tiny run/curve.png", "car.jpg"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError) as refused:
        find_photos([str(tmp_path / "car.jpg"), str(tmp_path / model)])
    quoted = f"'{tmp_path / model}'" if " " in model else str(tmp_path / model)
    assert f"{tmp_path / model} is {what}. Did you mean --model {quoted}?" in str(refused.value)
    assert list(find_photos([str(tmp_path / "gone.onnx")])) == [str(tmp_path / "gone.onnx")]


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
        ("nowhere://cars", UsageError, "Expected a path, or an address"),
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


# --- the same rules for everybody


def messy_folder(top: Path) -> Path:
    """Two classes, of whose eight photos four are not called .jpg, among all that systems and people leave about."""
    photo, other = encoded(draw_car(0, 0), "JPEG"), encoded(draw_car(0, 0), "PNG")
    files = {
        "Audi/1.jpg": photo, "Audi/2.jfif": photo, "Audi/3": photo, "Audi/4.jpg_large": photo, "Audi/5.xyz": other,
        "BMW/1.JPG": photo, "BMW/dealer photos/2.jpg": photo, "BMW/dealer photos/more/3.tiff": photo,
        "BMW/._1.jpg": b"resource fork", "BMW/.thumbnails/1.jpg": photo, ".ipynb_checkpoints/1.jpg": photo,
        "BMW/@eaDir/1.jpg/THUMB.jpg": photo, "__MACOSX/BMW/2.jpg": photo, "BMW/Thumbs.db": other,
        "BMW/notes.txt": photo, "BMW/film": b"no photo", "BMW/raw.NEF": b"II*\0", "BMW/4.jpg.crdownload": photo,
    }  # fmt: skip
    for name, data in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(data)
    os.mkfifo(top / "BMW" / "pipe")
    return top


MESSY = [
    *("Audi/1.jpg", "Audi/2.jfif", "Audi/3", "Audi/4.jpg_large", "Audi/5.xyz", "BMW/1.JPG"),
    *("BMW/dealer photos/2.jpg", "BMW/dealer photos/more/3.tiff"),
]
LEFT_OUT = {"hidden": 3, "made by the system": 3, "not a photo": 2, "not readable": 1} | {
    "raw file of a camera": 1,
    "unfinished download or backup": 1,
}


def test_predict_and_prepare_find_the_same_and_count_what_they_leave_out(tmp_path: Path) -> None:
    top = messy_folder(tmp_path / "cars")
    skipped = Skipped()
    assert [os.path.relpath(path, top) for path in find_photos([str(top)], skipped)] == MESSY
    assert skipped.to_dict() == LEFT_OUT
    source = open_source(str(top))
    assert [(row.name, source.classes[row.label]) for row in source.rows()] == [  # type: ignore[index]
        (name, name.partition("/")[0]) for name in MESSY
    ]
    assert source.skipped == LEFT_OUT


def test_an_address_and_a_pattern_follow_the_same_rules(tmp_path: Path) -> None:
    top = messy_folder(tmp_path / "cars")
    (top / "BMW" / "pipe").unlink()  # fsspec would wait for somebody to write into it
    for argument in (f"file://{top}", f"{top}/**", f"file://{top}/**"):
        found = [path.removeprefix("file://") for path in find_photos([argument])]
        assert sorted(os.path.relpath(path, top) for path in found) == MESSY, argument
    assert [Path(path).name for path in find_photos([f"{top}/A*"])] == [Path(name).name for name in MESSY[:5]]


def test_what_is_left_out_is_told_with_a_count(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "twincar")
    top = messy_folder(tmp_path / "cars")
    assert len(list(find_photos([str(top)]))) == 8
    (line,) = caplog.messages
    assert line.startswith("Skipped: 3 made by the system (such as ")
    assert f"1 raw file of a camera (such as {top}/BMW/raw.NEF)" in line


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / "1.jpg").write_bytes(encoded(draw_car(0, 0), "JPEG"))
    top = tmp_path / "cars"
    for name in ("Audi", "BMW"):
        (top / name).mkdir(parents=True)
        (top / name / "2.jpg").write_bytes(encoded(draw_car(0, 0), "JPEG"))
        (top / name / "stored").symlink_to(store)
    (top / "VW").symlink_to(store)
    (top / "BMW" / "again").symlink_to(top)
    (top / "BMW" / "gone").symlink_to(tmp_path / "nothing")
    (top / "BMW" / "itself").symlink_to("itself")
    names = ["Audi/2.jpg", "Audi/stored/1.jpg", "BMW/2.jpg", "BMW/stored/1.jpg", "VW/1.jpg"]
    skipped = Skipped()
    assert [os.path.relpath(path, top) for path in find_photos([str(top)], skipped)] == names
    assert skipped.to_dict() == {"not readable": 2, "link to a folder above": 1}
    source = open_source(str(top))
    assert [row.name for row in source.rows()] == names
    assert source.skipped == skipped.to_dict()


def test_a_folder_is_not_followed_without_end(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a"] * 40)
    deep.mkdir(parents=True)
    (deep / "1.jpg").touch()
    (tmp_path / "a" / "2.jpg").touch()
    skipped = Skipped()
    assert [Path(path).name for path in find_photos([str(tmp_path)], skipped)] == ["2.jpg"]
    assert skipped.to_dict() == {"more than 32 folders deep": 1}


def test_a_percent_encoded_address_leads_to_a_file_whose_name_is_no_text(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg"))
    path.write_bytes(encoded(draw_car(0, 0), "JPEG"))
    assert list(find_photos([f"file://{tmp_path}/caf%E9.jpg"])) == [str(path)]
    assert read_photo(f"file://{tmp_path}/caf%E9.jpg").size == draw_car(0, 0).size


# --- several arguments, and pictures that were drawn


def test_what_is_named_twice_or_is_in_a_folder_too_comes_once_and_is_counted(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "sub/c.jpg", "notes.txt", ".d.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    a, folder, sub = str(tmp_path / "a.jpg"), str(tmp_path), str(tmp_path / "sub")
    for arguments, names, repeated in (
        ([a, a], "a", 1),
        ([a, folder], "abc", 1),
        ([folder, a], "bca", 1),
        ([folder, f"{folder}/", os.path.relpath(folder)], "abc", 2),
        ([folder, sub], "abc", 1),
        ([f"{folder}/*.jpg", folder, f"{folder}/a*"], "abc", 3),
        ([folder, f"{folder}/**"], "abc", 3),
        ([sub, f"{folder}/s*"], "c", 1),
        ([a, str(tmp_path / ".d.jpg"), folder], "adbc", 1),
    ):
        skipped = Skipped()
        found = [Path(path).stem.lstrip(".") for path in find_photos(arguments, skipped)]
        assert (arguments, sorted(found)) == (arguments, sorted(names))
        assert (arguments, skipped.to_dict()["named twice"]) == (arguments, repeated)


def test_of_several_arguments_one_that_fails_keeps_its_place(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(draw_car(0, 0), "JPEG"))
    (tmp_path / "empty").mkdir()
    good = str(tmp_path / "a.jpg")
    for bad, words in (
        (f"{tmp_path}/gone/*.jpg", "Expected photos that match"),
        (f"{tmp_path}/empty", "it is a folder, in which no photo"),
        (f"{tmp_path}/gone", "no such file or folder"),
        ("nowhere://cars", "Expected a path, or an address"),
        ("memory://empty/*.jpg", "there is none"),
        ("zip://*.jpg::gone.zip", "Expected to reach zip://"),
    ):
        assert list(find_photos([bad, good])) == [bad, good]
        with pytest.raises(PhotoError, match=words):
            read_photo(bad)


def test_drawn_pictures_are_no_photos_unless_their_folder_is_named(tmp_path: Path) -> None:
    for name in ("car.jpg", "out/car.jpg", f"out/{DRAWN}", "out/sub/1.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for argument, count in (
        (tmp_path, 1),
        (f"{tmp_path}/*", 1),
        (f"{tmp_path}/**/*.jpg", 2),
        (f"file://{tmp_path}", 1),
    ):
        skipped = Skipped()
        assert [path.removeprefix("file://") for path in find_photos([str(argument)], skipped)] == [
            f"{tmp_path}/car.jpg"
        ]
        assert skipped.to_dict()["drawn by predict --draw"] == count
    for named in (f"{tmp_path}/out", f"{tmp_path}/out/*", f"file://{tmp_path}/out"):
        assert [Path(path).name for path in find_photos([named])] == ["car.jpg", "1.jpg"]
    assert look_into(tmp_path, Skipped()) == ([], [tmp_path / "car.jpg"])
