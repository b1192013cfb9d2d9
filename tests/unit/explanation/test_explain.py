from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from colour_model import GREEN, RED, write_model
from conftest import draw_car
from PIL import Image
from small_backbone import BACKBONE

from twincar.core.errors import PhotoError, UsageError
from twincar.core.files import write_csv, write_text
from twincar.core.labels import ClassNames
from twincar.core.preprocess import Preprocessing
from twincar.data.prepare import PrepareOptions, prepare
from twincar.data.toy.cars import CLASS_NAMES, draw_data_set, read_part
from twincar.evaluation.overlay_figures import ExplainedPhoto, explanation_grid
from twincar.evaluation.subject import Subject
from twincar.explanation.explain import _choose, explain
from twincar.explanation.randomised import randomised_engines
from twincar.explanation.scoring import score_explanations
from twincar.models.checkpoint import save_model
from twincar.models.engines.torch_engine import open_network
from twincar.models.network import CarNet
from twincar.models.spec import ModelSpec


def test_photos_of_a_split_are_explained_one_by_one_and_in_a_grid(small_run: Path) -> None:
    result = explain(small_run, split="test", count=5)
    assert len(result.photos) == 5
    for path in [*result.photos, result.grid]:
        with Image.open(path) as image:
            assert image.width > 200
    assert {path.name.split("_")[0] for path in result.photos} == {"001", "002", "003", "004", "005"}


def test_mistakes_come_first_where_they_are_known(small_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(small_run, tmp_path / "run", ignore=shutil.ignore_patterns("reports")))
    subject = Subject.open(run, split="test")
    photos, how = _choose(subject, 5)
    assert photos == subject.sample(5)
    assert how == "The photos are spread evenly over the split; after twincar evaluate, its mistakes come first."
    rows = [
        {"file": photo.file, "truth": "a", "top1": "a" if number in (0, 1, 2) else "b", "probability1": number / 20}
        for number, photo in enumerate(subject.data.split("test"))
    ]
    write_csv(subject.results / "predictions.csv", rows)
    wrong = [row["file"] for row in reversed(rows[3:])]  # the higher the number, the more confident
    for count, mistakes in ((4, 4), (9, 9), (12, 9)):
        photos, how = _choose(subject, count)
        assert [photo.file for photo in photos][:mistakes] == wrong[:mistakes]
        assert len({photo.file for photo in photos}) == len(photos) == count
        assert how.startswith(f"First {mistakes} of the 9 mistakes on the split, the most confident first; then ")


def test_given_photos_are_explained(small_run: Path, tmp_path: Path) -> None:
    draw_car(0, 0).save(tmp_path / "car.jpg")
    assert len(explain(small_run, images=[str(tmp_path / "car.jpg")]).photos) == 1
    with pytest.raises(PhotoError):
        explain(small_run, images=[str(tmp_path / "gone.jpg")])


def test_a_count_above_the_number_of_photos_explains_all(small_run: Path) -> None:
    assert len(explain(small_run, split="test", count=1000).photos) == 12
    with pytest.raises(UsageError, match="at least 1"):
        explain(small_run, split="test", count=0)


@pytest.mark.parametrize(("truth", "colour"), [("A", "#1a7f37"), ("B", "#c4180c"), (None, "black")])
def test_the_colour_of_a_title_shows_whether_it_is_correct(truth: str | None, colour: str) -> None:
    item = ExplainedPhoto(np.zeros((10, 20, 3), np.uint8), np.ones((2, 2), np.float32), (0, 0, 20, 10), "A", 0.5, truth)
    axes = explanation_grid([item]).axes[0]
    assert axes.title.get_color() == colour
    assert "A (50%)" in axes.get_title()


def test_photos_of_a_row_hang_at_one_height_and_a_row_of_low_photos_is_low() -> None:
    def explained(height: int) -> ExplainedPhoto:
        return ExplainedPhoto(
            np.zeros((height, 20, 3), np.uint8), np.ones((2, 2), np.float32), (0, 0, 20, height), "A", 0.5
        )

    figure = explanation_grid([explained(height) for height in (8, 20, 8, 10, 8)], columns=2)
    figure.draw_without_rendering()
    places = [axes.get_position() for axes in figure.axes[:5]]
    assert places[0].y1 == pytest.approx(places[1].y1, abs=0.002)
    assert places[2].y1 == pytest.approx(places[3].y1, abs=0.002)
    assert places[0].y0 > places[1].y0 + 0.1
    first, second = places[0].y1 - places[2].y1, places[2].y1 - places[4].y1
    assert first / second == pytest.approx((3.9 * 1.0 + 0.4) / (3.9 * 0.5 + 0.4), rel=0.05)  # the tallest of each


