from __future__ import annotations

import csv
import json
import shutil
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import CLASSES, draw_car, write_class_folders
from PIL import Image
from sklearn.metrics import classification_report

from twincar.core.errors import DataError, LabelError, PhotoError
from twincar.core.labels import ClassNames
from twincar.core.preprocess import Preprocessing
from twincar.core.runs import RunFolder
from twincar.data.dataset import Annotation, PreparedData
from twincar.data.prepare import PrepareOptions, prepare
from twincar.data.training_record import Seen
from twincar.evaluation import evaluate as evaluate_module
from twincar.evaluation import plots
from twincar.evaluation.evaluate import _classes_to_draw, evaluate, report_logits
from twincar.evaluation.subject import Subject, is_own_data
from twincar.explanation.explain import explain
from twincar.metrics.classification import Predictions, classification_metrics, confusion_matrix
from twincar.models.calibration import softmax
from twincar.models.engines.open import open_engine
from twincar.models.spec import ModelSpec


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def evaluated(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("evaluated") / "run"
    shutil.copytree(small_run, run, ignore=shutil.ignore_patterns("reports"))  # other tests write their own
    return evaluate(run, split="test", tta=True).folder


def test_all_files_are_written(evaluated: Path) -> None:
    names = {path.name for path in evaluated.iterdir()}
    assert names == {
        "metrics.json", "predictions.csv", "classification_report.csv", "confusion_matrix.csv", "confusion_matrix.png",
        "best_classes.png", "worst_classes.png", "most_confused.png",
        "reliability.png", "risk_coverage.png",
    }  # fmt: skip
    curves = {path.name for path in evaluated.parent.glob("curve_*.png")}
    assert curves == {
        "curve_accuracy_f1.png", "curve_loss.png", "curve_precision_recall.png", "curve_top_k.png"
    }  # fmt: skip
    for path in [*evaluated.glob("*.png"), *evaluated.parent.glob("curve_*.png")]:
        with Image.open(path) as image:
            assert image.width > 300
            assert np.asarray(image.convert("L")).std() > 5  # not blank


def test_predictions_and_metrics_agree(evaluated: Path) -> None:
    rows = rows_of(evaluated / "predictions.csv")
    metrics = json.loads((evaluated / "metrics.json").read_text())
    assert len(rows) == metrics["photos"] == 12
    right = [row["truth"] == row["top1"] for row in rows]
    assert [row["correct"] == "1" for row in rows] == right
    assert metrics["metrics"]["acc"] == pytest.approx(np.mean(right))
    for row in rows:
        probabilities = [float(row[f"probability{rank}"]) for rank in range(1, 5)]
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) == pytest.approx(1, abs=1e-4)
    assert metrics["accuracy"]["low"] <= metrics["accuracy"]["value"] <= metrics["accuracy"]["high"]
    assert metrics["tta_gain"]["acc"] == pytest.approx(metrics["tta"]["acc"] - metrics["metrics"]["acc"])


def test_the_report_equals_that_of_scikit_learn(evaluated: Path) -> None:
    predictions = rows_of(evaluated / "predictions.csv")
    truth, predicted = [row["truth"] for row in predictions], [row["top1"] for row in predictions]
    expected = classification_report(truth, predicted, output_dict=True, zero_division=0)
    for row in rows_of(evaluated / "classification_report.csv"):
        theirs = expected[row["class_name"].replace("average", "avg")]
        assert float(row["precision"]) == pytest.approx(theirs["precision"])
        assert float(row["recall"]) == pytest.approx(theirs["recall"])
        assert float(row["f1"]) == pytest.approx(theirs["f1-score"])
        assert float(row["support"]) == theirs["support"]


def test_the_matrix_counts_every_photo(evaluated: Path) -> None:
    predictions = rows_of(evaluated / "predictions.csv")
    for row in rows_of(evaluated / "confusion_matrix.csv"):
        name = row.pop("true \\ predicted")
        for predicted, count in row.items():
            assert int(count) == sum(p["truth"] == name and p["top1"] == predicted for p in predictions)


def test_classes_in_another_order_give_the_same_metrics(small_run: Path, small_data: Path, tmp_path: Path) -> None:
    """The same test photos from a CSV file with another order of classes, one of which has no photos."""
    data = PreparedData.open(small_data)
    reversed_names = list(reversed(data.classes.names))
    (tmp_path / "classes.txt").write_text("\n".join(reversed_names))
    lines = ["filename,label,split"]
    for annotation in data.annotations:
        assert annotation.label is not None
        lines.append(f"{annotation.file},{reversed_names.index(data.classes[annotation.label])},{annotation.split}")
    shutil.copytree(data.photo_root, tmp_path / "images")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    other = prepare(str(tmp_path / "list.csv"), tmp_path / "other")
    assert other.classes.names == tuple(reversed_names)
    ours = evaluate(small_run, split="test", data_folder=other.folder).metrics
    assert ours == pytest.approx(evaluate(small_run, split="test").metrics)


