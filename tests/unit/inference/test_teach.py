from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from colour_model import BLUE, CLASSES, GREEN, RED, ColourDetector, paint, paint_street, write_model, write_teachable
from command_line import run
from PIL import Image

from twincar.core.errors import CheckpointError, DataError, LabelError, PhotoError, UsageError
from twincar.inference.classifier import Classifier
from twincar.inference.crops import CarFinder
from twincar.inference.results import Prediction
from twincar.inference.teach import forget, teach
from twincar.models.class_statistics import ClassStatistics
from twincar.models.onnx_head import ExportedModel

NAME = "Seat Arona SUV 2018"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_teachable(tmp_path / "colours.onnx")


@pytest.fixture
def yellow(tmp_path: Path) -> list[Path]:
    """Photos of yellow cars, no two alike."""
    shades = [(255, 255, 0), (240, 250, 10), (255, 235, 20), (230, 240, 0), (250, 225, 15)]
    return [paint(tmp_path / f"yellow{number}.png", shade) for number, shade in enumerate(shades)]


@pytest.fixture
def classifier(model: Path) -> Classifier:
    return Classifier.load(model)


def name_of(classifier: Classifier, colour: tuple[int, int, int]) -> str:
    found = classifier.predict(Image.new("RGB", (60, 40), colour))
    assert isinstance(found, Prediction)
    return found.top1.name


def test_a_taught_car_is_named_and_the_known_ones_keep_their_logits(
    classifier: Classifier, yellow: list[Path], tmp_path: Path
) -> None:
    taught = teach(classifier, {NAME: yellow}, out=tmp_path / "new.onnx")
    larger = Classifier.load(taught.path)
    assert name_of(classifier, (245, 245, 5)) != NAME
    assert name_of(larger, (245, 245, 5)) == NAME
    images = np.stack([np.full((32, 32, 3), colour, np.uint8) for colour in (RED, GREEN, BLUE)])
    before, after = classifier.engine.logits(images), larger.engine.logits(images)
    assert after[:, : len(CLASSES)] == pytest.approx(before, abs=1e-4)
    assert (after.argmax(axis=1) == before.argmax(axis=1)).all()
    assert larger.class_names == (*CLASSES, NAME)
    prediction = larger.predict(yellow[0])
    assert isinstance(prediction, Prediction)
    assert (prediction.make, prediction.model, prediction.body, prediction.year) == ("Seat", "Arona", "SUV", 2018)
    assert prediction.status == "named"
    (car,) = taught.cars
    assert (car.photos, car.added, car.repeated, car.named, taught.classes) == (5, 5, 0, 1.0, 7)
    onnx.checker.check_model(onnx.load(taught.path), full_check=True)


def test_the_header_says_by_what_a_car_was_taught(classifier: Classifier, yellow: list[Path], tmp_path: Path) -> None:
    from hashlib import sha256

    teach(classifier, {NAME: yellow}, out=tmp_path / "new.onnx")
    (record,) = Classifier.load(tmp_path / "new.onnx").spec.taught
    assert (record.name, record.photos) == (NAME, 5)
    assert record.sha256 == tuple(sha256(photo.read_bytes()).hexdigest() for photo in yellow)


def test_what_the_heat_map_explains_is_the_logit_of_the_taught_car(
    classifier: Classifier, yellow: list[Path], tmp_path: Path
) -> None:
    """The head that Grad-CAM++ reads computes the logits of the file."""
    teach(classifier, {NAME: yellow}, out=tmp_path / "new.onnx")
    engine = Classifier.load(tmp_path / "new.onnx").engine
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    logits, features = engine.logits_and_features(images)
    ((weight, bias),) = engine.head.layers
    assert features.mean(axis=(2, 3)) @ weight.T + bias == pytest.approx(logits, abs=1e-3)


def test_photos_taught_later_are_added(classifier: Classifier, yellow: list[Path], tmp_path: Path) -> None:
    """Taught in two parts a car has the statistics of all its photos, and repeated ones are counted."""
    once = teach(classifier, {NAME: yellow}, out=tmp_path / "once.onnx")
    first = teach(classifier, {NAME: yellow[:3]}, out=tmp_path / "first.onnx")
    again = teach(Classifier.load(first.path), {NAME.upper(): yellow[1:]}, add=True, out=tmp_path / "twice.onnx")
    (car,) = again.cars
    assert (car.name, car.photos, car.added, car.repeated) == (NAME, 5, 2, 2)
    found, expected = (ExportedModel.read(taught.path).statistics for taught in (again, once))
    assert found is not None
    assert expected is not None
    assert found.means == pytest.approx(expected.means, abs=2e-3)
    assert (found.counts == expected.counts).all()
    with pytest.raises(UsageError, match="taught by all 2 of them already"):
        teach(Classifier.load(again.path), {NAME: yellow[:2]}, add=True, out=tmp_path / "thrice.onnx")


