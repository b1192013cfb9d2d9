from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from twincar.core.errors import DataError
from twincar.data.dataset import PreparedData
from twincar.evaluation.batch_results import evaluate_batch
from twincar.evaluation.evaluate import evaluate
from twincar.inference import result_store as result_folder
from twincar.inference.batch import predict_many


@pytest.fixture
def results(small_run: Path, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(result_folder, "PART", 5)
    root = PreparedData.open(small_data).photo_root
    predict_many([str(root)], str(tmp_path / "results"), model=small_run)
    return tmp_path / "results"


def test_the_metrics_equal_those_of_evaluate(results: Path, small_run: Path, small_data: Path, tmp_path: Path) -> None:
    run = shutil.copytree(small_run, tmp_path / "run")
    for split in ("val", "test"):
        whole = evaluate(run, split=split)
        ours = evaluate_batch(results, PreparedData.open(small_data), split)
        assert (ours.photos, ours.failed, ours.accuracy) == (whole.photos, 0, whole.accuracy)
        for name in ("acc", "top3", "precision_macro", "recall_macro", "f1_macro", "ece"):
            assert ours.metrics[name] == pytest.approx(whole.metrics[name], abs=1e-6), name
        reports = [
            [(row["class_name"], row["f1"]) for row in csv.DictReader((folder / "classification_report.csv").open())][
                :4
            ]
            for folder in (whole.folder, ours.folder)
        ]
        assert reports[0] == reports[1]
        assert json.loads((ours.folder / "metrics.json").read_text())["metrics"] == ours.metrics


def test_a_photo_without_a_row_is_an_error(results: Path, small_data: Path) -> None:
    data = PreparedData.open(small_data)
    (results / "part-000001.parquet").unlink()
    with pytest.raises(DataError, match=r"for each photo of the split 'test'.*twincar predict"):
        evaluate_batch(results, data, "test")


def test_unreadable_photos_are_counted_separately(small_run: Path, small_data: Path, tmp_path: Path) -> None:
    data = PreparedData.open(small_data)
    root = shutil.copytree(data.photo_root, tmp_path / "photos")
    data = PreparedData(data.folder, root, data.classes, data.annotations, data.manifest)
    data.path(data.split("test")[0]).write_bytes(b"no photo")
    predict_many([str(root)], str(tmp_path / "results"), model=small_run)
    found = evaluate_batch(tmp_path / "results", data, "test")
    assert (found.photos, found.failed) == (11, 1)
