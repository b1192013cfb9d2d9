"""The bundled model, on its own and as the verbs reach it."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

import twincar
from benchmarks.quality.bundled_header import write_header
from twincar.cli import app
from twincar.core.labels import stanford_cars
from twincar.models.bundled import MODEL
from twincar.models.engines.open import open_engine
from twincar.models.license import License

CARD = MODEL.with_name("CARD.md")


def test_it_is_small_and_whole() -> None:
    assert MODEL.stat().st_size <= 10e6
    _, spec = open_engine(MODEL)
    assert spec.classes.names == stanford_cars()
    assert spec.calibration.photos == 745
    assert spec.arithmetic == "int8-weights"
    assert (spec.framing, spec.margin) == ("car", 0)
    assert not re.search(r"/(home|tmp|root|work)/", spec.to_header())


def test_its_header_holds_its_licence(tmp_path: Path) -> None:
    _, spec = open_engine(MODEL)
    assert (spec.license, License.of(spec).id) == ("cc-by-nc-4.0", "cc-by-nc-4.0")
    assert spec.license_notice == MODEL.with_name("LICENSE").read_text(encoding="utf-8")
    copy = shutil.copyfile(MODEL, tmp_path / "model.onnx")
    write_header(copy)
    assert copy.read_bytes() == MODEL.read_bytes()


def test_it_answers_where_no_model_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "twincar")  # and afterwards what it was, whatever --quiet sets
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (120, 180, 3), np.uint8)).save(tmp_path / "noise.jpg")
    result = CliRunner().invoke(app, ["predict", "--json", str(tmp_path / "noise.jpg")])
    assert result.exit_code == 0, result.output
    assert "No model named: using the bundled model: 196 cars up to 2012" in caplog.text
    caplog.clear()
    quiet = CliRunner().invoke(app, ["predict", "--quiet", "--json", str(tmp_path / "noise.jpg")])
    assert (quiet.stdout, quiet.stderr, caplog.text) == (result.stdout, "", "")
    row = json.loads(result.stdout)
    assert (row["car_count"], row["status"], row["topk"]) == (0, "no car found", [])
    assert twincar.load().class_names == stanford_cars()


def test_it_knows_real_cars(real_photos: Path) -> None:
    """A sixty-fourth of the official test half, cut to the box: 0.893 of all of them are right."""
    (file,) = (real_photos / "official" / "data").glob("test-*.parquet")
    table = pq.read_table(file)
    names = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]["label"]["names"]
    engine, spec = open_engine(MODEL)
    right = []
    for row in table.take(list(range(0, table.num_rows, 64))).to_pylist():
        car = Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB").crop(row["bbox"])
        logits = engine.logits(spec.preprocessing(car)[None])[0]
        right.append(spec.classes.names[logits.argmax()] == names[row["label"]])
    assert np.mean(right) > 0.75


def test_its_card_tells_what_there_is_to_tell() -> None:
    text = CARD.read_text(encoding="utf-8")
    for told in ("Stanford Cars", "non-commercial", "--recipe lite", "0.893", "after 2012", "CC BY-NC 4.0"):
        assert told in text
