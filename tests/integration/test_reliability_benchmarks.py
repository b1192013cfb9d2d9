"""The programs that compare scores of unknown cars, and that look for wrong labels in predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from colour_model import GREEN, RED, paint, write_teachable
from numpy.typing import NDArray
from programs import run

from benchmarks.quality.rejection import ClassDistance
from twincar.data.prepare import PrepareOptions, prepare
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
