"""Answers in parts: the same rows however they came about, and nothing lost or repeated when it is stopped."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest
from colour_model import BLUE, GREEN, RED, YELLOW, paint, paint_street, write_model
from detector_files import constant_detector
from pyarrow import parquet

from twincar.core.errors import DataError, StorageError, UsageError
from twincar.core.options import PredictOptions
from twincar.inference import result_store as result_folder
from twincar.inference.batch import BatchResult, predict_many, read_rows
from twincar.inference.classifier import Classifier
from twincar.inference.result_store import ResultFolder
from twincar.inference.results import Failure, table_row

COLOURS = (RED, GREEN, BLUE, YELLOW)
PHOTOS = 23
BROKEN = 7


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_folder, "PART", 5)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "colours.onnx")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """One of them broken."""
    folder = tmp_path / "photos"
    for number in range(PHOTOS):
        place = folder / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        paint(place / f"{number:03d}.png", COLOURS[number % 4])
    (folder / "b" / f"{BROKEN:03d}.png").write_bytes(b"no photo")
    return folder


def test_a_photo_of_several_cars_has_a_row_for_each(tmp_path: Path) -> None:
    """With another detector, a copy of which is kept: where it is afterwards does not matter."""
    boxes = {GREEN: (25, 25, 50, 50), RED: (100, 50, 300, 175)}
    shares = [(left / 400, top / 200, right / 400, bottom / 200) for left, top, right, bottom in boxes.values()]
    detector = tmp_path / "cars.onnx"
    detector.write_bytes(constant_detector(shares, [(0, 0.9)] * 2))
    (tmp_path / "photos").mkdir()
    (tmp_path / "moved").mkdir()
    for number in range(6):  # two parts
        paint_street(tmp_path / "photos" / f"{number}.png", boxes)
    (tmp_path / "photos" / "broken.png").write_bytes(b"no photo")
    model = write_model(tmp_path / "colours.onnx", framing="car")
    options = PredictOptions(detector=str(detector))
    done = predict_many([str(tmp_path / "photos")], str(tmp_path / "out"), model=model, options=options)
    assert (done.photos, done.failed) == (7, 1)
    rows = list(read_rows(str(tmp_path / "out")))
    found = [(Path(row["photo"]).stem, row["car"], row["left"], row["class_1"]) for row in rows if not row["error"]]
    each = [(1, 100, "BMW M3 Sedan 2012"), (2, 25, "Volvo C30 Hatchback 2012")]
    assert found == [(str(number), *car) for number in range(6) for car in each]
    (tmp_path / "out" / "part-000001.parquet").unlink()  # as if it had been stopped before the second part
    record = tmp_path / "out" / "_run.json"
    unfinished = {name: value for name, value in json.loads(record.read_text()).items() if name != "failed"}
    record.write_text(json.dumps(unfinished))
    elsewhere = detector.rename(tmp_path / "moved" / "cars.onnx")
    options = PredictOptions(detector=str(elsewhere))
    again = predict_many([str(tmp_path / "photos")], str(tmp_path / "out"), model=model, options=options)
    assert (again, list(read_rows(str(tmp_path / "out")))) == (done, rows)
    elsewhere.write_bytes(constant_detector(shares, [(0, 0.8)] * 2))
    with pytest.raises(UsageError, match="results of another command: model was"):
        predict_many([str(tmp_path / "photos")], str(tmp_path / "out"), model=model, options=options)


def streamed(model: Path, photos: Path) -> list[dict[str, Any]]:
    """The rows as `Classifier.stream` gives them, of photos in the order of their paths."""
    rows = [table_row(answer) for answer in Classifier.load(model).stream(sorted(photos.rglob("*.png")), top_k=3)]
    return [{name: value for name, value in row.items() if name != "levels"} for row in rows]


def given(rows: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without the cells that are empty in them."""
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def stop(done: int, _: int) -> None:
    if done == 5:
        raise KeyboardInterrupt


