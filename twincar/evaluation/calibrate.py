"""Fit the temperature and the rejection thresholds of a model on photos that it was not trained on, and write it.

Weights without calibration, such as third-party ones, then give calibrated probabilities and reject photos that do not
look like a known car. The weights themselves are unchanged.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from twincar.core.errors import UsageError
from twincar.core.files import working_folder, write_text
from twincar.core.portable import rename_folder
from twincar.core.progress import Progress
from twincar.data.training_record import count_seen
from twincar.evaluation.split_predictions import labelled_split, predictions_of
from twincar.evaluation.subject import Subject
from twincar.metrics.reliability import CalibrationReport, calibration_report
from twincar.models.calibration import softmax
from twincar.models.calibration_fit import fit_calibration
from twincar.models.engines.base import OPENVINO_HEADER
from twincar.models.spec import ModelSpec

log = logging.getLogger(__name__)

_FEW = 100  # photos; the rejection of one in twenty of these depends on five photos


@dataclass(frozen=True)
class Calibrated:
    """The model that was written, and its calibration."""

    path: Path
    split: str
    photos: int
    calibration: CalibrationReport
    """On the photos that it was fitted on; on other photos it is a little worse."""

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self) | {"path": str(self.path)}


def calibrate(
    model: str | Path | None = None,
    *,
    out: str | Path,
    data_folder: str | Path | None = None,
    split: str | None = None,
    on_photo: Progress | None = None,
) -> Calibrated:
    """Fit the calibration of a model, replacing the one that it has, and write the model with it.

    Args:
        model: a run folder, a model file, or owner/name on the hub; by default the bundled model.
        out: what to write: .safetensors for torch weights, .onnx for an exported file, a folder for an OpenVINO folder.
        data_folder: a prepared data set, class folders, or a CSV file; by default the data that a run was trained on.
        split: a split that the model was not trained on; by default 'val', or 'test' if there are no validation photos.
        on_photo: called with the number of finished photos and their total, for a progress bar.

    Returns:
        The path that was written, and the calibration error before and after on these photos.

    Raises:
        UsageError: there is no such model or data, `out` exists or has another suffix, or the model was trained on the
            photos.
        DataError: there is no such split, it has no labels, or photos cannot be read.
        LabelError: the data has classes that the model does not know.
        StorageError: the model cannot be written.
    """
    subject = Subject.open(model, data_folder=data_folder, split=split)
    out = Path(out)
    _check_out(subject, out)
    spec = subject.spec
    annotations, labels = labelled_split(subject.data, subject.split, spec.classes)
    seen = count_seen(subject.run, annotations) if subject.run else None
    trained = seen.train if seen else len(labels) * (subject.is_own_data and subject.split == "train")
    if trained:
        raise UsageError(
            f"Expected photos that the model was not trained on, because it is overconfident on those, but it was "
            f"trained on {trained} of these {len(labels)}. Choose --split val, or other --data."
        )
    if len(labels) < _FEW:
        log.warning(
            "Fitted on %d photos only: with fewer than %d, rejection depends on single photos.", len(labels), _FEW
        )
    photos = [subject.data.photo(annotation) for annotation in annotations]
    logits = subject.compute_logits(photos, on_photo=on_photo)[0][:, 0]
    calibration = fit_calibration(logits, labels)
    fitted_on = {"data": subject.data.name, "split": subject.split, "photos": len(labels)}
    provenance = {**spec.provenance, "calibration": fitted_on}
    _write(subject, replace(spec, calibration=calibration, provenance=provenance), out)
    before, after = (predictions_of(labels, logits, of) for of in (softmax, calibration.probabilities))
    report = calibration_report(calibration.temperature, before, after)
    return Calibrated(out, subject.split, len(labels), report)


def _check_out(subject: Subject, out: Path) -> None:
    suffix = _suffix(subject)
    if out.suffix != suffix:
        what = f"a name ending in {suffix}" if suffix else "a folder, without a suffix,"
        raise UsageError(f"Expected {what} for --out, as for {subject.name}, but found {out}.")
    if out.exists():
        raise UsageError(f"A model is never overwritten, and {out} exists. Delete it, or choose another --out.")


def _suffix(subject: Subject) -> str:
    if subject.path.suffix == ".onnx":
        return ".onnx"
    return ".safetensors" if subject.run or subject.path.is_file() else ""


def _write(subject: Subject, spec: ModelSpec, out: Path) -> None:
    suffix = _suffix(subject)
    if suffix == ".onnx":
        from twincar.models.onnx_head import ExportedModel

        ExportedModel.read(subject.path).write(out, spec)
    elif suffix:
        from twincar.models.checkpoint import save_model
        from twincar.models.engines.torch_engine import open_network

        save_model(out, open_network(subject.path)[0], spec)
    else:
        with working_folder(out) as folder:
            shutil.copytree(subject.path, folder, dirs_exist_ok=True)
            write_text(folder / OPENVINO_HEADER, spec.to_header())
            rename_folder(folder, out)
