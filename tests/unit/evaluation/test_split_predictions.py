"""The predictions on a split: read from its table if that is current, else computed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from twincar.core.files import write_text
from twincar.data.dataset import PreparedData
from twincar.evaluation.evaluate import evaluate
from twincar.evaluation.results import PhotoPrediction
from twincar.evaluation.split_predictions import predict_split
from twincar.evaluation.subject import Subject


def predictions(run: Path, data: Path) -> list[PhotoPrediction]:
    return predict_split(Subject.open(run, data_folder=data, split="test"))


def test_predictions_are_computed_if_the_table_is_missing_or_outdated(
    small_run: Path, small_data: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(small_run, tmp_path / "run", ignore=shutil.ignore_patterns("reports")))
    computed = predictions(run, small_data)
    data = PreparedData.open(small_data)
    assert [row.truth for row in computed] == [data.classes[photo.label or 0] for photo in data.split("test")]
    assert all((data.photo_root / row.file).is_file() and 0.25 < row.confidence <= 1 for row in computed)
    assert not any(row.second in ("", row.predicted) for row in computed)

    evaluate(run, split="test")
    assert predictions(run, small_data) == computed

    table = run / "reports/test/predictions.csv"
    head, *rows = table.read_text().splitlines()
    doctored = [",".join([*row.split(",")[:3], "Corvus Nine SUV 2011", "0.5", *row.split(",")[5:]]) for row in rows]
    write_text(table, "\n".join([head, *doctored]) + "\n")
    assert {(row.predicted, row.confidence) for row in predictions(run, small_data)} == {("Corvus Nine SUV 2011", 0.5)}

    write_text(table, "\n".join([head, *doctored[1:]]) + "\n")  # not all photos of the split
    assert predictions(run, small_data) == computed

    write_text(table, "\n".join([head, *doctored]) + "\n")
    newer = table.stat().st_mtime + 10
    os.utime(run / "best.safetensors", (newer, newer))  # trained further afterwards
    assert predictions(run, small_data) == computed
