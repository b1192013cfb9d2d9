from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import CLASSES, draw_car, encoded, write_class_folders
from PIL import Image

from twincar.cli import main
from twincar.core.errors import DataError, PhotoError
from twincar.core.photos import read_photo
from twincar.core.preprocess import Preprocessing
from twincar.data.dataset import PreparedData
from twincar.data.prepare import PrepareOptions, prepare
from twincar.evaluation import plots
from twincar.evaluation.corruptions import CORRUPTIONS, VERSIONS, CorruptedViews
from twincar.evaluation.results import CorruptionScore, Robustness
from twincar.evaluation.robustness import measure_robustness
from twincar.metrics.classification import Interval, accuracy_interval
from twincar.models.engines.open import open_engine


def copy_of(run: Path, folder: Path) -> Path:
    """A copy without reports, so that tests do not share them."""
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("reports"))
    return folder


@pytest.fixture(scope="module")
def measured(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Robustness:
    return measure_robustness(copy_of(small_run, tmp_path_factory.mktemp("run") / "run"), split="test")


def test_every_score_equals_that_of_single_photos(measured: Robustness, small_run: Path, small_data: Path) -> None:
    """Predicts one version of one photo at a time instead of batches of all versions."""
    engine, spec = open_engine(small_run)
    data = PreparedData.open(small_data)
    views = CorruptedViews(height=64, width=64)
    annotations = data.split("test")
    photos = [views.views(read_photo(data.path(annotation))) for annotation in annotations]
    labels = np.array([annotation.label for annotation in annotations])
    assert spec.classes.names == data.classes.names
    assert [(score.corruption, score.severity) for score in measured.corruptions] == list(VERSIONS[1:])
    for version in (0, 3, 15, 30, 35):
        predicted = np.array([engine.logits(photo[version][None])[0].argmax() for photo in photos])
        expected = accuracy_interval(labels, predicted)
        assert (measured.corruptions[version - 1].interval if version else measured.clean) == expected


def test_the_files_contain_the_results(measured: Robustness) -> None:
    folder = measured.folder
    assert folder.parts[-2:] == ("reports", "test")
    found = json.loads((folder / "corruptions.json").read_text())
    assert found == measured.to_dict()
    assert found["generated"] is True
    assert found["photos"] == 12
    with (folder / "corruptions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found["corruptions"]) == 35
    for row, cells in zip(rows, found["corruptions"], strict=True):
        assert row == {name: str(value) for name, value in cells.items()}
        assert cells["low"] <= cells["accuracy"] <= cells["high"]
    with Image.open(folder / "corruptions.png") as image:
        assert image.width > 900
        assert np.asarray(image.convert("L")).std() > 5  # not blank


def test_means_by_hand() -> None:
    scores = [("contrast", 1, 0.8), ("contrast", 2, 0.6), ("pixelate", 1, 0.5), ("pixelate", 2, 0.1)]
    robustness = Robustness(
        split="test",
        photos=10,
        generated=True,
        clean=Interval(0.8, 0.7, 0.9),
        corruptions=tuple(CorruptionScore(name, level, value, 0, 1, 10) for name, level, value in scores),
        folder=Path("reports"),
    )
    assert robustness.means == pytest.approx({"contrast": 0.7, "pixelate": 0.3})
    assert robustness.mean == pytest.approx(0.5)
    assert robustness.relative == pytest.approx(0.625)


def write_split(folder: Path, split: str, photos: list[tuple[Image.Image, int]]) -> None:
    """A parquet file with photos and labels, as on the hub."""
    images = [{"bytes": encoded(photo), "path": f"{split}{number}.jpg"} for number, (photo, _) in enumerate(photos)]
    table = pa.table({"image": images, "label": [label for _, label in photos]})
    names = {"label": {"names": list(CLASSES), "_type": "ClassLabel"}}
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": names}})})
    pq.write_table(table, folder / f"{split}-00000-of-00001.parquet")


def test_corrupted_splits_of_the_data_are_used_for_the_test_split(small_run: Path, tmp_path: Path) -> None:
    """The source has two corruptions: one with grey photos, one with unchanged photos of all classes but one."""
    cars = [(draw_car(label, number), label) for label in range(4) for number in range(4)]
    (tmp_path / "source").mkdir()
    write_split(tmp_path / "source", "train", cars)
    write_split(tmp_path / "source", "test", cars)
    write_split(tmp_path / "source", "contrast", [(Image.new("RGB", (96, 64), "grey"), label) for _, label in cars])
    write_split(tmp_path / "source", "pixelate", cars[4:])
    splits = ("train", "test", "contrast", "pixelate")
    data = prepare(str(tmp_path / "source"), tmp_path / "data", PrepareOptions(splits=splits, val_share=0.25))
    run, steps = copy_of(small_run, tmp_path / "run"), []
    measured = measure_robustness(run, split="test", data_folder=data.folder, on_photo=lambda *step: steps.append(step))
    assert not measured.generated
    assert [(score.corruption, score.severity, score.photos) for score in measured.corruptions] == [
        ("contrast", None, 16), ("pixelate", None, 12)
    ]  # fmt: skip
    assert measured.corruptions[0].accuracy == 0.25  # all photos get the same prediction, of four classes
    engine, spec = open_engine(run)
    assert spec.classes.names != CLASSES  # the data has another order of classes than the model
    inputs = np.stack([Preprocessing(height=64, width=64)(read_photo(encoded(car))) for car, _ in cars])
    predicted = [spec.classes[index] for index in engine.logits(inputs).argmax(axis=1)]
    right = [name == CLASSES[label] for name, (_, label) in zip(predicted, cars, strict=True)]
    assert {"Aurora Falcon Sedan 2012", "Aurora Falcon Coupe 2012"} & set(predicted)
    assert measured.clean.value == pytest.approx(np.mean(right))
    assert measured.corruptions[1].accuracy == pytest.approx(np.mean(right[4:]))
    assert steps == [(16, 16), (16, 16), (12, 12)]
    assert "contrast,,0.25," in (measured.folder / "corruptions.csv").read_text()
    assert measure_robustness(run, split="val", data_folder=data.folder).generated


def test_a_split_without_labels_or_a_damaged_photo_is_an_error(small_run: Path, tmp_path: Path) -> None:
    source = write_class_folders(tmp_path / "s", {"train": 4, "test": 1})
    data = prepare(str(source), tmp_path / "p", PrepareOptions(val_share=0.25))
    data.path(data.split("test")[0]).write_bytes(b"not an image")
    with pytest.raises(PhotoError, match="not an image"):
        measure_robustness(small_run, split="test", data_folder=data.folder)
    shutil.rmtree(source / "test")
    other = prepare(str(source), tmp_path / "q", PrepareOptions(val_share=0.25))
    with pytest.raises(DataError, match="'test'"):
        measure_robustness(small_run, split="test", data_folder=other.folder)


def test_the_figure_compares_each_corruption_with_clean_photos() -> None:
    scores = {
        name: [Interval(0.9 - 0.1 * level, 0.5 - 0.1 * level, 0.95) for level in range(5)] for name in CORRUPTIONS
    }
    figure = plots.robustness_figure(Interval(0.92, 0.9, 0.94), scores, "title")
    panels = [axes for axes in figure.axes if axes.get_title(loc="left")]
    assert [axes.get_title(loc="left") for axes in panels] == [name.replace("_", " ") for name in CORRUPTIONS]
    for axes in panels:
        lines = [line.get_ydata() for line in axes.lines]
        assert any(np.allclose(line, 0.92) for line in lines)
        assert any(len(line) == 5 and np.allclose(line, [0.9, 0.8, 0.7, 0.6, 0.5]) for line in lines)


def test_corruptions_are_named_as_the_hub_names_its_splits() -> None:
    names = "contrast gaussian_noise impulse_noise jpeg_compression motion_blur pixelate spatter"
    assert sorted(CORRUPTIONS) == names.split()


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit code of `twincar evaluate`."""
    monkeypatch.setattr("sys.argv", ["twincar", "evaluate", *map(str, arguments), "--split", "test", "--corruptions"])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_the_command_prints_a_table_or_json(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_of(small_run, tmp_path / "run")
    assert command(monkeypatch, run) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [len(line.split("\t")) for line in lines[2:9]] == [7] * 7  # the corruption, five severities, their mean
    assert str(run / "reports" / "test" / "corruptions.png") in lines[9]
    assert command(monkeypatch, run, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["folder"] == str(run / "reports" / "test")
    assert [f"{found['means'][name]:.3f}" for name in CORRUPTIONS] == [line.split("\t")[6] for line in lines[2:9]]
    assert command(monkeypatch, run, "--tta") == 2
    assert "at most one of --tta, --corruptions and --open-set" in capsys.readouterr().err