@pytest.fixture
def other_data(tmp_path: Path) -> PreparedData:
    """The same classes and file names; 4 of its 8 test photos are training or validation photos of `small_data`."""
    source = write_class_folders(tmp_path / "s", {"train": 2, "test": 1})
    for folder in (source / "test").iterdir():
        shutil.copy(source / "train" / folder.name / "000.jpg", folder / "001.jpg")
        (source / "train" / folder.name / "000.jpg").unlink()
        draw_car(CLASSES.index(folder.name.replace("-", "/")), 3000).save(source / "train" / folder.name / "000.jpg")
    return prepare(str(source), tmp_path / "other cars", PrepareOptions(val_share=0.5))


def test_results_on_other_data_do_not_overwrite_those_of_the_run(
    small_run: Path, other_data: PreparedData, tmp_path: Path
) -> None:
    run = RunFolder(Path(shutil.copytree(small_run, tmp_path / "run", ignore=shutil.ignore_patterns("reports"))))
    own = evaluate(run.path, split="test")
    assert (own.photos, own.data, own.seen, own.folder) == (12, None, Seen(0, 0), run.reports / "test")
    before = {path: path.read_bytes() for path in run.reports.rglob("*") if path.is_file()}

    other = evaluate(run.path, split="test", data_folder=other_data.folder)
    assert (other.photos, other.data, other.absent) == (8, "other cars", [])
    assert other.folder.parent.parent == run.evaluations
    assert other.seen is not None
    assert other.seen.train + other.seen.val == 4
    explain(run.path, split="test", count=1, data_folder=other_data.folder)
    assert {path.name for path in other.folder.parent.iterdir()} == {"test", "explain"}
    assert {path: path.read_bytes() for path in run.reports.rglob("*") if path.is_file()} == before


def test_a_moved_data_set_is_recognised(small_run: Path, small_data: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(small_data, tmp_path / "moved"))
    shutil.copytree(PreparedData.open(small_data).photo_root, moved / "photos", dirs_exist_ok=True)
    assert is_own_data(open_engine(small_run)[1], PreparedData.open(moved))


