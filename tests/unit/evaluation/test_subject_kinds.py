"""Every verb that judges a model, on the kinds of model that `test_subject.py` leaves out."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from colour_model import paint
from conftest import write_class_folders
from hub_server import HubClient, HubServer
from small_backbone import BACKBONE

import twincar
from twincar.core.errors import UsageError
from twincar.core.labels import stanford_cars
from twincar.core.photos import read_photo
from twincar.evaluation.evaluate import Evaluation
from twincar.models import bundled
from twincar.models.engines.open import open_engine
from twincar.models.locate import ONNX_FILE

REPOSITORY = "someone/cars"


@pytest.fixture(scope="module")
def exported(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The small run as a file of onnxruntime and as a folder of OpenVINO."""
    folder = tmp_path_factory.mktemp("exported")
    return {
        "onnx": twincar.export(small_run, out=folder / ONNX_FILE).path,
        "openvino": twincar.export(small_run, format="openvino", out=folder / "cars-openvino").path,
    }


@pytest.fixture
def hub(hub_client: HubClient, exported: dict[str, Path]) -> Iterator[HubServer]:
    """A stand-in for the hub, with that file in a repository."""
    with HubServer({ONNX_FILE: exported["onnx"].read_bytes()}, kind="models", repo=REPOSITORY) as server:
        hub_client.use(server)
        yield server


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Test photos in class folders, in an otherwise empty working folder."""
    monkeypatch.chdir(tmp_path)
    return write_class_folders(tmp_path / "cars", {"test": 3})


def answers(evaluation: Evaluation) -> dict[str, str]:
    with (evaluation.folder / "predictions.csv").open(newline="") as file:
        return {Path(row["file"]).parent.name + Path(row["file"]).name: row["top1"] for row in csv.DictReader(file)}


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("kind", ["openvino", "hub"])
def test_every_verb_takes_it(kind: str, exported: dict[str, Path], photos: Path, small_run: Path) -> None:
    model: str | Path = exported["openvino"] if kind == "openvino" else REPOSITORY
    of_run = twincar.evaluate(small_run, data_folder=photos, split="test", out=Path("of the run"))
    evaluated = twincar.evaluate(model, data_folder=photos)
    assert evaluated.metrics == pytest.approx(of_run.metrics, abs=1e-3)
    assert answers(evaluated) == answers(of_run)
    folder = evaluated.folder.parent
    assert folder.parent == Path("results")
    assert folder.name.startswith(("cars-openvino-", "someone-cars-"))
    assert len(twincar.explain(model, data_folder=photos, count=2).photos) == 2
    assert twincar.compare(model, data_folder=photos, count=1).page.is_file()
    page = twincar.report(model, data_folder=photos)
    assert page.path == twincar.report(folder).path == folder / "report.html"
    assert f"twincar evaluate {'cars-openvino' if kind == 'openvino' else REPOSITORY}" in page.path.read_text()


def test_an_openvino_folder_is_calibrated_into_another(exported: dict[str, Path], photos: Path) -> None:
    source = exported["openvino"]
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    with pytest.raises(UsageError, match="a folder, without a suffix"):
        twincar.calibrate(source, data_folder=photos, out=Path("calibrated.onnx"))
    found = twincar.calibrate(source, data_folder=photos, out=Path("calibrated"))
    assert {path.name: path.read_bytes() for path in source.iterdir()} == before
    assert {path.name for path in found.path.iterdir()} == set(before)
    assert (found.path / "model.bin").read_bytes() == before["model.bin"]
    spec, of_source = open_engine(found.path)[1], open_engine(source)[1]
    assert spec.calibration.temperature == found.calibration.temperature
    assert spec.calibration != of_source.calibration
    assert spec.provenance["calibration"] == {"data": "cars", "split": "test", "photos": 12}
    again = twincar.evaluate(found.path, data_folder=photos)
    assert again.metrics["loss"] == pytest.approx(found.calibration.after["nll"], abs=1e-4)


def test_a_model_of_the_hub_is_exported_and_calibrated_into_the_working_folder(hub: HubServer, photos: Path) -> None:
    fetched = Path(twincar.pull(REPOSITORY).model)
    before = fetched.read_bytes()
    result = twincar.export(REPOSITORY, precision="fp16", data_folder=photos)
    assert result.path == Path("someone-cars-fp16.onnx")
    calibrated = twincar.calibrate(f"{REPOSITORY}@main", out=Path("calibrated.onnx"), data_folder=photos)
    assert calibrated.photos == 12
    assert {path.name for path in Path().iterdir()} == {"cars", "hf_home", "someone-cars-fp16.onnx", "calibrated.onnx"}
    assert (fetched.read_bytes(), list(fetched.parent.iterdir())) == (before, [fetched])
    assert len(hub.fetched) == 1


def test_third_party_weights_are_judged_calibrated_and_exported(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain state_dict with the classes of Stanford Cars, of which the photos have two."""
    monkeypatch.setattr("twincar.models.engines.torch_engine.PUBLISHED_BACKBONE", BACKBONE)
    torch.manual_seed(0)
    network = timm.create_model(BACKBONE, num_classes=196).eval()
    torch.save(network.state_dict(), "theirs.pth")
    names = [stanford_cars()[index] for index in (3, 90)]
    shutil.rmtree(photos)
    folder = write_class_folders(photos, {"test": 3}, tuple(names))
    evaluated = twincar.evaluate("theirs.pth", data_folder=folder)
    assert evaluated.photos == 6
    assert len(evaluated.absent) == 194
    assert evaluated.calibration.temperature == 1
    spec = open_engine(Path("theirs.pth"))[1]
    mean, std = (torch.tensor(network.default_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    for file in sorted(folder.rglob("*.jpg")):
        pixels = torch.from_numpy(np.array(spec.preprocessing(read_photo(file)))).permute(2, 0, 1) / 255
        with torch.inference_mode():
            best = int(network(((pixels - mean) / std)[None]).argmax())
        assert answers(evaluated)[file.parent.name + file.name] == stanford_cars()[best]
    assert len(twincar.explain("theirs.pth", data_folder=folder, count=2).photos) == 2
    assert len(twincar.compare("theirs.pth", names, data_folder=folder).pairs) == 1
    calibrated = twincar.calibrate("theirs.pth", data_folder=folder, out=Path("calibrated.safetensors"))
    exported = twincar.export(calibrated.path, data_folder=folder)
    assert exported.comparison.equal_predictions == 1
    calibration = twincar.load(exported.path).spec.calibration
    assert (calibration.temperature, calibration.photos) == (pytest.approx(calibrated.calibration.temperature), 6)


@pytest.mark.slow
def test_the_bundled_model_is_exported_into_another_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cars" / stanford_cars()[0]).mkdir(parents=True)
    photo = paint(tmp_path / "cars" / stanford_cars()[0] / "0.jpg", (200, 30, 40))
    with pytest.raises(UsageError, match="it is in int8-weights, which cannot be changed"):
        twincar.export(data_folder=tmp_path / "cars", format="openvino")
    result = twincar.export(data_folder=tmp_path / "cars", format="openvino", precision="int8-weights")
    assert result.path.parent == Path()  # never beside the model, which lies within the package
    assert bundled.MODEL.stem in str(result.path)
    assert result.comparison.equal_predictions == 1
    ours, its = (twincar.load(model, detect="never").predict(photo) for model in (result.path, None))
    assert ours.top1
    assert its.top1
    assert ours.top1.name == its.top1.name
    assert ours.top1.probability == pytest.approx(its.top1.probability, abs=1e-3)
