"""Publishes a trained run on the hub: what answers without torch, what can be trained on, and what was measured.

Nothing of the data goes with it: no photo, and no path of this computer.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save

from twincar.core.errors import DataError, UsageError
from twincar.core.files import read_json, working_folder, write_bytes, write_json, write_text
from twincar.core.hub import Repository, check_publishing, page_of, publish
from twincar.core.progress import Progress
from twincar.core.runs import RunFolder
from twincar.core.wording import counted
from twincar.data.dataset import PreparedData
from twincar.deploy.export import export
from twincar.deploy.model_card import ModelCard
from twincar.evaluation.evaluate import evaluate
from twincar.evaluation.report import artifacts
from twincar.evaluation.results import CORRUPTIONS, METRICS, OPEN_SET
from twincar.evaluation.subject import is_own_data
from twincar.models.checkpoint import save_model
from twincar.models.engines.base import OPENVINO_MODEL
from twincar.models.engines.torch_engine import open_network
from twincar.models.license import License, with_license
from twincar.models.locate import (
    CALIBRATION_FILE,
    CARD,
    CLASSES_FILE,
    EVALUATION_FILE,
    ONNX_FILE,
    PICTURES,
    REPOSITORY_FILES,
    TIMM_CONFIG,
    TIMM_WEIGHTS,
    WEIGHTS_FILE,
)
from twincar.models.network import SCALED, CarNet, timm_weights
from twincar.models.spec import ModelSpec

log = logging.getLogger(__name__)


_OURS = (ONNX_FILE, WEIGHTS_FILE, *REPOSITORY_FILES)


@dataclass(frozen=True)
class Pushed:
    """What was published, or only written."""

    repository: str
    """owner/name."""
    files: dict[str, int]
    """Bytes by name."""
    split: str
    """Whose photos the card's results are about."""
    accuracy: float
    loads_in_timm: bool
    folder: Path | None
    """Where the files lie, if they were not published."""
    commit: str | None
    """None if they were not published."""
    page: str | None

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self) | {"folder": str(self.folder) if self.folder else None}


def push(
    run_path: str | Path,
    name: str,
    *,
    private: bool = False,
    licence: str | None = None,
    data_folder: str | Path | None = None,
    out: str | Path | None = None,
    on_photo: Progress | None = None,
) -> Pushed:
    """Publish a run as the model `owner/name`, on its main branch, in one commit.

    The results on the card are those of the test photos, or of the validation photos where there are no others with
    labels. They are taken from the run's reports; if these are not there or older than the weights, it is evaluated.

    Args:
        run_path: the run folder.
        name: owner/name on the hub.
        private: open to its owner only.
        licence: of the weights, as the hub spells it; by default what the data ask for, where that is known.
        data_folder: where the data set lies that the run was trained on, if it has moved.
        out: a new folder to write into, in place of publishing.
        on_photo: called with photos done and in all, for a progress bar.

    Returns:
        The repository, its files with their sizes in bytes, and the commit, or the folder that was written.

    Raises:
        UsageError: no such run, `name` has another form, something is at `out`, or the data set is another one.
        HubError: nobody is logged in, the token may not write there, or the hub cannot be reached or refuses.
        TwinCarError: the run cannot be evaluated or exported; nothing is published.
    """
    repository = _repository(name)
    run = _run_of(Path(run_path))
    data_folder, out = (Path(path) if path else None for path in (data_folder, out))
    if out is None:
        check_publishing(repository, private=private)
    elif out.exists():
        raise UsageError(f"Expected a new folder for --out, and {out} exists. Delete it, or choose another.")
    network, spec = open_network(run.path)
    data = _own_data(run, spec, data_folder)
    if licence:
        spec = with_license(spec, licence)
    split = _evaluated_split(run, data, on_photo)
    card = _card(repository, run, data, spec, split)
    with _folder(out) as folder:
        write_text(folder / CARD, card.to_markdown())
        _write_run(folder, run, network, spec)
        _write_tables(folder, run.reports / split, spec)
        if card.loads_in_timm:
            _write_for_timm(folder, network, spec)
        log.info("Exporting it, and comparing the exported model with the network.")
        export(folder, out=folder / ONNX_FILE, data_folder=data.folder, on_photo=on_photo)
        sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
        log.info("%s, %.1f MB.", counted(len(sizes), "file"), sum(sizes.values()) / 1e6)
        accuracy = card.metrics.accuracy.value
        message = f"A {spec.backbone} of {len(spec.classes)} classes, accuracy {accuracy:.3f}"
        commit = publish(folder, repository, private=private, message=message, ours=_OURS) if out is None else None
    return Pushed(
        repository=repository.name,
        files=sizes,
        split=split,
        accuracy=accuracy,
        loads_in_timm=card.loads_in_timm,
        folder=out,
        commit=commit,
        page=page_of(repository) if commit else None,
    )


