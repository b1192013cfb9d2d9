from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bmw_model import BMWS, bmw_classifier
from colour_model import CLASSES as COLOUR_CLASSES
from colour_model import write_model
from conftest import draw_car, encoded
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import twincar
from twincar.cli.output import print_table
from twincar.core.errors import CheckpointError, PhotoError, TwinCarError, UsageError
from twincar.core.labels import ClassNames
from twincar.data.dataset import PreparedData
from twincar.inference.classifier import Classifier
from twincar.inference.results import Failure, Prediction, Status
from twincar.models.calibration import Calibration
from twincar.models.levels import ANSWERED, most_specific


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


def test_a_folder_is_refused_with_what_lists_its_photos(classifier: Classifier, tmp_path: Path) -> None:
    """What the message says to type works."""
    draw_car(0, 0).save(tmp_path / "car.png")
    listing = f"classifier.predict(list(twincar.find_photos({str(tmp_path)!r})))"
    with pytest.raises(PhotoError, match=re.escape(listing)):
        classifier.predict(tmp_path)
    (found,) = eval(listing)
    assert found.photo == str(tmp_path / "car.png")


def test_classifier_and_prediction_show_themselves_in_a_line(small_run: Path, classifier: Classifier) -> None:
    assert repr(classifier) == f"<Classifier {classifier.spec.backbone}, 4 classes from {str(small_run)!r}>"
    sure = bmw_classifier([0.9, 0.06, 0.03, 0.01]).predict(draw_car(0, 0))
    assert repr(sure) == f"<Prediction {sure.answer.name!r} {sure.answer.probability:.1%}, {sure.photo!r}>"
    unsure = replace(sure, answer=None, status=Status.NOT_SURE)
    assert repr(unsure).startswith(f"<Prediction not sure, most likely {sure.topk[0].name!r} 9")
    assert repr(replace(unsure, status=Status.NO_CAR, topk=())) == f"<Prediction no car found, {sure.photo!r}>"


def test_an_answer_has_its_parts(classifier: Classifier) -> None:
    answer = classifier.predict(draw_car(0, 0), top_k=3)
    assert len(answer.topk) == 3
    assert answer.top1 == answer.topk[0]
    assert answer.top1.probability == max(c.probability for c in answer.topk)
    row = answer.to_dict()
    assert (row["topk"][0]["class_name"], row["year"], len(row["topk"])) == (answer.top1.name, answer.year, 3)


@pytest.mark.parametrize(
    ("probabilities", "expected", "confidence"),
    [
        ([0.9, 0.06, 0.03, 0.01], ("BMW", "3 Series", "Sedan", 2012), 0.9),
        ([0.5, 0.35, 0.1, 0.05], ("BMW", "", "Sedan", None), 0.85),
        ([0.4, 0.02, 0.5, 0.08], ("BMW", "", "", None), 0.92),
        ([0.3, 0.05, 0.15, 0.5], ("", "", "Sedan", None), 0.85),  # BMWs are as likely as the most likely class
        ([0.3, 0.26, 0.24, 0.2], ("", "", "", None), None),
    ],
)
def test_make_model_body_year_and_confidence_are_those_of_the_answer(
    probabilities: list[float], expected: tuple[Any, ...], confidence: float | None
) -> None:
    """As specific as its level, and empty where there is no answer."""
    found = bmw_classifier(probabilities).predict(draw_car(0, 0))
    assert (found.make, found.model, found.body, found.year) == expected
    assert found.confidence == (None if confidence is None else pytest.approx(confidence, abs=1e-5))
    row = found.to_dict()
    assert tuple(row[part] for part in ("make", "model", "body", "year")) == expected
    assert row["confidence"] == (None if confidence is None else pytest.approx(confidence, abs=1e-5))
    assert row["topk"][0]["probability"] == pytest.approx(max(probabilities), abs=1e-5)


def test_probabilities_are_those_of_evaluation(classifier: Classifier, small_run: Path, small_data: Path) -> None:
    import csv

    from twincar.evaluation.evaluate import evaluate

    folder = evaluate(small_run, split="test").folder
    data = PreparedData.open(small_data)
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    answers = classifier.predict([data.photo_root / row["file"] for row in rows])
    for answer, row in zip(answers, rows, strict=True):
        assert answer.top1.name == row["top1"]
        assert answer.top1.probability == pytest.approx(float(row["probability1"]), abs=2e-6)


