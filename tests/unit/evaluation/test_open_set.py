from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import CLASSES, write_class_folders
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from twincar.cli import app
from twincar.core.errors import DataError, LabelError, UsageError
from twincar.core.labels import ClassNames, stanford_cars
from twincar.data.dataset import PreparedData, count_splits
from twincar.data.open_set_split import read_open_set
from twincar.data.prepare import PrepareOptions, prepare
from twincar.evaluation.open_set import evaluate_open_set
from twincar.inference.classifier import Classifier
from twincar.inference.results import Status
from twincar.models.engines.open import compute_logits

SPLIT = {"known_classes": [1, "aurora_falcon coupe 2012"], "unknown_classes": {"Hard": [3], "Easy": [CLASSES[2]]}}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_class_folders(tmp_path_factory.mktemp("open") / "source", {"train": 4, "test": 3})


@pytest.fixture
def split_file(tmp_path: Path) -> Path:
    path = tmp_path / "split.json"
    path.write_text(json.dumps(SPLIT))
    return path


def test_unseen_classes_are_not_classes_of_the_data_set(source: Path, split_file: Path, tmp_path: Path) -> None:
    data = prepare(str(source), tmp_path / "data", PrepareOptions(open_set=split_file))
    names = sorted(CLASSES)  # the order of class folders
    assert data.classes.names == tuple(names[:2])
    assert count_splits(data.annotations) == {"train": 6, "val": 2, "test": 6, "unseen_easy": 3, "unseen_hard": 3}
    unseen = [photo for photo in data.annotations if photo.split.startswith("unseen")]
    assert all(photo.label is None for photo in unseen)
    folders = Counter((photo.split, photo.file.split("/")[-2]) for photo in unseen)
    assert set(folders) == {("unseen_hard", names[3]), ("unseen_easy", CLASSES[2].replace("/", "-"))}


def test_a_data_set_prepared_with_another_split_is_not_reused(source: Path, split_file: Path, tmp_path: Path) -> None:
    prepare(str(source), tmp_path / "data", PrepareOptions(open_set=split_file))
    prepare(str(source), tmp_path / "data", PrepareOptions(open_set=split_file))
    with pytest.raises(UsageError, match="never overwritten"):
        prepare(str(source), tmp_path / "data")


def test_a_missing_split_file_is_an_error(source: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Expected the file .*split\.json, but it is not there"):
        prepare(str(source), tmp_path / "data", PrepareOptions(open_set=tmp_path / "split.json"))
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        ({"known_classes": [0]}, DataError, "unknown_classes"),
        ([], DataError, "known_classes"),
        ({"known_classes": [0], "unknown_classes": [1]}, DataError, "by difficulty"),
        ({"known_classes": [0, 1], "unknown_classes": {"Hard": [1]}}, DataError, "is both"),
        ({"known_classes": [0], "unknown_classes": {"Hard": [4]}}, LabelError, "one of 4 classes, from 0, but found 4"),
        ({"known_classes": [True], "unknown_classes": {}}, DataError, "True"),
        ({"known_classes": ["Aurora Falkon Sedan 2012"], "unknown_classes": {}}, LabelError, "similar names are"),
    ],
)
def test_an_invalid_split_file_is_an_error(tmp_path: Path, content: object, error: type[Exception], words: str) -> None:
    path = tmp_path / "split.json"
    path.write_text(json.dumps(content))
    with pytest.raises(error, match=words):
        read_open_set(path, ClassNames(CLASSES))


def test_an_invalid_photo_of_an_unseen_class_is_left_out(source: Path, split_file: Path, tmp_path: Path) -> None:
    spoiled = shutil.copytree(source, tmp_path / "spoiled")
    for photo in (spoiled / "train" / CLASSES[3]).iterdir():
        photo.write_bytes(b"")
    data = prepare(str(spoiled), tmp_path / "data", PrepareOptions(open_set=split_file))
    assert data.manifest["left_out"] == {"empty": 4}
    assert count_splits(data.annotations)["unseen_hard"] == 3


def test_the_published_split_of_stanford_cars(real_photos: Path) -> None:
    split = read_open_set(real_photos / "open_set_split.json", ClassNames(stanford_cars()))
    assert (len(split.known), len(split.unseen)) == (98, 98)
    assert set(split.unseen.values()) == {"easy", "medium", "hard"}


def test_a_prepared_data_set_without_unseen_classes_opens(source: Path, tmp_path: Path) -> None:
    data = prepare(str(source), tmp_path / "plain")
    assert PreparedData.open(data.folder).manifest["open_set"] is None


def test_known_cars_are_compared_with_unseen_cars_and_non_cars(
    source: Path, split_file: Path, small_run: Path, tmp_path: Path
) -> None:
    """AUROC and the rejected share, computed again from the predictions of the classifier."""
    data = prepare(str(source), tmp_path / "data", PrepareOptions(open_set=split_file))
    found = evaluate_open_set(small_run, split="test", data_folder=data.folder, false_rejection=0.3)
    groups = {group.name: group for group in found.groups}
    assert list(groups) == ["easy", "hard", "all unseen", "noise", "text", "plain", "scene"]
    assert [groups[name].is_car for name in ("easy", "all unseen", "noise")] == [True, True, False]
    assert groups["all unseen"].photos == groups["easy"].photos + groups["hard"].photos == 6
    classifier = Classifier.load(small_run, false_rejection=0.3)
    hard = [classifier.predict(data.path(photo)) for photo in data.split("unseen_hard")]
    rejected = [prediction.status is Status.UNKNOWN_CAR for prediction in hard]
    assert groups["hard"].rejected == pytest.approx(sum(rejected) / 3)
    logits = {
        split: compute_logits(
            classifier.engine, classifier.spec.preprocessing, [data.path(photo) for photo in data.split(split)]
        )[:, 0]
        for split in ("test", "unseen_hard")
    }
    expected = roc_auc_score([1] * 6 + [0] * 3, [*logits["test"].max(axis=1), *logits["unseen_hard"].max(axis=1)])
    assert groups["hard"].auroc_by_others["maximum logit"] == pytest.approx(expected)
    written = json.loads((found.folder / "open_set.json").read_text())
    assert written == found.to_dict()
    assert (found.folder / "scores.png").stat().st_size > 0
    arguments = ["evaluate", str(small_run), "--open-set", "--split", "test", "--data", str(data.folder)]
    lines = CliRunner().invoke(app, [*arguments, "--false-rejection", "0.3"]).stdout.splitlines()
    assert lines[0].startswith("6 test photos of known cars: ")
    assert [line.split("\t")[0] for line in lines[1 : 2 + len(groups)]] == ["unknown", *groups]
    assert [line.split(":")[0] for line in lines[2 + len(groups) :]] == [
        "AUROC", "FPR at 95% TPR", "OSCR", "Tables and figures",
    ]  # fmt: skip
    assert found.gap == ""
    without = replace(found, groups=[group for group in found.groups if not group.is_car])
    assert without.gap.startswith("No unknown cars were measured, because no class of the data set is held out")
    assert lines[3].split("\t")[2] == f"{groups['hard'].auroc:.3f}"
