"""What a model answers on a split: read from its table where that fits, else computed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from twincar.core.files import write_text
from twincar.evaluation.evaluate import evaluate
from twincar.evaluation.split_predictions import PhotoPrediction, predict_split
from twincar.evaluation.subject import Subject


def answers(run: Path, data: Path) -> list[PhotoPrediction]:
    return predict_split(Subject.open(run, data_folder=data, split="test"))


def test_answers_are_computed_where_there_are_none_or_others(small_run: Path, small_data: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(small_run, tmp_path / "run", ignore=shutil.ignore_patterns("reports")))
    computed = answers(run, small_data)
    assert [answer.truth for answer in computed] == [label for label in range(4) for _ in range(3)]
    assert all(answer.photo.is_file() and 0.25 < answer.confidence <= 1 for answer in computed)

    evaluate(run, split="test")
    assert answers(run, small_data) == computed

    table = run / "reports/test/predictions.csv"
    head, *rows = table.read_text().splitlines()
    doctored = [",".join([*row.split(",")[:3], "Corvus Nine SUV 2011", "0.5", *row.split(",")[5:]]) for row in rows]
    write_text(table, "\n".join([head, *doctored]) + "\n")
    assert {(answer.predicted, answer.confidence) for answer in answers(run, small_data)} == {(3, 0.5)}

    write_text(table, "\n".join([head, *doctored[1:]]) + "\n")  # not all photos of the split
    assert answers(run, small_data) == computed

    write_text(table, "\n".join([head, *doctored]) + "\n")
    newer = table.stat().st_mtime + 10
    os.utime(run / "best.safetensors", (newer, newer))  # trained further since
    assert answers(run, small_data) == computed