def test_what_is_forgotten_leaves_the_model_as_it_was(
    classifier: Classifier, yellow: list[Path], tmp_path: Path
) -> None:
    grey = [paint(tmp_path / f"grey{n}.png", (200 + n, 200, 200 - n)) for n in range(3)]
    taught = teach(classifier, {NAME: yellow, "Fiat Panda Hatchback 2020": grey}, out=tmp_path / "new.onnx")
    larger = Classifier.load(taught.path)
    forget(larger, NAME, out=tmp_path / "less.onnx")
    less = Classifier.load(tmp_path / "less.onnx")
    assert [car.name for car in less.spec.taught] == ["Fiat Panda Hatchback 2020"]
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    kept = [*range(6), 7]
    assert less.engine.logits(images) == pytest.approx(larger.engine.logits(images)[:, kept], abs=1e-4)
    with pytest.raises(UsageError, match="that was taught"):
        forget(less, "BMW M3 Sedan 2012", out=tmp_path / "none.onnx")


def test_a_classifier_that_is_taught_stays_as_it_is(classifier: Classifier, yellow: list[Path], tmp_path: Path) -> None:
    larger = classifier.teach(NAME, yellow)
    assert (len(classifier.class_names), len(larger.class_names)) == (6, 7)
    saved = Classifier.load(larger.save(tmp_path / "saved.onnx"))
    assert saved.spec == larger.spec
    assert name_of(saved, (245, 245, 5)) == name_of(larger, (245, 245, 5)) == NAME
    with pytest.raises(UsageError, match="never overwritten"):
        larger.save(tmp_path / "saved.onnx")