def test_the_rows_are_those_of_the_classifier(model: Path, photos: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    done = predict_many([str(photos)], str(tmp_path / "out"), model=model, on_photo=lambda *counts: seen.append(counts))
    assert done == BatchResult(PHOTOS, 1, str(tmp_path / "out"), {})
    assert seen == [(5, 23), (10, 23), (15, 23), (20, 23), (23, 23)]
    expected = [{name: v for name, v in row.items() if v is not None} for row in streamed(model, photos)]
    assert given(read_rows(str(tmp_path / "out"))) == expected
    assert [row["photo"] for row in expected if "error" in row] == [str(photos / "b" / "007.png")]


def test_a_folder_of_results_is_read_as_one_table(model: Path, photos: Path, tmp_path: Path) -> None:
    predict_many([str(photos)], str(tmp_path / "out"), model=model, options=PredictOptions(top_k=2))
    table = parquet.read_table(tmp_path / "out")
    assert table.num_rows == PHOTOS
    assert table.column_names == [
        "photo",
        "car",
        "car_count",
        "status",
        "answer",
        "level",
        "confidence",
        "make",
        "model",
        "body",
        "year",
        "alternatives",
        "left",
        "top",
        "right",
        "bottom",
        "class_1",
        "probability_1",
        "class_2",
        "probability_2",
        "error",
    ]
    types = {name: str(table.schema.field(name).type) for name in table.column_names}
    assert {types[name] for name in ("photo", "answer", "make", "class_1", "error")} == {"string"}
    assert {types[name] for name in ("car", "car_count", "year", "left")} == {"int32"}
    assert {types[name] for name in ("confidence", "probability_1", "probability_2")} == {"double"}


def test_it_goes_on_where_it_stopped(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = str(tmp_path / "whole")
    predict_many([str(photos)], whole, model=model)
    out = tmp_path / "out"

    with pytest.raises(KeyboardInterrupt):
        predict_many([str(photos)], str(out), model=model, on_photo=stop)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert sorted(before) == ["part-000000.parquet"]
    (photos / "a" / "zzz.png").write_bytes(b"added later")  # the list of photos was made once
    monkeypatch.chdir(photos)
    again: list[int] = []
    done = predict_many([str(photos)], str(out), model=model, on_photo=lambda photo, _: again.append(photo))
    assert again == [10, 15, 20, 23]
    assert (done.photos, done.failed) == (PHOTOS, 1)
    assert list(read_rows(str(out))) == list(read_rows(whole))
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before
    assert predict_many([str(photos)], str(out), model=model, cluster="nowhere:1") == done  # nothing left to do


def test_the_results_of_another_command_are_not_touched(model: Path, photos: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    predict_many([str(photos)], out, model=model)
    for changes, words in (
        ({"options": PredictOptions(top_k=2)}, "top_k was 3 there, and is 2 now"),
        ({"photos": [str(photos / "a")]}, "photos was"),
        ({"model": write_model(tmp_path / "other.onnx", sharper=1.01)}, "model was"),
    ):
        with pytest.raises(UsageError, match=words):
            predict_many(**{"photos": [str(photos)], "out": out, "model": model, **changes})
    with pytest.raises(UsageError, match="already holds something else"):
        predict_many([str(photos)], str(photos), model=model)


def test_a_command_that_listed_nothing_leaves_the_folder_to_the_next(model: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="found none"):
        predict_many([str(tmp_path / "*.gif")], str(tmp_path / "out"), model=model)
    assert predict_many([str(photos)], str(tmp_path / "out"), model=model).photos == PHOTOS


def test_the_model_of_a_command_that_listed_nothing_does_not_answer(
    model: Path, small_run: Path, photos: Path, tmp_path: Path
) -> None:
    """Its file has another name, so it would stay beside that of the next command."""
    for place in (str(tmp_path / "out"), f"memory://{tmp_path.name}/out"):
        with pytest.raises(UsageError, match="found none"):
            predict_many([str(tmp_path / "*.gif")], place, model=small_run)
        predict_many([str(photos)], place, model=model)
        with ResultFolder.at(place).model_files() as folder:
            assert [path.name for path in folder.iterdir()] == ["model.onnx"]


def test_a_damaged_part_is_told(model: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict_many([str(photos)], str(out), model=model)
    run = json.loads((out / "_run.json").read_text())
    del run["failed"]
    (out / "_run.json").write_text(json.dumps(run))
    (out / "part-000002.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"part 2 of .* damaged"):
        predict_many([str(photos)], str(out), model=model)
    (out / "part-000002.parquet").unlink()
    assert predict_many([str(photos)], str(out), model=model).failed == 1
    parquet.write_table(pa.table({"photo": ["a"]}), out / "part-000002.parquet")
    with pytest.raises(DataError, match=r"part 2 of .* damaged"):
        list(read_rows(str(out)))


@pytest.mark.parametrize(
    ("name", "text"),
    [("_run.json", "{"), ("_run.json", '{"request": 1}'), ("_run.json", "[" * 9999), ("_photos/000001.json", "[1]")],
)
def test_a_damaged_list_or_request_is_told(name: str, text: str, model: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        predict_many([str(photos)], str(out), model=model, on_photo=stop)
    (out / name).write_text(text)
    with pytest.raises(DataError, match=f"{name}, but it is damaged"):
        predict_many([str(photos)], str(out), model=model)


def test_photos_and_results_may_be_at_addresses(
    memory: fsspec.AbstractFileSystem, model: Path, photos: Path, tmp_path: Path
) -> None:
    for path in photos.rglob("*.png"):
        memory.pipe_file(f"/{path.relative_to(tmp_path)}", path.read_bytes())
    predict_many([str(photos)], str(tmp_path / "out"), model=model)
    done = predict_many(["memory://photos"], "memory://out", model=model)
    assert (done.photos, done.failed) == (PHOTOS, 1)
    here, there = (list(read_rows(out)) for out in (str(tmp_path / "out"), "memory://out"))
    for row in there:
        row["photo"] = row["photo"].replace("memory://", str(tmp_path), 1)
        row["error"] = row["error"] and row["error"].replace("memory://", str(tmp_path), 1)
    assert there == here
    assert memory.exists("/out/_model/model.onnx")
    memory.rm("/photos/a/000.png")
    (gone,) = Classifier.load(model).stream(["memory:///photos/a/000.png"])
    assert isinstance(gone, Failure)
    assert "there is none" in str(gone.error)


def test_a_place_that_refuses_is_told(model: Path, photos: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "out.zip", "w"):
        pass
    with pytest.raises(StorageError, match="read and write the results in zip://"):
        predict_many([str(photos)], f"zip://::{tmp_path}/out.zip", model=model)


def test_published_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exported first"):
        predict_many(["photos"], str(tmp_path / "out"), model=tmp_path / "model.pth")
    assert not (tmp_path / "out").exists()


def test_a_name_that_is_no_text_has_its_row(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in (b"\xff.png", b"\xfe.png"):
        paint(folder / "car.png", RED).rename(os.fsdecode(os.fsencode(folder / "car") + name))
    Path(os.fsdecode(os.fsencode(folder / "car") + b"\xfe.png")).write_bytes(b"no photo")
    predict_many([str(folder)], str(tmp_path / "out"), model=model)
    broken, row = read_rows(str(tmp_path / "out"))
    assert "car\\udcfe.png, but it is not an image" in broken["error"]
    assert (row["photo"], row["answer"]) == (f"file://{folder}/car%FF.png", "BMW M3 Sedan 2012")
    assert predict_many([row["photo"]], str(tmp_path / "again"), model=model).failed == 0


def test_a_run_folder_and_openvino_answer_too(small_run: Path, photos: Path, tmp_path: Path) -> None:
    from twincar.deploy.export import export

    folder = export(small_run, format="openvino", out=tmp_path / "model").path
    rows = []
    for name, model in (("run", small_run), ("openvino", folder)):
        assert predict_many([str(photos / "a")], str(tmp_path / name), model=model).photos == 12
        rows.append([row["class_1"] for row in read_rows(str(tmp_path / name))])
    assert rows[0] == rows[1]
