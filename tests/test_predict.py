from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_car
from PIL import Image

import twincar
from twincar.data.annotations import PreparedData
from twincar.errors import CheckpointError, PhotoError, TwinCarError, UsageError
from twincar.predict import Classifier, Failure, Prediction, find_photos


@pytest.fixture(scope="module")
def classifier(small_run: Path) -> Classifier:
    return twincar.load(small_run)


def test_every_way_to_hand_over_a_photo_gives_the_same_answer(classifier: Classifier, tmp_path: Path) -> None:
    image = draw_car(2, 5)
    path = tmp_path / "car.png"
    image.save(path)
    answers = [classifier.predict(photo) for photo in (path, str(path), path.read_bytes(), image, np.asarray(image))]
    assert all(answer.topk == answers[0].topk for answer in answers)
    assert answers[0].photo == str(path)


def test_an_answer_has_its_parts(classifier: Classifier) -> None:
    answer = classifier.predict(draw_car(0, 0), top_k=3)
    assert len(answer.topk) == 3
    assert answer.top1 == answer.topk[0]
    assert answer.confidence == answer.topk[0].probability == max(c.probability for c in answer.topk)
    assert f"{answer.make} {answer.model} {answer.body} {answer.year}" == answer.top1.name
    row = answer.to_dict()
    assert (row["class_name"], row["year"], len(row["topk"])) == (answer.top1.name, answer.year, 3)


def test_probabilities_are_those_of_evaluation(classifier: Classifier, small_run: Path, small_data: Path) -> None:
    import csv

    from twincar.evaluate import evaluate

    folder = evaluate(small_run, split="test").folder
    data = PreparedData.open(small_data)
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    answers = classifier.predict([data.photo_root / row["file"] for row in rows])
    for answer, row in zip(answers, rows, strict=True):
        assert answer.top1.name == row["top1"]
        assert answer.confidence == pytest.approx(float(row["probability1"]), abs=2e-6)


def test_a_bad_photo_among_many_gives_one_error(classifier: Classifier) -> None:
    photos: list[object] = [draw_car(0, n) for n in range(40)]
    photos[17] = b"bad"
    answers = list(classifier.stream(photos, batch_size=8))  # type: ignore[arg-type]
    assert [position for position, answer in enumerate(answers) if isinstance(answer, Failure)] == [17]
    assert all(isinstance(answer, Prediction) for position, answer in enumerate(answers) if position != 17)
    with pytest.raises(PhotoError):
        classifier.predict(photos)  # type: ignore[call-overload]


def test_answers_come_in_order_whatever_the_batch(classifier: Classifier) -> None:
    photos = [draw_car(n % 4, n) for n in range(10)]
    one_by_one = [classifier.predict(photo).confidence for photo in photos]
    assert [a.confidence for a in classifier.predict(photos)] == pytest.approx(one_by_one, abs=1e-5)


def test_tta_changes_the_probabilities_a_little(classifier: Classifier) -> None:
    photo = draw_car(1, 7)
    assert classifier.predict(photo, tta=True).confidence != classifier.predict(photo).confidence


def test_photos_are_found_in_folders_and_patterns(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.JPEG", "sub/c.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [str(tmp_path / name) for name in ("a.JPEG", "b.jpg", "sub/c.png")]
    assert list(find_photos([str(tmp_path)])) == names
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


def test_what_is_no_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError):
        twincar.load(tmp_path / "weights.safetensors")
    with pytest.raises(UsageError):
        twincar.load(tmp_path / "gone")
    with pytest.raises(TwinCarError, match=r"config\.yaml"):
        twincar.load(tmp_path)


def test_a_turned_phone_photo_is_seen_upright(classifier: Classifier) -> None:
    image = draw_car(3, 1)
    exif = Image.Exif()
    exif[0x0112] = 3
    buffer = io.BytesIO()
    image.rotate(180).save(buffer, "PNG", exif=exif)
    assert classifier.predict(buffer.getvalue()).topk == classifier.predict(image).topk