def test_a_bad_photo_among_many_gives_one_error(classifier: Classifier) -> None:
    photos: list[object] = [draw_car(0, n) for n in range(40)]
    photos[17] = b"bad"
    answers = list(classifier.stream(photos, batch_size=8))  # type: ignore[arg-type]
    assert [position for position, answer in enumerate(answers) if isinstance(answer, Failure)] == [17]
    assert all(isinstance(answer, Prediction) for position, answer in enumerate(answers) if position != 17)
    listed = classifier.predict(photos)
    assert [answer.status for answer in listed[16:18]] == [answers[16].status, "unreadable"]
    assert isinstance(listed[17], Failure)
    assert listed[17].to_dict() == {
        "photo": "bytes",
        "status": "unreadable",
        "error": "Expected a photo in the photo, but it is not an image.",
    }
    sure = [
        [answer.top1.probability for answer in found if isinstance(answer, Prediction)] for found in (listed, answers)
    ]
    assert len(sure[0]) == 39
    assert sure[0] == pytest.approx(sure[1], abs=1e-5)
    with pytest.raises(PhotoError):
        classifier.predict(photos[17])  # type: ignore[call-overload]


def test_answers_come_in_order_whatever_the_batch(classifier: Classifier) -> None:
    photos = [draw_car(n % 4, n) for n in range(10)]
    one_by_one = [classifier.predict(photo).top1.probability for photo in photos]
    assert [a.top1.probability for a in classifier.predict(photos)] == pytest.approx(one_by_one, abs=1e-5)


def test_tta_changes_the_probabilities_a_little(classifier: Classifier) -> None:
    photo = draw_car(1, 7)
    assert classifier.predict(photo, tta=True).top1.probability != classifier.predict(photo).top1.probability


@pytest.mark.parametrize(
    ("probabilities", "level", "name", "probability", "still_open"),
    [
        ([0.85, 0.05, 0.05, 0.05], "class", BMWS[0], 0.85, ()),
        ([0.50, 0.35, 0.10, 0.05], "make and body", "BMW Sedan", 0.85, BMWS[:2]),
        ([0.40, 0.02, 0.50, 0.08], "make", "BMW", 0.92, (BMWS[2], BMWS[0])),
        ([0.50, 0.01, 0.04, 0.45], "body", "Sedan", 0.96, (BMWS[0], BMWS[3])),
    ],
)
def test_the_answer_is_the_most_specific_that_is_sure_enough(
    probabilities: list[float], level: str, name: str, probability: float, still_open: tuple[str, ...]
) -> None:
    answer = bmw_classifier(probabilities).predict(draw_car(0, 0))
    assert answer.status == ("named" if level == "class" else "named in part")
    assert answer.answer is not None
    assert (answer.answer.level, answer.answer.name, answer.answer.alternatives) == (level, name, still_open)
    assert answer.answer.probability == pytest.approx(probability, abs=1e-5)
    row = answer.to_dict()
    assert (row["status"], row["level"], row["answer"]) == (answer.status, level, name)


def test_make_model_body_and_year_are_told_one_by_one() -> None:
    levels = {found.level: found for found in bmw_classifier([0.50, 0.01, 0.04, 0.45]).predict(draw_car(0, 0)).levels}
    told = {level: (found.name, round(found.probability, 3)) for level, found in levels.items()}
    assert told == {
        "make": ("BMW", 0.55),
        "model": ("BMW 3 Series", 0.5),
        "body": ("Sedan", 0.96),
        "year": ("2012", 0.96),
    }


def test_why_there_is_no_answer() -> None:
    photo = draw_car(0, 0)
    unsure = bmw_classifier([0.3, 0.2, 0.3, 0.2], min_confidence=0.9).predict(photo)
    assert (unsure.status, unsure.answer) == ("not sure", None)
    sure = [0.97, 0.01, 0.01, 0.01]  # of the largest logit, log 0.97 is 0.03 less than the scale
    unknown = bmw_classifier(sure, scale=5.9).predict(photo)
    assert (unknown.status, unknown.answer) == ("unknown car", None)
    assert (unknown.make, unknown.year, unknown.confidence, unknown.levels) == ("", None, None, ())
    assert unknown.top1.name == BMWS[0]
    explained = bmw_classifier(sure, scale=5.9).explain(photo).prediction
    assert (explained.status, explained.answer) == (unknown.status, None)
    assert bmw_classifier(sure, scale=6.1).predict(photo).answer
    assert bmw_classifier(sure, scale=5.9, false_rejection=0.01).predict(photo).answer
    assert not bmw_classifier(sure, scale=6.1, false_rejection=0.5).predict(photo).answer