@pytest.fixture
def toy_run(tmp_path: Path) -> Path:
    """A run of random weights on a few drawn cars."""
    draw_data_set(tmp_path / "drawn", photos_per_class={"train": 2, "test": 1})
    data = prepare(str(tmp_path / "drawn/photos.csv"), tmp_path / "data", PrepareOptions(val_share=0.5))
    shutil.copytree(tmp_path / "drawn/masks", data.folder / "masks")
    names = ClassNames(CLASS_NAMES)
    size = Preprocessing(height=64, width=96, squash=True)
    spec = ModelSpec(backbone=BACKBONE, head="linear", classes=names, preprocessing=size)
    torch.manual_seed(0)
    write_text(tmp_path / "run/config.yaml", f"data: {data.folder}\n")
    save_model(tmp_path / "run/best.safetensors", CarNet(spec.backbone, 24, head="linear").eval(), spec)
    return tmp_path / "run"


def test_the_maps_are_scored(toy_run: Path) -> None:
    scored = score_explanations(toy_run, split="test", count=6)
    folder = scored.folder
    written = json.loads((folder / "explanation_scores.json").read_text())
    assert written == scored.to_dict()
    assert written["photos"] == 6
    with (folder / "explanation_scores.csv").open(newline="") as file:
        assert [row["score"] for row in csv.DictReader(file)] == [score.score for score in scored.scores]
    with Image.open(folder / "explanation_scores.png") as picture:
        assert picture.width > picture.height
    values = {(score.score, score.map): score.value for score in scored.scores}
    maps = {"Grad-CAM++", "centred blob", "random blocks"}
    for kind in ("deletion", "insertion", "ROAD, most relevant first", "ROAD, least relevant first"):
        assert {name for score, name in values if score == kind} == maps
        assert all(0 <= values[kind, name] <= 1 for name in maps)
    assert values["energy in the car's box", "random blocks"] == pytest.approx(0.78, abs=0.08)  # the box's area
    contrasts = maps | {"contrast by hiding", "contrast by cell (Finer-CAM)"}
    assert {name for score, name in values if score == "peak in the part that differs"} == contrasts
    for ranked in ("most", "least"):
        found = {name for score, name in values if score == f"contrast under ROAD, {ranked} relevant first"}
        assert found == contrasts
    randomised = ("classifier", "classifier and last stage", "all weights")
    assert all(-1 <= values[f"rank correlation, random {name}", "Grad-CAM++"] <= 1 for name in randomised)


def test_contrast_maps_are_scored_by_the_two_most_likely_classes(tmp_path: Path) -> None:
    """Red at the left speaks for the first class, green at the right for the second: only their order matters."""
    photo = Image.new("RGB", (32, 32), GREEN)
    photo.paste(RED, (0, 0, 17, 32))
    (tmp_path / "photos/BMW M3 Sedan 2012").mkdir(parents=True)
    photo.save(tmp_path / "photos/BMW M3 Sedan 2012/0.png")
    model = write_model(tmp_path / "colours.onnx")
    scored = score_explanations(model, data_folder=tmp_path / "photos", out=tmp_path / "out")
    values = {(score.score, score.map): score.value for score in scored.scores}
    most, least = (f"contrast under ROAD, {ranked} relevant first" for ranked in ("most", "least"))
    before = 1 / (1 + np.exp(-20 * (17 - 15) / 32))
    for contrast in ("contrast by hiding", "contrast by cell (Finer-CAM)"):
        assert values[most, contrast] < before - 0.3
        assert values[least, contrast] > before + 0.1
    assert values[most, "random blocks"] == pytest.approx(before, abs=0.2)


def test_photos_without_box_or_part_are_scored_too(small_run: Path) -> None:
    kinds = {score.score for score in score_explanations(small_run, split="test", count=2).scores}
    assert "deletion" in kinds
    assert not {kind for kind in kinds if "box" in kind or "part" in kind}
    with pytest.raises(UsageError, match="at least 1"):
        score_explanations(small_run, split="test", count=0)


def test_weights_are_randomised_from_the_classifier_down(small_run: Path) -> None:
    network, _ = open_network(small_run)
    trained = network.state_dict()
    changed = {}
    for name, engine in randomised_engines(small_run).items():
        state = engine.network.state_dict()
        changed[name] = {key for key in trained if not torch.equal(trained[key], state[key])}
    assert {key.split(".")[0] for key in changed["classifier"]} == {"head"}
    assert changed["classifier"] < changed["classifier and last stage"] < changed["all weights"]
    assert "backbone.conv_stem.weight" in changed["all weights"] - changed["classifier and last stage"]


def test_the_distinguishing_part_of_a_drawn_photo(toy_run: Path) -> None:
    data = toy_run.parent / "data"
    name = "Aurora Finch Hatchback 2009"
    part = read_part(data, f"test/{name}/0000.jpg", name)
    assert part is not None
    assert (part.car, part.twin) == (name, "Aurora Finch Hatchback 2012")
    assert 0 < np.asarray(part.mask).mean() < 128
    assert read_part(data, f"test/{name}/0001.jpg", name) is None
    assert read_part(data, f"test/{name}/0000.jpg", "Honda Civic 2012") is None
