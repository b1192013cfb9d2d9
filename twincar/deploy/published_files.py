"""Write the files of a repository on the hub, and collect the facts of its model card."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import save

from twincar.core.errors import DataError, UsageError
from twincar.core.files import read_json, write_bytes, write_json, write_text
from twincar.core.progress import Progress
from twincar.core.run_files import WEIGHTS_FILE
from twincar.core.runs import RunFolder
from twincar.data.dataset import PreparedData
from twincar.deploy.export import export
from twincar.deploy.model_card import ModelCard, RunFacts
from twincar.evaluation.evaluate import evaluate
from twincar.evaluation.report import artifacts
from twincar.evaluation.results import CORRUPTIONS, METRICS, OPEN_SET
from twincar.evaluation.subject import Subject, is_own_data
from twincar.models.checkpoint import save_model
from twincar.models.engines.onnxruntime_engine import read_onnx_spec
from twincar.models.engines.torch_engine import open_network
from twincar.models.license import with_license
from twincar.models.locate import (
    CALIBRATION_FILE,
    CLASSES_FILE,
    EVALUATION_FILE,
    ONNX_FILE,
    PICTURES,
    TIMM_CONFIG,
    TIMM_WEIGHTS,
)
from twincar.models.network import SCALED, CarNet, classifies_as_timm, timm_weights
from twincar.models.onnx_head import ExportedModel
from twincar.models.spec import ModelSpec

log = logging.getLogger(__name__)


def write_run_files(
    folder: Path, subject: Subject, repository: str, license: str | None, on_photo: Progress | None
) -> ModelCard:
    """Write the files of a run: exported model, weights, settings, history, results; see `push`.

    Args:
        folder: an empty folder.
        subject: a run; its `data_folder` is where its data set is now, if it was moved.
        repository: owner/name, for the card.
        license: of the weights; None is the one in their header, or the one that follows from the data.
        on_photo: called with photos done and in all.

    Raises:
        UsageError: the data set is not that of the run.
        TwinCarError: the run cannot be evaluated or exported.
    """
    run = RunFolder(subject.path)
    network, spec = open_network(run.path)
    data = _own_data(run, spec, subject.data_folder)
    if license:
        spec = with_license(spec, license)
    split = _evaluated_split(run, data, on_photo)
    _write_run(folder, run, network, spec)
    _write_spec(folder, spec)
    _write_results(folder, run.reports / split)
    loads_in_timm = _write_for_timm(folder, network, spec)
    log.info("Exporting it, and comparing the exported model with the network.")
    export(folder, out=folder / ONNX_FILE, data_folder=data.folder, on_photo=on_photo)
    return ModelCard(
        repository=repository,
        spec=spec,
        is_exported=True,
        loads_in_timm=loads_in_timm,
        run=_facts_of(run, data, split),
    )


def write_model_files(folder: Path, subject: Subject, repository: str, license: str | None) -> ModelCard:
    """Write the files of a model without its run: the model itself, its classes and its calibration; see `push`.

    Args:
        folder: an empty folder.
        subject: an exported `.onnx` file, or a `.safetensors` file of a run.
        repository: owner/name, for the card.
        license: of the weights, if their header does not name one.

    Raises:
        UsageError: the model is of another kind, its header has another licence, or a data set is named.
        CheckpointError: it is damaged, or was not made by TwinCar.
    """
    path = subject.path
    if subject.data_folder:
        raise UsageError(
            f"Expected --data with the folder of a training run only, but {subject.name} is none, so its card holds "
            "no results. Leave --data out."
        )
    if path.suffix == ".onnx":
        spec = _licensed(read_onnx_spec(path), license, subject.name)
        ExportedModel.read(path).write(folder / ONNX_FILE, spec)
        loads_in_timm = False
    elif path.suffix == ".safetensors":
        network, spec = open_network(path)
        spec = _licensed(spec, license, subject.name)
        save_model(folder / WEIGHTS_FILE, network, spec)
        loads_in_timm = _write_for_timm(folder, network, spec)
    else:
        raise UsageError(
            "Expected a run folder, an exported .onnx file or a .safetensors file of a run to push, but "
            f"{subject.name} is none of these: the hub holds no OpenVINO folders, and third-party weights have no "
            "header with class names and licence (twincar calibrate writes one)."
        )
    _write_spec(folder, spec)
    return ModelCard(
        repository=repository,
        spec=spec,
        is_exported=path.suffix == ".onnx",
        loads_in_timm=loads_in_timm,
        run=None,
    )


def _licensed(spec: ModelSpec, license: str | None, name: str) -> ModelSpec:
    """The spec with a licence; one in the header of a model that comes without its run stays."""
    if license and spec.license not in ("", license):
        raise UsageError(
            f"Expected no --license, or {spec.license}, which is the licence in the header of {name}, but found "
            f"{license}. Only the folder of the run can be published under another."
        )
    return with_license(spec, license) if license else spec


def _own_data(run: RunFolder, spec: ModelSpec, folder: Path | None) -> PreparedData:
    """The data set of the run; results on other photos must not be on the card."""
    data = PreparedData.of_run(run, folder)
    if not is_own_data(spec, data):
        raise UsageError(
            f"Expected the data set that {run.path} was trained on, but the annotations in {data.folder} are others. "
            "Name its folder with --data, or prepare it again as it was."
        )
    return data


def _evaluated_split(run: RunFolder, data: PreparedData, on_photo: Progress | None) -> str:
    """The split of the results on the card, evaluated if necessary."""
    split = "test" if _has_labels(data, "test") else "val"
    if not _is_of_these_weights(run.reports / split / METRICS, run):
        log.info("Evaluating it on the %s photos.", split)
        evaluate(run.path, split=split, data_folder=data.folder, on_photo=on_photo)
    return split


def _is_of_these_weights(report: Path, run: RunFolder) -> bool:
    """Whether a report exists that is not older than the weights."""
    return report.exists() and report.stat().st_mtime >= run.best.stat().st_mtime


def _has_labels(data: PreparedData, split: str) -> bool:
    try:
        data.labelled_split(split)
    except DataError:
        return False
    return True


def _facts_of(run: RunFolder, data: PreparedData, split: str) -> RunFacts:
    report, reports = run.reports / split, run.reports
    has_corruptions = _is_of_these_weights(report / CORRUPTIONS, run)
    has_open_set = _is_of_these_weights(reports / OPEN_SET, run)
    return RunFacts(
        config=run.read_config(),
        history=run.read_history(),
        photos=data.manifest["photos"],
        metrics=artifacts.read_metrics(report),
        corruptions=artifacts.read_corruptions(report) if has_corruptions else None,
        open_set=artifacts.read_open_set_results(reports) if has_open_set else None,
    )


def _write_run(folder: Path, run: RunFolder, network: CarNet, spec: ModelSpec) -> None:
    """Write a run folder, so that `evaluate --data` accepts what `pull` has downloaded."""
    copy = RunFolder(folder)
    write_text(copy.config, run.read_config().without_paths().to_yaml())
    save_model(copy.best, network, spec)
    shutil.copyfile(run.metrics, copy.metrics)


def _write_spec(folder: Path, spec: ModelSpec) -> None:
    """Write the classes with make, model, body and year, and the calibration, for other programs."""
    write_json(folder / CLASSES_FILE, spec.classes.to_rows())
    write_json(folder / CALIBRATION_FILE, asdict(spec.calibration))


def _write_results(folder: Path, report: Path) -> None:
    metrics = read_json(report / METRICS)
    write_json(folder / EVALUATION_FILE, {name: value for name, value in metrics.items() if name != "folder"})
    for picture in PICTURES:
        shutil.copyfile(report / picture, folder / picture)


def _write_for_timm(folder: Path, network: CarNet, spec: ModelSpec) -> bool:
    """Write weights and configuration in the format of timm; returns whether timm has such a model."""
    if spec.head != "linear" or not classifies_as_timm(network):
        return False
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in timm_weights(network).items()}
    write_bytes(folder / TIMM_WEIGHTS, save(tensors, metadata={"format": "pt"}))
    preprocessing, published = spec.preprocessing, network.backbone.pretrained_cfg
    config = {
        "architecture": published["architecture"],
        "model_args": dict(SCALED.get(spec.backbone, ("", {}))[1]),
        "num_classes": len(spec.classes),
        "num_features": network.backbone.num_features,
        "global_pool": "avg",
        "label_names": list(spec.classes.names),
        "pretrained_cfg": {
            "input_size": [3, preprocessing.height, preprocessing.width],
            "interpolation": "bilinear",
            "crop_pct": 1.0 if preprocessing.squash else preprocessing.crop,
            "crop_mode": "squash" if preprocessing.squash else "center",
            "mean": (network.mean / 255).flatten().tolist(),
            "std": (network.std / 255).flatten().tolist(),
            "num_classes": len(spec.classes),
            "pool_size": None,
            "first_conv": published["first_conv"],
            "classifier": published["classifier"],
        },
    }
    write_text(folder / TIMM_CONFIG, json.dumps(config, indent=2) + "\n")  # ASCII: timm may read it in any locale
    return True
