from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_line import run
from conftest import CLASSES, draw_car

from twincar.core.errors import UsageError
from twincar.core.preprocess import iterate_batches
from twincar.data.dataset import PreparedData
from twincar.deploy.export import export
from twincar.evaluation.feature_statistics import add_statistics
from twincar.inference.classifier import Classifier
from twincar.inference.teach import teach
from twincar.models.class_statistics import ClassStatistics
from twincar.models.onnx_head import ExportedModel

NAME = "Seat Arona SUV 2018"


@pytest.fixture(scope="module")
def exported(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In fp16, with the two layers of the default head."""
    return export(small_run, precision="fp16", out=tmp_path_factory.mktemp("exported") / "model.onnx", force=True).path


def statistics_of(path: Path) -> ClassStatistics:
    found = ExportedModel.read(path).statistics
    assert found is not None
    return found


def test_an_exported_run_has_the_statistics_of_its_classes(exported: Path, small_data: Path) -> None:
    """Means of the training photos' hidden units, compared with those computed step by step from the exported file."""
    classifier, data = Classifier.load(exported), PreparedData.open(small_data)
    (weight, bias), _ = classifier.engine.head.layers
    for label in range(len(CLASSES)):
        paths = [data.photo(photo) for photo in data.split("train") if photo.label == label]
        (images,) = iterate_batches(paths, classifier.spec.preprocessing, batch_size=64)
        pooled = classifier.engine.logits_and_features(images[:, 0])[1].mean(axis=(2, 3))
        expected = np.maximum(pooled @ weight.T + bias, 0).mean(axis=0)
        assert statistics_of(exported).means[label] == pytest.approx(expected, abs=5e-3)
    assert statistics_of(exported).counts.tolist() == [9, 9, 9, 9]


def test_a_taught_model_of_two_layers_in_fp16_keeps_its_logits(exported: Path, tmp_path: Path) -> None:
    classifier = Classifier.load(exported)
    photos = [np.asarray(draw_car(0, number).rotate(90, expand=True).convert("L")) for number in range(3)]
    teach(classifier, {NAME: photos}, out=tmp_path / "taught.onnx")
    taught = Classifier.load(tmp_path / "taught.onnx")
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    after, features = taught.engine.logits_and_features(images)
    assert after[:, :4] == pytest.approx(classifier.engine.logits(images), abs=1e-4)
    (weight, bias), (last, last_bias) = taught.engine.head.layers
    hidden = np.maximum(features.mean(axis=(2, 3)) @ weight.T + bias, 0)
    assert hidden @ last.T + last_bias == pytest.approx(after, abs=1e-3)
    assert (tmp_path / "taught.onnx").stat().st_size < exported.stat().st_size + 20_000


def test_an_exported_file_keeps_its_statistics_when_it_is_exported_again(
    small_run: Path, small_data: Path, exported: Path, tmp_path: Path
) -> None:
    whole = export(small_run, out=tmp_path / "fp32.onnx", force=True).path
    half = export(whole, precision="fp16", out=tmp_path / "fp16.onnx", data_folder=small_data, force=True).path
    assert (statistics_of(half).means == statistics_of(exported).means).all()
    assert (statistics_of(half).diagonal == statistics_of(exported).diagonal).all()


def test_statistics_are_added_to_a_file_that_has_none(exported: Path, small_data: Path, tmp_path: Path) -> None:
    bare = ExportedModel.read(exported)
    expected = statistics_of(exported)
    for tensor in [tensor for tensor in bare.model.graph.initializer if tensor.name.startswith("statistics.")]:
        bare.model.graph.initializer.remove(tensor)
    bare.write(tmp_path / "bare.onnx", Classifier.load(exported).spec)
    said = run("teach", tmp_path / "bare.onnx", "--statistics-from", small_data, "--out", tmp_path / "full.onnx")
    assert said.stdout.startswith("Statistics of 4 classes from 36 photos.\n")
    found = statistics_of(tmp_path / "full.onnx")
    assert found.means == pytest.approx(expected.means, abs=5e-3)
    assert found.within == pytest.approx(expected.within, rel=0.02)


def test_a_run_is_to_be_exported_first(small_run: Path, small_data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="twincar export"):
        add_statistics(small_run, data_folder=small_data, out=tmp_path / "new.onnx")
    assert "twincar export" in run("teach", small_run, "a.jpg", "--name", NAME, "--out", tmp_path / "a.onnx").stderr
