"""The index: what is in it, that it resumes, that nothing is left out unsaid."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from colour_model import BLUE, GREEN, RED, YELLOW, paint, write_model
from pyarrow import parquet

import twincar
from twincar.core.errors import DataError, UsageError
from twincar.inference import result_store
from twincar.inference.classifier import Classifier
from twincar.inference.embedding import unit_length
from twincar.inference.photo_index import MODEL_KEY, quantize

COLOURS = (RED, GREEN, BLUE, YELLOW)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_store, "PART", 5)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """13 photos, one of them broken, and a file that is no photo."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(13):
        paint(folder / f"{number:02d}.png", COLOURS[number % 4])
    (folder / "07.png").write_bytes(b"no photo")
    (folder / "notes.txt").write_text("text")
    return folder


def test_other_programs_read_the_rows_as_they_are_embedded(colour_model: Path, photos: Path, tmp_path: Path) -> None:
    made = twincar.index(photos, tmp_path / "cars.parquet", model=colour_model)
    assert (made.photos, made.cars, made.failed, made.no_car) == (13, 12, 1, 0)
    assert made.skipped == {"not a photo": 1}
    assert {path.name for path in tmp_path.glob("*cars*")} == {"cars.parquet", "cars.parquet.failed.csv"}
    with Path(made.failures).open(encoding="utf-8", newline="") as file:
        (failed,) = csv.DictReader(file)
    assert failed["photo"] == str(photos / "07.png")
    assert "not an image" in failed["error"]

    table = parquet.read_table(made.path)
    embeddings = twincar.load(colour_model).embed(sorted(photos.glob("*.png")))
    assert tuple(table["photo"].to_pylist()) == embeddings.photos
    assert str(table.schema.field("embedding").type) == "fixed_size_list<element: halffloat not null>[3]"
    stored = np.array(table["embedding"].to_pylist(), np.float32)
    np.testing.assert_allclose(stored, embeddings.vectors, atol=1e-3)
    assert table["left"].null_count == 12
    assert parquet.read_metadata(made.path).num_row_groups == 3
    assert len(table.schema.metadata[MODEL_KEY]) == 64


def test_it_resumes_where_it_stopped(
    colour_model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = parquet.read_table(twincar.index(photos, tmp_path / "whole.parquet", model=colour_model).path)
    out = tmp_path / "cars.parquet"
    embedded: list[list[str]] = []
    plain = Classifier.embed_stream

    def stopping(self: Classifier, names: list[str], **options: object):  # type: ignore[no-untyped-def]
        embedded.append(names)
        if len(embedded) == 2:
            raise KeyboardInterrupt
        return plain(self, names, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Classifier, "embed_stream", stopping)
    with pytest.raises(KeyboardInterrupt):
        twincar.index(photos, out, model=colour_model)
    assert not out.exists()
    other = write_model(tmp_path / "other.onnx", sharper=2)
    with pytest.raises(UsageError, match="another command: model was"):
        twincar.index(photos, out, model=other)
    done: list[tuple[int, int]] = []
    made = twincar.index(photos, out, model=colour_model, on_photo=lambda *counts: done.append(counts))
    assert [len(names) for names in embedded] == [5, 5, 5, 3]  # the first part was not made again
    assert done == [(10, 13), (13, 13)]
    assert parquet.read_table(out).equals(whole)
    assert (made.cars, made.failed) == (12, 1)
    with pytest.raises(UsageError, match="exists already"):
        twincar.index(photos, out, model=colour_model)


def test_a_damaged_part_is_named(
    colour_model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = result_store.ResultFolder.read_part
    monkeypatch.setattr(
        result_store.ResultFolder, "read_part", lambda self, part: plain(self, part)[: 9 if part else None]
    )
    with pytest.raises(DataError, match=r"part 1 of .*cars\.parquet\.parts, but it is damaged"):
        twincar.index(photos, tmp_path / "cars.parquet", model=colour_model)
    assert not (tmp_path / "cars.parquet").exists()


def test_codes_keep_similarities_whatever_the_length_of_the_features() -> None:
    """Features of zeros, features so small that their squares vanish in float32, and large ones."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 40)).astype(np.float32) * np.logspace(-40, 30, 50).astype(np.float32)[:, None]
    vectors[7] = 0
    units = unit_length(vectors)
    codes, scales = quantize(units)
    assert codes.dtype == np.int8
    restored = codes * scales[:, None]
    np.testing.assert_allclose(np.linalg.norm(restored, axis=1), [0.0 if n == 7 else 1.0 for n in range(50)], atol=1e-5)
    cosines = (units * restored).sum(axis=1)
    assert (np.delete(cosines, 7) > 0.999).all()