def _repository(name: str) -> Repository:
    repository = Repository.parse(name, "model")
    if repository.revision is not None:
        raise UsageError(
            f"Expected owner/name, and found {name!r}: a model is published on the main branch, whose commit pins it."
        )
    return repository


def _run_of(model: Path) -> RunFolder:
    """The run to publish: what the page tells, and weights that others can train on, are in no other kind of model."""
    if model.is_file() or (model / OPENVINO_MODEL).is_file():
        raise UsageError(
            "Expected the folder of a training run to push, whose weights, configuration, history and data the hub's "
            f"page is made from, but {model} is a model alone. Push the run that it was made of."
        )
    return RunFolder.open(model)


def _own_data(run: RunFolder, spec: ModelSpec, folder: Path | None) -> PreparedData:
    """The data set the run was trained on: figures of other photos are none of the card's."""
    data = PreparedData.of_run(run, folder)
    if not is_own_data(spec, data):
        raise UsageError(
            f"Expected the data set that {run.path} was trained on, but the annotations in {data.folder} are others. "
            "Name the folder where it lies now with --data, or prepare it again as it was."
        )
    return data


def _evaluated_split(run: RunFolder, data: PreparedData, on_photo: Progress | None) -> str:
    """The split the card is about, evaluated."""
    split = "test" if _has_labels(data, "test") else "val"
    if not _is_of_these_weights(run.reports / split / METRICS, run):
        log.info("Evaluating it on the %s photos.", split)
        evaluate(run.path, split=split, data_folder=data.folder, on_photo=on_photo)
    return split


def _is_of_these_weights(report: Path, run: RunFolder) -> bool:
    """Whether a report is there, and no training has gone on since."""
    return report.exists() and report.stat().st_mtime >= run.best.stat().st_mtime


def _has_labels(data: PreparedData, split: str) -> bool:
    try:
        data.labelled_split(split)
    except DataError:
        return False
    return True


@contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    """A folder to write into, which becomes `out` when all is written, or goes when all is published."""
    with working_folder(out or Path(tempfile.gettempdir(), "twincar-push")) as folder:
        yield folder
        if out:
            folder.replace(out)


def _write_run(folder: Path, run: RunFolder, network: CarNet, spec: ModelSpec) -> None:
    """A run folder, so that `evaluate --data` takes what `pull` has fetched."""
    copy = RunFolder(folder)
    write_text(copy.config, run.read_config().without_paths().to_yaml())
    save_model(copy.best, network, spec)
    shutil.copyfile(run.metrics, copy.metrics)


def _write_tables(folder: Path, report: Path, spec: ModelSpec) -> None:
    """Classes with make, model, body and year; calibration; what was measured, in numbers and pictures."""
    write_json(folder / CLASSES_FILE, spec.classes.to_rows())
    write_json(folder / CALIBRATION_FILE, asdict(spec.calibration))
    measured = read_json(report / METRICS)
    write_json(folder / EVALUATION_FILE, {name: value for name, value in measured.items() if name != "folder"})
    for picture in PICTURES:
        shutil.copyfile(report / picture, folder / picture)


def _write_for_timm(folder: Path, network: CarNet, spec: ModelSpec) -> None:
    """Weights and configuration as timm loads them from the hub, with the preprocessing as timm spells it."""
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


def _card(repository: Repository, run: RunFolder, data: PreparedData, spec: ModelSpec, split: str) -> ModelCard:
    report, open_set = run.reports / split, run.reports / OPEN_SET
    return ModelCard(
        repository=repository.name,
        spec=spec,
        config=run.read_config(),
        history=run.read_history(),
        photos=data.manifest["photos"],
        metrics=artifacts.read_metrics(report),
        corruptions=artifacts.read_corruptions(report) if _is_of_these_weights(report / CORRUPTIONS, run) else None,
        open_set=artifacts.read_open_set_results(run.reports) if _is_of_these_weights(open_set, run) else None,
        licence=License.of(spec),
        loads_in_timm=spec.head == "linear",
    )
