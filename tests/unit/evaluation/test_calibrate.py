"""Temperature and rejection thresholds, fitted to models of each kind."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from colour_model import write_model
from command_line import run as command
from PIL import Image

from twincar.core.errors import UsageError
from twincar.evaluation.calibrate import calibrate
from twincar.evaluation.evaluate import evaluate
from twincar.inference.classifier import Classifier
from twincar.models.calibration import Calibration
from twincar.models.calibration_fit import fit_temperature
from twincar.models.checkpoint import save_model
from twincar.models.engines.open import compute_logits, open_engine
from twincar.models.engines.torch_engine import open_network
from twincar.models.spec import HEADER_KEY

BMW, VOLVO = "BMW M3 Sedan 2012", "Volvo C30 Hatchback 2012"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Reddish and greenish photos of two classes; some have the colour of the other class."""
    rng = np.random.default_rng(0)
    for index, car in enumerate((BMW, VOLVO)):
        (tmp_path / "photos" / car).mkdir(parents=True)
        for number in range(60):
            shift = rng.normal(0.6, 0.5) * (1 if index == 0 else -1)
            colour = (int(np.clip(128 + 60 * shift, 0, 255)), int(np.clip(128 - 60 * shift, 0, 255)), 0)
            Image.new("RGB", (64, 48), colour).save(tmp_path / "photos" / car / f"{number}.png")
    return tmp_path / "photos"


def test_an_exported_model_is_calibrated(photos: Path, tmp_path: Path) -> None:
    """A network with twice the logits gets twice the temperature, and then gives the same probabilities."""
    found = []
    for sharper in (1.0, 2.0):
        model = write_model(tmp_path / f"{sharper}.onnx", sharper=sharper)
        before = model.read_bytes()
        found.append(calibrate(model, data_folder=photos, out=tmp_path / f"calibrated-{sharper}.onnx"))
        assert model.read_bytes() == before
    assert found[1].calibration.temperature == pytest.approx(2 * found[0].calibration.temperature, rel=0.01)
    assert found[0].photos == 120
    engine, spec = open_engine(found[0].path)
    paths = sorted(photos.rglob("*.png"))
    labels = np.array([spec.classes.index(path.parent.name) for path in paths])
    logits = compute_logits(engine, spec.preprocessing, paths)[:, 0]
    assert spec.calibration.temperature == pytest.approx(fit_temperature(logits, labels), rel=1e-3)
    assert spec.calibration.photos == 120
    assert spec.provenance["calibration"] == {"data": "photos", "split": "test", "photos": 120}
    confidences = [Classifier.load(result.path).predict(paths[0]).top1.probability for result in found]
    assert confidences[0] == pytest.approx(confidences[1], abs=0.01)
    loss = [evaluate(path, data_folder=photos, out=tmp_path / f"r{i}").metrics["loss"] for i, path in
            enumerate([tmp_path / "2.0.onnx", found[1].path])]  # fmt: skip
    assert loss[1] < loss[0]
    assert loss[1] == pytest.approx(found[1].calibration.after["nll"])
    graphs = [onnx.load(path).graph for path in (tmp_path / "1.0.onnx", found[0].path)]
    assert graphs[0] == graphs[1]
    assert [entry.key for entry in onnx.load(found[0].path).metadata_props] == [HEADER_KEY]


def test_torch_weights_without_calibration_get_one(
    small_run: Path, small_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network, spec = open_network(small_run)
    bare = tmp_path / "bare.safetensors"
    save_model(bare, network, replace(spec, calibration=Calibration()))
    result = command("calibrate", bare, "--data", small_data, "--out", tmp_path / "calibrated.safetensors")
    assert result.returncode == 0
    assert "fitted on 12 val photos" in result.stdout
    assert "with fewer than 100" in caplog.text
    again = open_network(tmp_path / "calibrated.safetensors")[1]
    assert again.calibration.temperature == pytest.approx(spec.calibration.temperature, rel=1e-3)  # as training fitted
    assert again.calibration.max_logit_quantiles == pytest.approx(spec.calibration.max_logit_quantiles, abs=1e-3)


def test_wrong_usage(small_run: Path, small_data: Path, photos: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "colours.onnx")
    with pytest.raises(UsageError, match=r"ending in \.onnx"):
        calibrate(model, data_folder=photos, out=tmp_path / "x.safetensors")
    with pytest.raises(UsageError, match="never overwritten"):
        calibrate(model, data_folder=photos, out=model)
    with pytest.raises(UsageError, match="trained on 36 of these 36"):
        calibrate(small_run, split="train", out=tmp_path / "x.safetensors")
    copy = shutil.copy(small_run / "best.safetensors", tmp_path / "weights.safetensors")
    with pytest.raises(UsageError, match="trained on 36 of these 36"):  # its header names the data
        calibrate(copy, data_folder=small_data, split="train", out=tmp_path / "x.safetensors")
    assert "Missing option '--out'" in command("calibrate", small_run).stderr
    assert not (tmp_path / "x.safetensors").exists()
