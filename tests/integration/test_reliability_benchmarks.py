"""The programs that compare scores of unknown cars, look for wrong labels and copies, and name cars in bad photos."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from colour_model import CLASSES, GREEN, RED, paint, write_model, write_teachable
from numpy.typing import NDArray
from PIL import Image
from programs import run

from benchmarks.quality.low_quality import CHANGES, compressed, judge
from benchmarks.quality.rejection import ClassDistance
from twincar.data.dataset import PreparedData
from twincar.data.prepare import PrepareOptions, prepare
from twincar.inference.classifier import Classifier
from twincar.models.class_statistics import ClassStatistics

KNOWN = (("BMW M3 Sedan 2012", RED), ("Volvo C30 Hatchback 2012", GREEN))


def test_scores_of_unknown_cars_are_compared(tmp_path: Path) -> None:
    """A grey car is as far from the known colours as the mean of all, and lifts no logit above the others."""
    model = write_teachable(tmp_path / "colours.onnx")
    known, other = tmp_path / "known.csv", tmp_path / "other.csv"
    rows, others = ["filename,label,split"], ["filename,label,split", f"1-train.png,{KNOWN[1][0]},train"]
    for number, (name, colour) in enumerate(KNOWN):
        for split in ("train", "val", "test"):
            paint(tmp_path / f"{number}-{split}.png", tuple(max(level, 9 * len(split)) for level in colour))
            rows.append(f"{number}-{split}.png,{name},{split}")
    (tmp_path / "grey").mkdir()
    for shade in range(4):
        paint(tmp_path / "grey" / f"{shade}.png", (90 + shade, 90, 90))
        others.append(f"grey/{shade}.png,Seat Arona SUV 2018,train")
    for source, lines in ((known, rows), (other, others)):
        source.write_text("\n".join(lines), encoding="utf-8")
        prepare(str(source), tmp_path / source.stem, PrepareOptions(singletons="keep"))
    arguments = (model, "--known", known.with_suffix(""), "--unseen", other.with_suffix(""), "--split", "test")
    folders = ("--unknown", tmp_path / "grey", "--features", tmp_path / "features")
    told = run("benchmarks.quality.rejection", *arguments, *folders)
    assert told.startswith("## 2 photos of known cars, 100.0% right")
    for title in ("unseen classes of other, 4 photos", "grey, 4 photos"):
        table = told.partition(f"## {title}")[2].partition("##")[0]
        for score in ("TwinCar", "maximum logit", "distance", "relative distance", "lower of z-score and distance"):
            assert f"| {score} | 1.000 | 0.000 | 1.000 | 100.0% | 0.0% |" in table
    assert "## noise, 100 photos" in told
    assert run("benchmarks.quality.rejection", *arguments, *folders) == told


def test_distances_are_those_of_the_whole_covariance() -> None:
    rng = np.random.default_rng(0)
    means, factor, diagonal = rng.normal(size=(4, 6)), rng.normal(size=(2, 6)), rng.uniform(0.1, 1, 6)
    parts = [part.astype(np.float32) for part in (means, factor, diagonal)]
    statistics = ClassStatistics(parts[0], np.full(4, 9), *parts[1:])
    within = factor.T @ factor + np.diag(diagonal)
    within += np.eye(6) * np.trace(within) / 6
    total, center = within + np.cov(means.T, bias=True), means.mean(axis=0)

    def squared(difference: NDArray[np.float64], covariance: NDArray[np.float64]) -> float:
        return float(difference @ np.linalg.solve(covariance, difference))

    photos = rng.normal(size=(5, 6))
    nearest = [min(squared(photo - mean, within) for mean in means) for photo in photos]
    relative = [least - squared(photo - center, total) for least, photo in zip(nearest, photos, strict=True)]
    distance = ClassDistance(statistics)
    assert distance.nearest(photos.astype(np.float32)) == pytest.approx(nearest, rel=1e-4)
    assert distance.relative(photos.astype(np.float32)) == pytest.approx(relative, rel=1e-4)


def test_wrong_labels_are_found_in_predictions(tmp_path: Path) -> None:
    """The model is always right and sure, but for one photo whose label is wrong before any is planted.

    A class without a wrong label has a threshold that none of its photos exceeds, so that not all are recalled.
    """
    rows = ["file,truth,correct,top1,probability1,top2,probability2"]
    for number in range(60):
        name, other = f"Car {number % 3}", f"Car {(number + 1) % 3}"
        rows.append(f"{number}.jpg,{name if number else other},1,{name},0.900000,{other},0.060000")
    (tmp_path / "predictions.csv").write_text("\n".join(rows), encoding="utf-8")
    out = tmp_path / "doubted.csv"
    told = run("benchmarks.quality.wrong_labels", tmp_path / "predictions.csv", "--share", 0.1, "--out", out)
    assert out.read_text(encoding="utf-8").splitlines() == [
        "photo,label,probability,suggested,probability_of_suggested",
        "0.jpg,Car 1,0.0600,Car 0,0.9000",
    ]
    assert "1 of 60 labels are doubted" in told
    rows_of_table = [line.split(" | ") for line in told.splitlines() if "other class |" in line]
    assert len(rows_of_table) == 2
    for _, at_number, suspects, precision, recall in rows_of_table:
        assert float(at_number) > 0.8
        assert 5 <= int(suspects) <= 7
        assert float(precision) > 0.8
        assert float(recall.removesuffix(" |")) > 0.8


def test_photos_of_every_quality_are_named(tmp_path: Path) -> None:
    """A photo of one colour has it in every quality: the one with a wrong label is not named right, the green one,
    which two classes fit, is no answer."""
    rows = ["filename,label,split"]
    photos = [(255, 0, 0, "val"), (250, 0, 0, "val"), (0, 255, 1, "val"), (250, 5, 1, "val")]
    for number, (red, green, car, split) in enumerate([*photos, (245, 0, 0, "train"), (0, 245, 1, "train")]):
        paint(tmp_path / f"{number}.png", (red, green, 0))
        rows.append(f"{number}.png,{KNOWN[car][0]},{split}")
    (tmp_path / "cars.csv").write_text("\n".join(rows), encoding="utf-8")
    prepare(str(tmp_path / "cars.csv"), tmp_path / "cars", PrepareOptions(singletons="keep"))
    model = write_model(tmp_path / "colours.onnx", sharper=2)
    told = run("benchmarks.quality.low_quality", model, "--data", tmp_path / "cars", "--split", "val")
    lines = [line.split(" | ")[:5] for line in told.splitlines() if line.startswith("| ") and "---" not in line]
    assert [line[0].removeprefix("| ") for line in lines[1:]] == list(CHANGES)
    share = "0.750 (0.301 to 0.954)"  # Wilson's interval of 3 of 4
    assert {tuple(line[1:]) for line in lines[1:]} == {("4", share, share, "0.667 (0.208 to 0.939) |")}
    assert "A car of fewer than 8 pixels" in told


def test_qualities_by_hand() -> None:
    photo = Image.effect_noise((400, 224), 60).convert("RGB")
    assert CHANGES["soft, JPEG quality 45"](photo).size == (205, 115)  # 400 × 115 / 224
    assert CHANGES["24 pixels on the shorter side"](photo).size == (43, 24)
    small = photo.resize((50, 40))
    assert CHANGES["48 pixels on the shorter side"](small) is small
    lost = [np.abs(np.subtract(compressed(photo, q), photo, dtype=np.float64)).mean() for q in (75, 60, 45)]
    assert lost == sorted(lost)
    assert lost[0] > 0


def test_answers_are_sure_and_of_known_cars(tmp_path: Path) -> None:
    """Of cars of six colours: a sure one, two classes that are equally likely, and one that no logit stands for."""
    classifier = Classifier.load(write_model(tmp_path / "colours.onnx"))
    logits = np.array([[20, 10, 0, 0, 0, 0], [20, 20, 0, 0, 0, 0], [4, 0, 0, 0, 0, 0]], np.float32)
    right, answered = judge(classifier, logits, np.array([0, 1, 0]))
    assert len(CLASSES) == logits.shape[1]
    assert right.tolist() == [True, False, True]
    assert answered.tolist() == [True, False, False]


def test_copies_that_were_cut_otherwise_are_found(tmp_path: Path) -> None:
    """Of three test photos the first is in training too, cut, and the second cut and mirrored as another class."""
    rng = np.random.default_rng(0)
    scenes = [rng.integers(0, 255, (8, 12, 3)).astype(np.uint8) for _ in range(4)]
    photos = [Image.fromarray(scene).resize((300, 200), Image.Resampling.BICUBIC) for scene in scenes]
    cut = [photo.crop((24, 10, 285, 182)) for photo in photos[:2]]
    halves = {"test": photos[:3], "train": [cut[0], cut[1].transpose(Image.Transpose.FLIP_LEFT_RIGHT), photos[3]]}
    for split, labels in (("test", (0, 1, 1)), ("train", (0, 0, 1))):
        rows = ["filename,label,split"]
        for number, (photo, label) in enumerate(zip(halves[split], labels, strict=True)):
            photo.save(tmp_path / f"{split}{number}.png")
            rows.append(f"{split}{number}.png,{KNOWN[label][0]},{split}")
        (tmp_path / f"{split}.csv").write_text("\n".join(rows), encoding="utf-8")
        options = PrepareOptions(singletons="keep", splits=(split,))
        prepare(str(tmp_path / f"{split}.csv"), tmp_path / split, options)
    files = [photo.file for photo in PreparedData.open(tmp_path / "test").split("test")]
    first, second, third = sorted(files, key=lambda file: Path(file).name)
    bmw, volvo = (name for name, _ in KNOWN)
    predicted = (f"{first},{bmw},1,{bmw},0.9", f"{second},{volvo},0,{bmw},0.9", f"{third},{volvo},1,{volvo},0.9")
    lines = "\n".join(["file,truth,correct,top1,probability1", *predicted])
    (tmp_path / "predictions.csv").write_text(lines, encoding="utf-8")
    out = tmp_path / "copies.csv"
    arguments = ("--photos", tmp_path / "test", "--training", tmp_path / "train", "--out", out)
    told = run("benchmarks.quality.cut_copies", tmp_path / "predictions.csv", *arguments)
    assert "| copy of another class | 1 | 0.000 |" in told
    assert "| copy of the same class | 1 | 1.000 |" in told
    assert "| no copy | 1 | 1.000 |" in told
    with out.open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert [(row["photo"], row["label"], row["label_of_the_copy"]) for row in found] == [
        (first, bmw, bmw),
        (second, volvo, bmw),
    ]
    assert [Path(row["copy"]).name for row in found] == ["train0.png", "train1.png"]
