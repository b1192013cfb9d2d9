"""A model of any kind and the data that it is evaluated on."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from colour_model import BLUE, GREEN, RED, paint, write_model
from command_line import run as command
from conftest import CLASSES, draw_car, write_class_folders

from twincar.core.errors import DataError, LabelError, UsageError
from twincar.data.dataset import PreparedData
from twincar.data.unprepared import open_unprepared
from twincar.evaluation.evaluate import evaluate
from twincar.evaluation.open_set import evaluate_open_set
from twincar.evaluation.report.page import report
from twincar.evaluation.robustness import measure_robustness
from twincar.evaluation.subject import SUBJECT, Subject
from twincar.explanation.compare import compare
from twincar.explanation.explain import explain
from twincar.explanation.scoring import score_explanations
from twincar.models import bundled

BMW, VOLVO = "BMW M3 Sedan 2012", "Volvo C30 Hatchback 2012"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def model(here: Path) -> Path:
    return write_model(here / "colours.onnx")


@pytest.fixture
def photos(here: Path) -> Path:
    """Class folders with two BMWs, both red, and three Volvos, of which one is red."""
    folder = here / "my photos"
    for car, colours in ((BMW, [RED, RED]), (VOLVO, [GREEN, GREEN, RED])):
        (folder / car).mkdir(parents=True)
        for number, colour in enumerate(colours):
            paint(folder / car / f"{number}.jpg", colour)
    return folder


def files_below(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_exported_model_is_evaluated_on_a_photo_folder(model: Path, photos: Path) -> None:
    before = files_below(photos)
    found = evaluate(model, data_folder=photos)
    assert (found.photos, found.split, found.data, found.seen) == (5, "test", "my photos", None)
    assert found.metrics["acc"] == pytest.approx(4 / 5)  # one Volvo is red
    assert found.left_out == {}
    with (found.folder / "predictions.csv").open(newline="") as file:
        assert sorted(row["top1"] for row in csv.DictReader(file)) == [BMW] * 3 + [VOLVO] * 2
    assert files_below(photos) == before
    assert not list(found.folder.parent.glob("curve_*"))
    base = found.folder.parent
    assert base.parent == Path("results")
    assert base.name.startswith("colours-")
    assert "-on-my photos-" in base.name


def test_unusable_photos_are_counted_and_named(model: Path, photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    (photos / BMW / "damaged.jpg").write_bytes(b"damaged")
    paint(photos / VOLVO / "tiny.jpg", GREEN)
    (photos / VOLVO / "tiny.jpg").write_bytes(b"")
    found = evaluate(model, data_folder=photos)
    assert sum(found.left_out.values()) == 2
    assert found.photos == 5
    assert json.loads((found.folder / "metrics.json").read_text())["left_out"] == found.left_out
    assert "damaged.jpg" in caplog.text
    assert "2 photos" in caplog.text
    assert "Photos left out: 2 (" in command("evaluate", model, "--data", photos).stdout


def test_a_csv_and_its_splits(model: Path, photos: Path) -> None:
    lines = [
        "filename,label,split",
        *(f"{path.relative_to(photos)},{path.parent.name},test" for path in sorted(photos.rglob("*.jpg"))[:4]),
        f"{VOLVO}/2.jpg,{VOLVO},val",
    ]
    (photos / "list.csv").write_text("\n".join(lines))
    assert evaluate(model, data_folder=photos / "list.csv").photos == 4
    only = evaluate(model, data_folder=photos / "list.csv", split="val")
    assert (only.photos, only.metrics["acc"]) == (1, 0.0)
    with pytest.raises(DataError, match="train"):
        evaluate(model, data_folder=photos / "list.csv", split="train")


def test_an_unknown_class_is_named(model: Path, photos: Path) -> None:
    (photos / "Lada Niva SUV 1990").mkdir()
    paint(photos / "Lada Niva SUV 1990" / "0.jpg", BLUE)
    with pytest.raises(LabelError, match="Lada Niva"):
        evaluate(model, data_folder=photos)
    assert not Path("results").exists()


def test_a_damaged_data_set_is_not_used_as_a_photo_folder(small_data: Path, here: Path) -> None:
    data = shutil.copytree(small_data, here / "data")
    (data / "manifest.json").unlink()
    with pytest.raises(UsageError, match="no manifest"):
        Subject.open(data_folder=data).data  # noqa: B018
    with pytest.raises(UsageError, match="no such folder"):
        Subject.open(data_folder=here / "gone").data  # noqa: B018


def test_only_a_run_knows_its_data(model: Path, small_run: Path, small_data: Path) -> None:
    with pytest.raises(UsageError, match=r"Expected --data DATA, .* evaluate colours on"):
        evaluate(model)
    assert Subject.open(small_run).data.folder == PreparedData.open(small_data).folder
    assert Subject.open(small_run).split == "val"
    with pytest.raises(UsageError, match="but there is none"):
        Subject.open("gone.onnx").path  # noqa: B018
    Path("empty").mkdir()
    with pytest.raises(UsageError, match=r"no config\.yaml"):
        Subject.open("empty").path  # noqa: B018


def test_the_bundled_model_is_the_default() -> None:
    assert Subject.open().path == bundled.MODEL
    result = command("evaluate")
    assert result.returncode == 2
    assert "Expected --data DATA" in result.stderr


def test_every_verb_takes_an_exported_model(model: Path, photos: Path) -> None:
    evaluated = evaluate(model, data_folder=photos)
    explained = explain(model, data_folder=photos, count=3)
    assert len(explained.photos) == 3
    compared = compare(model, data_folder=photos)
    assert [(pair.first, pair.second, pair.first_as_second) for pair in compared.pairs] == [(VOLVO, BMW, 1)]
    robust = measure_robustness(model, data_folder=photos)
    unknown = evaluate_open_set(model, data_folder=photos)
    assert robust.photos == unknown.photos == 5
    folder = evaluated.folder.parent
    assert {path.name for path in folder.iterdir()} == {SUBJECT, "test", "explain", "compare", "open_set"}
    page = report(model, data_folder=photos)
    assert page.path == folder / "report.html"
    text = page.path.read_text()
    assert "its epochs and its configuration are not known" in text
    assert 'data-figure="loss"' not in text
    assert "twincar evaluate colours.onnx --split test --data &#39;my photos&#39;" in text
    assert str(Path.cwd()) not in text
    assert report(folder).path == page.path  # the folder of results is enough


def test_maps_of_an_exported_model_are_scored_without_the_sanity_check(
    model: Path, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scored = score_explanations(model, data_folder=photos, count=2)
    kinds = {score.score for score in scored.scores}
    assert "deletion" in kinds
    assert not any("random" in kind for kind in kinds)
    assert "sanity check" in caplog.text


def test_results_of_another_model_are_never_overwritten(model: Path, photos: Path, here: Path) -> None:
    first = evaluate(model, data_folder=photos, out=here / "mine")
    assert first.folder == here / "mine" / "test"
    before = files_below(here / "mine")
    other = write_model(here / "other.onnx", sharper=2)
    with pytest.raises(UsageError, match="never overwritten"):
        evaluate(other, data_folder=photos, out=here / "mine")
    with pytest.raises(UsageError, match="other files"):
        evaluate(model, data_folder=photos, out=photos)
    assert files_below(here / "mine") == before
    assert evaluate(other, data_folder=photos).folder != evaluate(model, data_folder=photos).folder
    assert report(here / "mine").path == here / "mine" / "report.html"
    (here / "mine" / SUBJECT).write_text("[]")
    with pytest.raises(DataError, match="damaged"):
        report(here / "mine")


def test_explaining_given_photos_needs_no_data(model: Path, photos: Path) -> None:
    result = explain(model, images=[str(photos / BMW / "0.jpg")])
    assert result.grid.parent.parent.parent == Path("results")
    output = command("explain", model, photos / BMW / "0.jpg", "--out", "mine").stdout
    assert "1 photo explained in mine/explain" in output


def test_a_run_on_a_photo_folder(small_run: Path, here: Path) -> None:
    """The results equal those on the data set that `prepare` makes of the folder."""
    run = shutil.copytree(small_run, here / "run", ignore=shutil.ignore_patterns("reports"))
    folder = write_class_folders(here / "cars", {"test": 3})
    (folder / "train" / CLASSES[0]).mkdir(parents=True)
    draw_car(0, 0).save(folder / "train" / CLASSES[0] / "0.jpg")
    found = evaluate(run, data_folder=folder, split="test")
    assert found.photos == 12
    assert found.folder.parent.parent == run / "evaluations"
    assert found.metrics == pytest.approx(evaluate(run, split="test").metrics)  # `small_data` has the same photos


def test_tables_of_photos_must_be_prepared(here: Path) -> None:
    with pytest.raises(UsageError, match="Prepare it first"):
        open_unprepared(Path("toycars"))
    assert np.size(list(here.iterdir())) == 0
