"""Cars that look alike: the same ones by an index, by a folder, and by all similarities at once."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from colour_model import paint, write_model
from command_line import run
from pyarrow import parquet

import twincar
from twincar.core.errors import DataError, PhotoError, UsageError
from twincar.inference import photo_index, result_store, similar
from twincar.inference.embedding import EmbeddedCar
from twincar.inference.photo_index import index_schema, open_writer, to_table


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A hundred photos of random colours, in row groups of 30."""
    folder = tmp_path / "photos"
    folder.mkdir()
    colours = np.random.default_rng(1).integers(0, 256, (100, 3))
    for number, colour in enumerate(colours.tolist()):
        paint(folder / f"{number:02d}.png", tuple(colour))
    return folder


@pytest.fixture
def index(colour_model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(result_store, "PART", 30)
    monkeypatch.setattr(similar, "_SAME_PHOTO", 1)
    return Path(twincar.index(photos, tmp_path / "cars.parquet", model=colour_model).path)


def test_a_folder_and_its_index_have_the_same_neighbours(colour_model: Path, photos: Path, index: Path) -> None:
    """Those of all cosines, by hand; the photo itself is left out."""
    names = sorted(map(str, photos.glob("*.png")))
    vectors = twincar.load(colour_model).embed(names).vectors
    cosines = vectors @ vectors[40]
    order = [number for number in np.argsort(-cosines, kind="stable") if number != 40][:7]
    for among in (photos, index):
        found = twincar.similar(names[40], among, model=colour_model, count=7)
        assert [car.photo for car in found.cars] == [names[number] for number in order]
        assert [car.similarity for car in found.cars] == pytest.approx(cosines[order].tolist(), abs=5e-3)
        assert (found.compared, found.is_car, found.failures) == (100, True, ())
    assert len(twincar.similar(names[40], index, model=colour_model, count=500).cars) == 99


@pytest.mark.parametrize("threads", [1, 3])
def test_the_search_is_that_of_all_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    """Rows of 64 features, some of them equal, in row groups of several sizes."""
    monkeypatch.setattr(similar, "compute_threads", lambda: threads)
    monkeypatch.setattr(similar, "_BLOCK", 7)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(120, 64)).astype(np.float32)
    vectors[60:80] = vectors[10]
    cars = [EmbeddedCar(str(number), vector) for number, vector in enumerate(vectors)]
    schema = index_schema(64, {photo_index.MODEL_KEY: "m"})
    with open_writer(tmp_path / "x.parquet", schema) as writer:
        for start, stop in ((0, 50), (50, 51), (51, 120)):
            writer.write_table(to_table(cars[start:stop], schema))
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for query in (10, 33):
        found, rows = similar.search_index(tmp_path / "x.parquet", units[query], 30)
        cosines = units @ units[query]
        assert rows == 120
        np.testing.assert_allclose([car.similarity for car in found], np.sort(cosines)[::-1][:30], atol=2e-3)
    copies = similar.search_index(tmp_path / "x.parquet", units[10], 21)[0]
    assert {car.photo for car in copies} == {"10", *map(str, range(60, 80))}


def test_photos_without_a_car_are_left_out_of_folders_and_indexes(tmp_path: Path) -> None:
    vectors = np.eye(4, 64, dtype=np.float32)
    cars = [EmbeddedCar(str(number), vector) for number, vector in enumerate(vectors)]
    cars[1] = replace(cars[1], car=None, car_count=0)
    schema = index_schema(64, {photo_index.MODEL_KEY: "m"})
    with open_writer(tmp_path / "x.parquet", schema) as writer:
        writer.write_table(to_table(cars, schema))
    found, compared = similar.search_index(tmp_path / "x.parquet", vectors[1], 9)
    assert (sorted(car.photo for car in found), compared) == (["0", "2", "3"], 3)
    found, compared, no_car, failures = similar._search_stream(cars, vectors[1], 9, "")
    assert (sorted(car.photo for car in found), compared, no_car, failures) == (["0", "2", "3"], 3, 1, [])


def test_an_index_of_another_model_is_refused(photos: Path, index: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other.onnx", sharper=2)
    with pytest.raises(UsageError, match=r"made by other\.onnx, but .*\.parquet was made by another model, colours"):
        twincar.similar(photos / "00.png", index, model=other)


def test_what_is_no_index_is_refused(colour_model: Path, photos: Path, index: Path, tmp_path: Path) -> None:
    parquet.write_table(pa.table({"photo": ["a"]}), tmp_path / "table.parquet")
    (tmp_path / "half.parquet").write_bytes(index.read_bytes()[:-50])
    for file in (tmp_path / "table.parquet", tmp_path / "half.parquet", photos / "01.png"):
        with pytest.raises(DataError, match="Expected an index that 'twincar index' made"):
            twincar.similar(photos / "00.png", file, model=colour_model)
    with pytest.raises(UsageError, match="at least 1"):
        twincar.similar(photos / "00.png", photos, model=colour_model, count=0)
    with pytest.raises(PhotoError, match="no such file"):
        twincar.similar(photos / "nothing.png", photos, model=colour_model)


def test_the_commands_print_tables_json_csv_and_a_page(
    colour_model: Path, photos: Path, index: Path, tmp_path: Path
) -> None:
    (photos / "bad.png").write_bytes(b"no photo")
    second = tmp_path / "second.parquet"
    result = run("index", photos, "--model", colour_model, "--out", second)
    assert result.returncode == 1
    assert f"100 rows from 100 photos: {second}" in result.stdout
    assert f"1 photo could not be read, see {second}.failed.csv" in result.stderr
    page = tmp_path / "page.html"
    asked = ["similar", colour_model, photos / "05.png", "--among", index, "--count", 3]
    table = run(*asked, "--page", page)
    assert table.returncode == 0
    assert table.stdout.splitlines()[0] == "similarity\tphoto\tcar"
    listed = json.loads(run(*asked, "--json").stdout)
    rows = list(csv.DictReader(io.StringIO(run(*asked, "--csv").stdout)))
    names = [car["photo"] for car in listed["similar"]]
    assert len(names) == 3
    assert names == [row["photo"] for row in rows] == [line.split("\t")[1] for line in table.stdout.splitlines()[1:]]
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/webp") == 4
    assert all(f"photos/{Path(name).name}" in text for name in names)
    assert str(tmp_path) not in text
    folder = run("similar", colour_model, photos / "05.png", "--among", photos, "--json")
    assert folder.returncode == 1
    assert json.loads(folder.stdout)["failures"][0]["photo"] == str(photos / "bad.png")
    alone = run("similar", photos / "05.png")
    assert (alone.returncode, "but --among is missing" in alone.stderr) == (2, True)


def test_a_page_names_a_photo_that_is_gone(colour_model: Path, photos: Path, index: Path) -> None:
    found = twincar.similar(photos / "05.png", index, model=colour_model, count=2)
    Path(found.cars[0].photo).unlink()
    from twincar.inference.similar_page import similar_page

    text = similar_page(found)
    assert text.count("The photo can no longer be read.") == 1
    assert text.count("data:image/webp") == 2