def test_without_a_record_it_is_not_stated_which_photos_were_seen(small_run: Path, tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("reports", "trained_on.csv")
    evaluation = evaluate(Path(shutil.copytree(small_run, tmp_path / "run", ignore=ignored)), split="test")
    assert evaluation.seen is None
    assert evaluation.described == "test photos; whether the model had seen any of them in training was not checked"


def test_unknown_classes_are_refused(small_run: Path, tmp_path: Path) -> None:
    source = write_class_folders(tmp_path / "s", {"train": 2, "test": 1}, (*CLASSES[:3], "Dacia Duster SUV 2018"))
    other = prepare(str(source), tmp_path / "p", PrepareOptions(val_share=0.5))
    with pytest.raises(LabelError, match="Dacia Duster"):
        evaluate(small_run, split="test", data_folder=other.folder)


def test_a_missing_split_is_an_error(small_run: Path, tmp_path: Path) -> None:
    source = write_class_folders(tmp_path / "s", {"train": 4})
    other = prepare(str(source), tmp_path / "p", PrepareOptions(val_share=0.25))
    with pytest.raises(DataError, match="'test'"):
        evaluate(small_run, split="test", data_folder=other.folder)


def test_an_unreadable_photo_is_an_error(small_run: Path, tmp_path: Path) -> None:
    source = write_class_folders(tmp_path / "s", {"train": 4, "test": 1})
    other = prepare(str(source), tmp_path / "p", PrepareOptions(val_share=0.25))
    other.path(other.split("test")[0]).write_bytes(b"not an image")
    with pytest.raises(PhotoError, match="not an image"):
        evaluate(small_run, split="test", data_folder=other.folder)


def test_tta_is_the_mean_over_views_of_the_photo(small_run: Path, small_data: Path) -> None:
    from twincar.core.photos import read_photo
    from twincar.models.calibration import softmax
    from twincar.models.engines.open import open_engine

    engine, spec = open_engine(small_run)
    data = PreparedData.open(small_data)
    logits = []
    for annotation in data.split("test"):
        views = spec.preprocessing.views(read_photo(data.path(annotation)))
        logits.append(np.mean([engine.logits(view[None])[0] for view in views], axis=0))
    labels = np.array([annotation.label for annotation in data.split("test")])
    expected = (softmax(np.array(logits)).argmax(1) == labels).mean()
    tta = evaluate(small_run, split="test", tta=True).tta
    assert tta is not None
    assert tta["acc"] == pytest.approx(expected)


@pytest.fixture(scope="module")
def many_classes(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray, np.ndarray]:
    """The folder of a report on 1,200 classes, labels and logits: two photos each with two views, about 20% errors."""
    run = RunFolder.create(tmp_path_factory.mktemp("many") / "run")
    shutil.copy(small_run / "metrics.csv", run.metrics)
    rng = np.random.default_rng(0)
    classes = 1200
    labels = np.repeat(np.arange(classes), 2)
    logits = rng.normal(size=(len(labels), 2, classes)).astype(np.float32)
    predicted = np.where(rng.random(len(labels)) < 0.8, labels, rng.integers(0, classes, len(labels)))
    predicted[labels == 700] = 900  # the pair most often confused
    predicted[labels == 900] = 700
    logits[np.arange(len(labels)), :, predicted] += 8
    annotations = [
        Annotation(file=f"{i}.jpg", label=label, split="test", width=96, height=64, box=None, sha256="")
        for i, label in enumerate(labels.tolist())
    ]
    names = ClassNames(tuple(f"Make Model {index} Sedan 2012" for index in range(classes)))
    spec = ModelSpec(backbone="", head="linear", classes=names, preprocessing=Preprocessing(height=64, width=64))
    data = PreparedData(run.path, run.path, names, tuple(annotations), {"sha256": {"annotations.csv": "0" * 64}})
    subject = Subject(run.path)
    vars(subject).update(run=run, spec=spec, data=data)  # as it would open them, without files
    return report_logits(subject, annotations, labels, logits).folder, labels, logits


def test_metrics_computed_in_blocks_equal_those_of_all_photos(
    many_classes: tuple[Path, np.ndarray, np.ndarray],
) -> None:
    folder, labels, logits = many_classes
    written = json.loads((folder / "metrics.json").read_text())
    for part, used in (("metrics", logits[:, 0]), ("tta", logits.mean(axis=1))):
        whole = softmax(used)
        expected = classification_metrics(Predictions.from_probabilities(labels, whole))
        assert written[part] == pytest.approx(expected)
    assert written["metrics"]["loss"] != written["tta"]["loss"]


def test_with_many_classes_only_the_cells_with_photos_are_listed(
    many_classes: tuple[Path, np.ndarray, np.ndarray],
) -> None:
    folder = many_classes[0]
    assert not (folder / "confusion_matrix.csv").exists()
    cells = {(row["truth"], row["predicted"]): int(row["photos"]) for row in rows_of(folder / "confusion_cells.csv")}
    assert cells == Counter((row["truth"], row["top1"]) for row in rows_of(folder / "predictions.csv"))
    assert len(rows_of(folder / "classification_report.csv")) == 1200 + 2


def test_with_many_classes_the_most_confused_are_drawn(many_classes: tuple[Path, np.ndarray, np.ndarray]) -> None:
    folder, labels, logits = many_classes
    with Image.open(folder / "confusion_matrix.png") as image:
        assert max(image.size) < 3000
    matrix = confusion_matrix(labels, logits[:, 0].argmax(axis=1), 1200)
    shown, title = _classes_to_draw(matrix, "Confusion matrix")
    assert len(set(shown)) == 100
    assert shown == sorted(shown)
    assert {700, 900} < set(shown)
    assert title == "Confusion matrix: the 100 of 1,200 classes most often confused"


def test_classes_without_mistakes_fill_the_figure() -> None:
    matrix = confusion_matrix(np.arange(300), np.arange(300), 400)
    assert _classes_to_draw(matrix, "")[0] == list(range(100))
    assert _classes_to_draw(confusion_matrix(np.arange(200), np.arange(200), 400), "T") == (list(range(200)), "T")


def test_the_matrix_is_shaded_by_the_share_of_all_photos_of_a_class(tmp_path: Path) -> None:
    def brightness(support: int) -> float:
        figure = plots.confusion_figure(np.array([[2, 0], [0, 2]]), np.array([support, 2]), ["a", "b"], "title")
        plots.save(figure, tmp_path / "matrix.png")
        return float(figure.axes[0].collections[0].get_facecolor()[0, :3].sum())

    assert brightness(2) < brightness(4) < brightness(20)


def test_drawing_the_matrix_takes_only_megabytes(tmp_path: Path) -> None:
    """matplotlib's imshow takes dozens of bytes a pixel, over a gigabyte for 196 classes."""
    matrix = np.eye(45, dtype=np.int64)
    tracemalloc.start()
    try:
        figure = plots.confusion_figure(matrix, matrix.sum(axis=1), [str(index) for index in range(45)], "title")
        plots.save(figure, tmp_path / "matrix.png")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 30e6


def test_draw_car_is_stable() -> None:
    """The fixtures depend on this: the same number gives the same photo."""
    assert draw_car(0, 1).tobytes() == draw_car(0, 1).tobytes() != draw_car(0, 2).tobytes()


def test_the_worst_classes_have_a_mistake_and_the_best_a_correct_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {"class_name": f"car {index}", "accuracy": share, "support": 4} for index, share in enumerate((1, 0.5, 0, 1))
    ]
    drawn: dict[str, tuple[list[str], str]] = {}
    monkeypatch.setattr(evaluate_module.plots, "accuracy_bars", lambda names, *_: (names, _[-1]))
    monkeypatch.setattr(evaluate_module.plots, "save", lambda figure, path: drawn.update({path.stem: figure}))
    evaluate_module._draw_classes(tmp_path, "test", rows)  # type: ignore[arg-type]
    assert drawn == {
        "best_classes": (["car 0", "car 3", "car 1"], "Classes of best accuracy: 3 of 4, test photos"),
        "worst_classes": (["car 2", "car 1"], "Classes of worst accuracy: 2 of 4, test photos"),
    }
