from __future__ import annotations

import csv
import errno
import os
import shutil
from collections import Counter
from pathlib import Path
from unittest.mock import Mock

import pytest
from conftest import CLASSES, draw_car, killed_while_making, write_class_folders
from parquet_photos import write_parquet

from twincar.core.errors import DataError, StorageError, UsageError
from twincar.core.files import sha256_of
from twincar.core.labels import class_key
from twincar.data import prepare as prepare_module
from twincar.data.dataset import PreparedData
from twincar.data.prepare import PrepareOptions, prepare


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Four classes, 20 training photos and 2 test photos each."""
    return write_class_folders(tmp_path / "source", {"train": 20, "test": 2})


def state_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time of change and content of every file."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name != "source"]


def validation_files(data: PreparedData) -> list[str]:
    return [photo.file for photo in data.split("val")]


def test_a_second_time_is_said_to_change_nothing(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "twincar"):
        prepare(str(source), tmp_path / "out")
        assert "before; nothing was changed" not in caplog.text
        prepare(str(source), tmp_path / "out")
    assert f"{tmp_path / 'out'} was prepared from this source with these options before; nothing was ch" in caplog.text


def test_prepared_class_folders(source: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    data = prepare(str(source), tmp_path / "out", on_photo=lambda done, total: told.append((done, total)))
    assert told[-1] == (88, 88)
    assert [class_key(name) for name in data.classes.names] == sorted(class_key(name) for name in CLASSES)
    assert data.manifest["photos"] == {"train": 72, "val": 8, "test": 8}
    assert data.manifest["left_out"] == {}
    assert not (data.folder / "left_out.csv").exists()
    # A tenth of 20 photos is 2 of each class.
    assert Counter(photo.label for photo in data.split("val")) == {0: 2, 1: 2, 2: 2, 3: 2}
    for photo in data.annotations:
        assert sha256_of(data.path(photo).read_bytes()) == photo.sha256
        assert (photo.width, photo.height) == (96, 64)
    assert data.photo_root == source
    assert {photo.file.split("/")[0] for photo in data.split("val")} == {"train"}


def test_the_split_follows_from_the_seed_and_the_photos_alone(source: Path, tmp_path: Path) -> None:
    first = prepare(str(source), tmp_path / "first")
    assert validation_files(prepare(str(source), tmp_path / "again")) == validation_files(first)
    assert validation_files(prepare(str(source), tmp_path / "other", PrepareOptions(seed=1))) != validation_files(first)
    # The same photos in reverse order under other names.
    renamed = tmp_path / "renamed"
    for path in source.rglob("*.jpg"):
        target = renamed / path.relative_to(source).with_name(f"{99 - int(path.stem)}.jpg")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    hashes = [
        {photo.sha256 for photo in data.split("val")} for data in (first, prepare(str(renamed), tmp_path / "third"))
    ]
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize(("share", "expected"), [(0.01, 1), (0.25, 5), (0.99, 19)])
def test_share_of_validation_photos(source: Path, tmp_path: Path, share: float, expected: int) -> None:
    data = prepare(str(source), tmp_path / "out", PrepareOptions(val_share=share))
    assert set(Counter(photo.label for photo in data.split("val")).values()) == {expected}


@pytest.mark.parametrize("share", [0, 1, -0.5, float("nan")])
def test_shares_that_are_none(source: Path, tmp_path: Path, share: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        prepare(str(source), tmp_path / "out", PrepareOptions(val_share=share))


def test_identical_photos_stay_together(source: Path, tmp_path: Path) -> None:
    for folder in (source / "train").iterdir():
        for number in range(8):  # three of each of the first photos, under other names
            for copy in ("a", "b"):
                shutil.copy(folder / f"{number:03d}.jpg", folder / f"{copy}{number}.jpg")
    # One photo in two classes stays in training.
    first, second = sorted((source / "train").iterdir())[:2]
    shutil.copy(first / "019.jpg", second / "stray.jpg")
    for seed in range(6):
        data = prepare(str(source), tmp_path / str(seed), PrepareOptions(val_share=0.4, seed=seed))
        train, val = ({photo.sha256 for photo in data.split(split)} for split in ("train", "val"))
        assert not train & val
        # 0.4 of 36 is 14, of 37 is 15; groups of three may leave up to two places free.
        assert all(12 <= count <= 15 for count in Counter(photo.label for photo in data.split("val")).values())


def test_own_validation_split_is_kept(tmp_path: Path) -> None:
    source = write_class_folders(tmp_path / "source", {"train": 1, "val": 2, "test": 1})
    data = prepare(str(source), tmp_path / "out")
    assert data.manifest["photos"] == {"train": 4, "val": 8, "test": 4}
    assert all(photo.file.startswith("val/") for photo in data.split("val"))


def test_single_training_photo_of_a_class(source: Path, tmp_path: Path) -> None:
    folder = source / "train" / CLASSES[0]
    for path in sorted(folder.iterdir())[1:]:
        path.unlink()
    with pytest.raises(DataError, match=f"two different training photos.*1 of 4 classes have fewer: '{CLASSES[0]}'"):
        prepare(str(source), tmp_path / "out")
    shutil.copy(folder / "000.jpg", folder / "copy.jpg")  # the same photo again does not help
    with pytest.raises(DataError, match=f"1 of 4 classes have fewer: '{CLASSES[0]}'"):
        prepare(str(source), tmp_path / "out")
    assert leftovers(tmp_path) == []
    draw_car(0, 500).save(folder / "more.jpg")
    data = prepare(str(source), tmp_path / "out")
    counts = Counter((photo.split, photo.label) for photo in data.annotations)
    label = data.classes.find(CLASSES[0])
    assert counts["train", label] + counts["val", label] == 3
    assert counts["val", label] == 1


def test_class_whose_photos_are_all_in_another_class_too(source: Path, tmp_path: Path) -> None:
    first, second = sorted((source / "train").iterdir())[:2]
    for path in first.iterdir():
        shutil.copy(path, second / f"stray{path.name}")
    with pytest.raises(DataError, match=f"1 of 4 classes have fewer: '{first.name}'"):
        prepare(str(source), tmp_path / "out")


@pytest.fixture
def rare(tmp_path: Path) -> Path:
    """Four classes with a test photo each; the first two have a single training photo, one a bad one besides."""
    source = write_class_folders(tmp_path / "source", {"train": 4, "test": 1})
    for name in CLASSES[:2]:
        for path in sorted((source / "train" / name).iterdir())[1:]:
            path.unlink()
    (source / "train" / CLASSES[0] / "bad.jpg").write_bytes(b"")
    return source


def test_all_classes_with_a_single_photo_are_named_at_once(rare: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"2 of 4 classes have fewer: .*Coupe.*, .*Sedan.* --singletons keep .* drop"):
        prepare(str(rare), tmp_path / "out")


def test_what_the_list_of_photos_shows_is_found_before_a_photo_is_read(rare: Path, tmp_path: Path) -> None:
    read: list[int] = []
    with pytest.raises(DataError, match="2 of 4 classes have fewer"):
        prepare(str(rare), tmp_path / "out", on_photo=lambda done, _: read.append(done))
    assert not read
    for path in (rare / "train" / CLASSES[3]).iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError) as stopped:  # everything in one message
        prepare(str(rare), tmp_path / "out", on_photo=lambda done, _: read.append(done))
    assert not read
    missing, few = str(stopped.value).splitlines()
    assert f"1 of 4 have none: '{CLASSES[3]}'" in missing
    assert "2 of 4 classes have fewer" in few


def test_bad_rows_and_single_photos_are_told_together(rare: Path, tmp_path: Path) -> None:
    """One class has a single good photo beside one that cannot be decoded, which only reading shows."""
    for folder in (rare / "train" / name for name in CLASSES[:2]):
        shutil.copy(rare / "test" / folder.name / "000.jpg", folder / "more.jpg")
    (rare / "train" / CLASSES[0] / "more.jpg").write_bytes(b"no photo")
    with pytest.raises(DataError) as stopped:
        prepare(str(rare), tmp_path / "out", PrepareOptions(strict=True))
    strict, few = str(stopped.value).splitlines()
    assert strict.startswith("Expected every row to be valid, but 2 are not")
    assert f"1 of 4 classes have fewer: '{CLASSES[0]}'" in few


def test_the_same_photo_in_two_classes_is_listed(tmp_path: Path) -> None:
    source = write_class_folders(tmp_path / "source", {"train": 4})
    shutil.copy(source / "train" / CLASSES[0] / "000.jpg", source / "train" / CLASSES[1] / "stray.jpg")
    data = prepare(str(source), tmp_path / "out")
    assert data.manifest["contradictions"] == 2
    few, note = data.manifest["notes"]
    assert few.startswith("4 of 4 classes with fewer than 5 training photos")
    assert note.startswith("2 photos with the same bytes in different classes")
    assert f"train/{CLASSES[1]}/stray.jpg ({CLASSES[1]}): same bytes as train/{CLASSES[0]}/000.jpg" in note
    clean = prepare(str(source), tmp_path / "clean", PrepareOptions(exclude=data.folder / "contradictions.csv"))
    assert clean.manifest["left_out"] == {"excluded": 2}
    assert clean.manifest["contradictions"] == 0
    assert not (clean.folder / "contradictions.csv").exists()


def test_photos_to_test_on_are_drawn_where_the_source_has_none(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has .* test photos of its own"):
        prepare(str(source), tmp_path / "out", PrepareOptions(test_share=0.1))
    shutil.rmtree(source / "test")
    data = prepare(str(source), tmp_path / "out", PrepareOptions(test_share=0.25, val_share=0.2))
    counts = Counter((photo.split, photo.label) for photo in data.annotations)
    assert {split: {counts[split, label] for label in range(4)} for split in ("train", "val", "test")} == {
        "train": {12}, "val": {3}, "test": {5},  # a fifth of the 15 that are left
    }  # fmt: skip
    with pytest.raises(UsageError, match=r"was made with --test-share 0\.25\."):
        prepare(str(source), tmp_path / "out", PrepareOptions(val_share=0.2))
    for shares in ({"test_share": 1.0}, {"test_share": 0.6, "val_share": 0.4}):
        with pytest.raises(UsageError, match="Expected"):
            PrepareOptions(**shares)


def test_names_of_another_form_are_told_with_how_they_are_read(tmp_path: Path) -> None:
    source = write_class_folders(tmp_path / "source", {"train": 3}, (*CLASSES[:2], "Mike's FIAT 500"))
    _, note = prepare(str(source), tmp_path / "out").manifest["notes"]
    assert note.startswith('1 of 3 class names not of the form Make Model Body Year: "Mike\'s FIAT 500".')
    assert "read as make \"Mike's\", model 'FIAT 500'" in note


def test_classes_with_a_single_photo_may_be_trained_on_without_validation(rare: Path, tmp_path: Path) -> None:
    data = prepare(str(rare), tmp_path / "out", PrepareOptions(singletons="keep"))
    assert data.manifest["photos"] == {"train": 8, "val": 2, "test": 4}  # of 4 and 4 one each is validated on
    assert len(data.classes) == 4
    assert data.manifest["left_out"] == {"empty": 1}
    note, few = data.manifest["notes"]
    assert few.startswith("4 of 4 classes with fewer than 5 training photos, from which a car is hardly learned: ")
    assert note.startswith("val has no photos of 2 of 4 classes, the best epoch is chosen without them: ")


def test_a_data_set_without_any_validation_photo_is_refused(tmp_path: Path) -> None:
    source = write_class_folders(tmp_path / "source", {"train": 1})
    with pytest.raises(DataError, match="one for validation, but there is none"):
        prepare(str(source), tmp_path / "out", PrepareOptions(singletons="keep"))


def test_classes_with_a_single_photo_may_be_dropped_with_a_count(rare: Path, tmp_path: Path) -> None:
    data = prepare(str(rare), tmp_path / "out", PrepareOptions(singletons="drop", strict=False))
    assert data.manifest["photos"] == {"train": 6, "val": 2, "test": 2}
    assert len(data.classes) == 2
    assert sorted(data.manifest["classes_without_photos"]) == sorted(CLASSES[:2])
    assert data.manifest["left_out"] == {"empty": 1, "class with one photo": 4}  # to train and to test on
    with (data.folder / "left_out.csv").open(newline="", encoding="utf-8") as file:
        files = [row["file"] for row in csv.DictReader(file) if row["defect"] == "class with one photo"]
    expected = [f"{split}/{name}/000.jpg" for split in ("train", "test") for name in CLASSES[:2]]
    assert sorted(files) == sorted(expected)
    with pytest.raises(UsageError, match="was made with --singletons drop"):
        prepare(str(rare), tmp_path / "out")


def test_what_was_dropped_on_demand_is_no_reason_to_stop(rare: Path, tmp_path: Path) -> None:
    (rare / "train" / CLASSES[0] / "bad.jpg").unlink()
    assert len(prepare(str(rare), tmp_path / "out", PrepareOptions(singletons="drop", strict=True)).classes) == 2


def test_a_split_that_lacks_a_class_is_told(tmp_path: Path) -> None:
    source = write_class_folders(tmp_path / "source", {"train": 2, "val": 1, "test": 1})
    shutil.rmtree(source / "val" / CLASSES[0])
    shutil.rmtree(source / "test" / CLASSES[3])
    assert prepare(str(source), tmp_path / "out").manifest["notes"][:2] == [
        f"val has no photos of 1 of 4 classes, the best epoch is chosen without them: '{CLASSES[0]}'.",
        f"test has no photos of 1 of 4 classes, nothing to measure them on: '{CLASSES[3]}'.",
    ]


def test_test_photos_only(tmp_path: Path) -> None:
    source = write_class_folders(tmp_path / "source", {"test": 2})
    (source / "test" / CLASSES[1] / "000.jpg").write_bytes(b"")
    (source / "test" / CLASSES[1] / "001.jpg").write_bytes(b"")
    data = prepare(str(source), tmp_path / "out", PrepareOptions(splits=["test"]))
    assert data.manifest["photos"] == {"test": 6}
    assert data.manifest["left_out"] == {"empty": 2}
    assert data.manifest["classes_without_photos"] == [CLASSES[1]]
    assert len(data.labelled_split("test")) == 6
    for name in (CLASSES[0], CLASSES[2].replace("/", "-")):
        shutil.rmtree(source / "test" / name)
    assert (
        len(prepare(str(source), tmp_path / "one", PrepareOptions(splits=["test"])).classes) == 1
    )  # enough to be evaluated on
    (source / "test" / CLASSES[3] / "000.jpg").write_bytes(b"")
    (source / "test" / CLASSES[3] / "001.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"valid photos with labels, but found none; 4 rows .*\(4 empty\)"):
        prepare(str(source), tmp_path / "none", PrepareOptions(splits=["test"]))


def test_sources_with_too_few_photos(tmp_path: Path) -> None:
    one = write_class_folders(tmp_path / "one", {"train": 3}, CLASSES[:1])
    with pytest.raises(DataError, match="two classes"):
        prepare(str(one), tmp_path / "out")
    bad = write_class_folders(tmp_path / "bad", {"train": 2, "test": 1}, CLASSES[:2])
    for path in (bad / "train").rglob("*.jpg"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"found none; 4 rows are not valid \(4 empty\)\. The first: Expected a photo"):
        prepare(str(bad), tmp_path / "out")


def test_class_whose_training_photos_are_all_bad(source: Path, tmp_path: Path) -> None:
    for path in (source / "train" / CLASSES[3]).iterdir():
        path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=f"1 of 4 have none: '{CLASSES[3]}'"):
        prepare(str(source), tmp_path / "out")
    shutil.rmtree(source / "test" / CLASSES[3])  # no test photo asks for it, and still it is not lost in silence
    with pytest.raises(DataError, match=f"1 of 4 have none: '{CLASSES[3]}'"):
        prepare(str(source), tmp_path / "out")


def test_class_that_is_named_but_never_used_is_dropped(tmp_path: Path) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    lines = ["filename,label"]
    for label in (0, 2):
        for number in range(3):
            draw_car(label, number).save(folder / f"{label}{number}.jpg")
            lines.append(f"{label}{number}.jpg,{label}")
    (folder / "labels.csv").write_text("\n".join(lines))
    (folder / "classes.txt").write_text("A\nUnused\nC\n")
    data = prepare(str(folder), tmp_path / "out")
    assert data.classes.names == ("A", "C")
    assert {(photo.file[0], photo.label) for photo in data.annotations} == {("0", 0), ("2", 1)}
    assert data.manifest["classes_without_photos"] == ["Unused"]


def spoil(source: Path) -> None:
    folder = source / "train" / CLASSES[0]
    (folder / "000.jpg").write_bytes(b"")
    (folder / "001.jpg").write_bytes((folder / "001.jpg").read_bytes()[:-100])
    (folder / "002.jpg").write_bytes(b"")


def test_bad_rows_are_left_out_and_listed(source: Path, tmp_path: Path) -> None:
    spoil(source)
    data = prepare(str(source), tmp_path / "out")
    assert data.manifest["left_out"] == {"empty": 2, "truncated": 1}
    assert len(data.annotations) == 85
    with (data.folder / "left_out.csv").open(newline="", encoding="utf-8") as file:
        rows = [(row["file"], row["defect"]) for row in csv.DictReader(file)]
    assert rows == [
        (f"train/{CLASSES[0]}/{name}.jpg", defect)
        for name, defect in zip(["000", "001", "002"], ["empty", "truncated", "empty"], strict=True)
    ]
    with pytest.raises(DataError, match=r"3 are not \(2 empty, 1 truncated\); see .*left_out\.csv"):
        prepare(str(source), tmp_path / "out", PrepareOptions(strict=True))


def test_strict_leaves_nothing(source: Path, tmp_path: Path) -> None:
    spoil(source)
    with pytest.raises(DataError, match=r"3 are not \(2 empty, 1 truncated\); the first are 'train/.*000\.jpg'"):
        prepare(str(source), tmp_path / "out", PrepareOptions(strict=True))
    assert leftovers(tmp_path) == []


def test_second_run_changes_nothing(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    prepare(str(source), out)
    before = state_of(tmp_path)
    monkeypatch.setattr(prepare_module, "audit_source", Mock(side_effect=AssertionError("photos were read again")))
    monkeypatch.chdir(tmp_path)
    assert prepare("source", Path("out")).folder == out
    assert state_of(tmp_path) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "with --seed 0, not 1"),
        ({"val_share": 0.2}, "with --val-share 0.1, not 0.2"),
        ({"splits": ["train"]}, "with --split train, val, test, not train, val"),
    ],
)
def test_other_settings_never_overwrite(source: Path, tmp_path: Path, changes: dict[str, object], message: str) -> None:
    prepare(str(source), tmp_path / "out")
    before = state_of(tmp_path)
    with pytest.raises(UsageError, match=message):
        prepare(str(source), tmp_path / "out", PrepareOptions(**changes))  # type: ignore[arg-type]
    other = write_class_folders(tmp_path / "other", {"train": 2})
    with pytest.raises(UsageError, match="made with the source"):
        prepare(str(other), tmp_path / "out")
    shutil.rmtree(other)
    assert state_of(tmp_path) == before


def test_changed_source_is_noticed(source: Path, tmp_path: Path) -> None:
    prepare(str(source), tmp_path / "out")
    draw_car(0, 900).save(source / "train" / CLASSES[0] / "new.jpg")
    with pytest.raises(UsageError, match="has changed since"):
        prepare(str(source), tmp_path / "out")


def test_folder_with_other_things_in_it(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("the only copy")
    with pytest.raises(UsageError, match="holds something else"):
        prepare(str(source), out)
    with pytest.raises(UsageError, match="holds something else"):
        prepare(str(source), out / "thesis.txt")
    assert (out / "thesis.txt").read_text() == "the only copy"
    (out / "thesis.txt").unlink()
    assert prepare(str(source), out).folder == out  # an empty folder will do


def test_prepared_folder_is_no_source(source: Path, tmp_path: Path) -> None:
    prepare(str(source), tmp_path / "out")
    with pytest.raises(UsageError, match="prepared already"):
        prepare(str(tmp_path / "out"), tmp_path / "again")


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_interrupted_run_leaves_nothing(source: Path, tmp_path: Path, error: type[BaseException]) -> None:
    def stop(done: int, _: int) -> None:
        if done == 40:
            raise error

    with pytest.raises(error):
        prepare(str(source), tmp_path / "out", on_photo=stop)
    assert leftovers(tmp_path) == []


def test_what_a_killed_run_left_is_cleared(source: Path, tmp_path: Path) -> None:
    assert (killed_while_making(tmp_path / "out") / "half").exists()
    data = prepare(str(source), tmp_path / "out")
    assert leftovers(tmp_path) == ["out"]
    assert sorted(path.name for path in data.folder.iterdir()) == ["annotations.csv", "classes.json", "manifest.json"]


def test_of_two_that_prepare_at_once_the_second_finds_what_the_first_has_made(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def prepare_too(done: int, _: int) -> None:
        if done == 20:
            prepare(str(source), out)

    data = prepare(str(source), out, on_photo=prepare_too)
    assert data.manifest == PreparedData.open(out).manifest
    assert leftovers(tmp_path) == ["out"]

    def prepare_another(done: int, _: int) -> None:
        if done == 20:
            prepare(str(source), tmp_path / "two", PrepareOptions(seed=1))

    with pytest.raises(UsageError, match=r"never overwritten, but .* was made with --seed 1, not 0"):
        prepare(str(source), tmp_path / "two", on_photo=prepare_another)
    assert sorted(leftovers(tmp_path)) == ["out", "two"]


def test_photos_of_parquet_files_are_written(tmp_path: Path) -> None:
    source = write_parquet(tmp_path / "source", 30)
    data = prepare(str(source), tmp_path / "out")
    assert data.manifest["photo_root"] == "photos"
    assert data.manifest["photos"] == {"train": 26, "val": 3}  # a tenth of 14 and of 15
    assert len(list((data.folder / "photos").rglob("*.jpg"))) == 29
    assert {photo.file.rsplit("/", 1)[0] for photo in data.annotations} == {"train/Borealis C-V Van 2009", "train/B"}
    for photo in data.annotations:
        assert sha256_of(data.path(photo).read_bytes()) == photo.sha256
    (tmp_path / "out").rename(tmp_path / "moved")  # all that is needed is inside
    moved = PreparedData.open(tmp_path / "moved")
    assert moved.path(moved.annotations[0]).is_file()


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_parquet(tmp_path / "source", 12)
    write_bytes = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.name == "009.jpg":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match="the disk is full"):
        prepare(str(source), tmp_path / "out")
    assert leftovers(tmp_path) == []


@pytest.mark.usefixtures("few_toycars")
def test_toy_cars(tmp_path: Path) -> None:
    data = prepare("toycars:5", tmp_path / "out")
    assert data.manifest["source"] == "toycars:5"
    assert data.manifest["photos"] == {"train": 24, "val": 24, "test": 24}
    assert len(data.classes) == 24
    names = {path.name for path in data.folder.iterdir()}
    assert names == {"annotations.csv", "classes.json", "manifest.json", "masks", "photos", "toycars.json"}
    for photo in data.annotations:
        assert data.path(photo).is_file()
        assert (data.folder / "masks" / photo.file).with_suffix(".png").is_file()
        assert photo.box is not None
    before = state_of(data.folder)
    prepare("toycars:5", tmp_path / "out")
    assert state_of(data.folder) == before
    with pytest.raises(UsageError, match="the source toycars:5, not toycars:0"):
        prepare("toycars", tmp_path / "out")


def test_original_release_on_real_photos(real_photos: Path, tmp_path: Path) -> None:
    data = prepare(str(real_photos / "devkit_sample"), tmp_path / "out")
    # Three training photos a class: one to validate on.
    assert data.manifest["photos"] == {"train": 392, "val": 196, "test": 196}
    assert data.photo_root == (real_photos / "devkit_sample").resolve()
    assert len(data.classes) == 196