def test_names_that_are_there_are_refused(classifier: Classifier, yellow: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "new.onnx"
    with pytest.raises(UsageError, match="trained on 'BMW M3 Sedan 2012'"):
        teach(classifier, {"bmw m3 sedan 2012": yellow}, add=True, out=out)
    first = teach(classifier, {NAME: yellow}, out=out)
    with pytest.raises(UsageError, match="--add"):
        teach(Classifier.load(first.path), {NAME: yellow}, out=tmp_path / "other.onnx")
    with pytest.raises(UsageError, match="two spellings"):
        teach(classifier, {"A B": yellow, "a-b": yellow}, out=tmp_path / "other.onnx")
    with pytest.raises(LabelError, match="control characters"):
        teach(classifier, {"A\x07B": yellow}, out=tmp_path / "other.onnx")
    with pytest.raises(UsageError, match="never overwritten"):
        teach(classifier, {"A": yellow}, out=out)
    assert not (tmp_path / "other.onnx").exists()


def test_a_photo_that_teaches_another_car_is_refused(
    classifier: Classifier, yellow: list[Path], tmp_path: Path
) -> None:
    """Those that the header of the model names by their hashes, and those of another car of the same call."""
    out, copy = tmp_path / "other.onnx", tmp_path / "copy.png"
    copy.write_bytes(yellow[1].read_bytes())
    taught = Classifier.load(teach(classifier, {NAME: yellow}, out=tmp_path / "new.onnx").path)
    grey = [paint(tmp_path / f"grey{n}.png", (200 + n, 200, 200 - n)) for n in range(3)]
    with pytest.raises(UsageError) as refused:
        teach(taught, {"Fiat Panda Hatchback 2020": [*grey, copy]}, out=out)
    assert str(refused.value) == (
        f"Expected photos of 'Fiat Panda Hatchback 2020' only, but 1 of 4 are also photos of {NAME!r}: '{copy}'. Leave "
        f"them out, or remove {NAME!r} first by --forget."
    )
    with pytest.raises(UsageError, match=r"1 of 4 are also photos of .*out of one of the two"):
        teach(classifier, {NAME: yellow, "Fiat Panda Hatchback 2020": [*grey, copy]}, out=out)
    assert not out.exists()
    assert teach(taught, {"Fiat Panda Hatchback 2020": grey}, out=out).classes == 8


def test_photos_of_several_cars_are_refused(classifier: Classifier, tmp_path: Path) -> None:
    mixed = [paint(tmp_path / f"{n}.png", colour) for n, colour in enumerate((RED, GREEN, BLUE, (9, 9, 9)))]
    with pytest.raises(DataError, match=r"similarity is -0\.\d\d.*at least 0\.\d\d is needed"):
        teach(classifier, {NAME: mixed}, out=tmp_path / "new.onnx")


def test_few_photos_are_allowed_with_a_warning(
    classifier: Classifier, yellow: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "twincar"):
        teach(classifier, {NAME: yellow[:2]}, out=tmp_path / "new.onnx")
    assert "2 photos only: expect about eight in ten" in caplog.text
    assert name_of(Classifier.load(tmp_path / "new.onnx"), (245, 245, 5)) == NAME


def test_one_car_under_two_names_is_noticed(
    classifier: Classifier, yellow: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Different photos of it, so that hashes do not tell; another car is as unlike as it looks."""
    shades = [(252, 250, 5), (235, 245, 12), (245, 228, 9)]
    again = [paint(tmp_path / f"again{number}.png", shade) for number, shade in enumerate(shades)]
    grey = [paint(tmp_path / f"grey{n}.png", (200 + 5 * n, 200, 200 - 5 * n)) for n in range(3)]
    with caplog.at_level(logging.WARNING, "twincar"):
        teach(classifier, {NAME: yellow, "Fiat Panda Hatchback 2020": grey}, out=tmp_path / "two.onnx")
    assert not caplog.text
    with caplog.at_level(logging.WARNING, "twincar"):
        cars = {NAME: yellow, "Fiat Panda Hatchback 2020": grey, "Seat Arona 2019": again}
        teach(classifier, cars, out=tmp_path / "three.onnx")
    assert (
        f"Photos of 1 pair of cars look as much alike as those of one car: '{NAME} and Seat Arona 2019'." in caplog.text
    )


def test_a_photo_without_a_car_or_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    model = write_teachable(tmp_path / "cut.onnx", framing="car")
    classifier = Classifier.load(model)
    classifier.finder = CarFinder(ColourDetector(), 0.0)  # type: ignore[arg-type]
    car = paint_street(tmp_path / "car.png", {RED: (10, 10, 200, 150)})
    with pytest.raises(DataError, match=r"none is found in 1 of 2: .*empty\.png"):
        teach(classifier, {NAME: [car, paint(tmp_path / "empty.png", (9, 9, 9))]}, out=tmp_path / "new.onnx")
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    with pytest.raises(PhotoError, match=r"bad\.jpg"):
        teach(classifier, {NAME: [tmp_path / "bad.jpg"]}, out=tmp_path / "new.onnx")


def test_a_model_without_statistics_says_how_to_get_them(tmp_path: Path, yellow: list[Path]) -> None:
    classifier = Classifier.load(write_model(tmp_path / "old.onnx"))
    with pytest.raises(UsageError, match="--statistics-from DATA"):
        teach(classifier, {NAME: yellow}, out=tmp_path / "new.onnx")
    exported = ExportedModel.read(tmp_path / "old.onnx")
    exported.statistics = ClassStatistics(np.ones((6, 3)), np.ones(6, np.int64), np.zeros((1, 3)), np.ones(3))
    broken = next(tensor for tensor in exported.model.graph.initializer if tensor.name == "statistics.deviation")
    broken.CopyFrom(onnx.numpy_helper.from_array(np.full(3, np.nan, np.float16), broken.name))
    with pytest.raises(CheckpointError, match="finite"):
        _ = exported.statistics


def test_the_command_teaches_lists_and_forgets(model: Path, yellow: list[Path], tmp_path: Path) -> None:
    new = tmp_path / "new.onnx"
    taught = json.loads(run("teach", model, *yellow, "--name", NAME, "--out", new, "--json").stdout)
    assert [(car["name"], car["photos"]) for car in taught["cars"]] == [(NAME, 5)]
    lines = run("teach", "--list", new).stdout.splitlines()
    assert lines[1].split("\t")[:2] == [NAME, "5"]
    assert lines[-1] == "1 car of 7 classes taught"
    said = run("teach", new, "--forget", NAME, "--out", tmp_path / "less.onnx")
    assert said.stdout == f"Model without {NAME}: {tmp_path / 'less.onnx'} (6 classes)\n"
    assert "--out FILE" in run("teach", model, *yellow, "--name", NAME).stderr
    assert "no --name" in run("teach", model, *yellow, "--out", tmp_path / "x.onnx").stderr
    assert "several" in run("teach", model, "--list", "--name", NAME).stderr


def test_class_folders_and_a_csv_teach_many_cars(model: Path, yellow: list[Path], tmp_path: Path) -> None:
    folders = tmp_path / "cars"
    for name, base in ((NAME, (250, 240, 0)), ("Fiat Panda Hatchback 2020", (200, 200, 200))):
        (folders / name).mkdir(parents=True)
        for number in range(3):
            paint(folders / name / f"{number}.png", (base[0] - number, base[1] - 2 * number, base[2] + number))
    said = run("teach", model, folders, "--out", tmp_path / "folders.onnx", "--json")
    assert {car["name"]: car["photos"] for car in json.loads(said.stdout)["cars"]} == {
        NAME: 3,
        "Fiat Panda Hatchback 2020": 3,
    }
    table = tmp_path / "cars.csv"
    table.write_text("filename,label\n" + "".join(f"{photo.name},{NAME}\n" for photo in yellow))
    said = run("teach", model, table, "--out", tmp_path / "csv.onnx", "--json")
    assert [(car["name"], car["photos"]) for car in json.loads(said.stdout)["cars"]] == [(NAME, 5)]