def test_what_is_not_calibrated_accepts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As weights of somebody else's, which come without calibration: they can neither be sure nor turn a photo away."""
    calibrated = bmw_classifier([0.97, 0.01, 0.01, 0.01])
    bare = replace(calibrated.spec, calibration=Calibration())
    monkeypatch.setattr("twincar.inference.classifier.open_engine", lambda *_, **__: (calibrated.engine, bare))
    classifier = Classifier.load(tmp_path / "theirs.pth", min_confidence=0)
    assert "theirs.pth is not calibrated: it names the most likely classes, but no answer is accepted" in caplog.text
    found = classifier.predict(draw_car(0, 0))
    assert (found.status, found.answer) == ("not calibrated", None)
    assert found.top1.name == BMWS[0]
    row = found.to_dict()
    assert (row["status"], row["answer"], row["make"]) == ("not calibrated", "", "")
    assert row["topk"][0]["class_name"] == BMWS[0]

    caplog.clear()
    monkeypatch.setattr(
        "twincar.inference.classifier.open_engine", lambda *_, **__: (calibrated.engine, calibrated.spec)
    )
    assert Classifier.load(tmp_path / "ours.onnx").predict(draw_car(0, 0)).answer
    assert not caplog.text


def test_names_and_backbone_that_contradict_those_of_the_model_are_refused(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model.onnx")
    own = tuple(COLOUR_CLASSES)
    assert Classifier.load(model, classes=ClassNames(own), backbone="colours").class_names == own
    with pytest.raises(UsageError, match=r"has its own, such as 'BMW M3 Sedan 2012' instead of 'Fiat"):
        Classifier.load(model, classes=ClassNames(("Fiat 500 2012", *own[1:])))
    with pytest.raises(UsageError, match=r"such as 'nothing' instead of 'Fiat 500 2012'\. Leave --classes out"):
        Classifier.load(model, classes=ClassNames((*own, "Fiat 500 2012")))
    with pytest.raises(UsageError, match=r"model\.onnx is a colours\. Leave --backbone out"):
        Classifier.load(model, backbone="tf_efficientnetv2_b0")


def test_the_temperature_is_used() -> None:
    probabilities = np.array([0.7, 0.1, 0.1, 0.1])
    expected = probabilities**0.5 / (probabilities**0.5).sum()
    answer = bmw_classifier(list(probabilities), temperature=2).predict(draw_car(0, 0))
    assert answer.top1.probability == pytest.approx(expected[0], abs=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.2, 0.95))
def test_one_answer_and_the_many_of_an_evaluation_end_at_the_same_level(seed: int, confidence: float) -> None:
    probabilities = np.random.default_rng(seed).dirichlet(np.full(4, 0.5)) * 0.999 + 0.00025
    classifier = bmw_classifier(list(probabilities), min_confidence=confidence)
    answer = classifier.predict(draw_car(0, 0)).answer
    calibrated = classifier.spec.calibration.probabilities(classifier.engine.logits(np.zeros((1, 1))))
    shares = {name: level.most_likely(calibrated)[1] for name, level in classifier.levels.items()}
    place = most_specific(shares, confidence)[0]
    assert (answer.level if answer else None) == (ANSWERED[place] if place >= 0 else None)


@pytest.mark.parametrize("name", ["min_confidence", "false_rejection"])
def test_a_share_out_of_range_is_told(name: str) -> None:
    with pytest.raises(UsageError, match=rf"{name} to be a share from 0 to 1, but found 1\.5"):
        bmw_classifier([0.25] * 4, **{name: 1.5})


def test_what_is_no_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError):
        twincar.load(tmp_path / "weights.safetensors")
    with pytest.raises(UsageError):
        twincar.load(tmp_path / "gone")
    with pytest.raises(TwinCarError, match=r"config\.yaml"):
        twincar.load(tmp_path)


def test_an_answer_needs_a_candidate(classifier: Classifier) -> None:
    with pytest.raises(UsageError, match="top_k to be at least 1, but found 0"):
        classifier.predict(draw_car(0, 0), top_k=0)


def test_a_photo_named_as_the_model_is_told(tmp_path: Path) -> None:
    draw_car(0, 0).save(tmp_path / "car.jpg")
    with pytest.raises(UsageError, match=r"Expected weights .* found .*car\.jpg"):
        Classifier.load(tmp_path / "car.jpg")


def test_a_turned_phone_photo_is_seen_upright(classifier: Classifier) -> None:
    image = draw_car(3, 1)
    exif = Image.Exif()
    exif[0x0112] = 3
    assert classifier.predict(encoded(image.rotate(180), "PNG", exif=exif)).topk == classifier.predict(image).topk


def test_a_table_cuts_nothing_off(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    name = "photos/" + "x" * 90 + "-2012.jpg"
    print_table(["file", "n"], [[name, "1"]])
    assert capsys.readouterr().out == f"file\tn\n{name}\t1\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    print_table(["file", "n"], [[name, "1"]])
    cells = capsys.readouterr().out.rpartition("─")[2].split()
    assert "".join(cells).replace("1", "", 1) == name
