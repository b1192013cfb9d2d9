"""Export a model as a file for onnxruntime or a folder for OpenVINO, compared with the network before it is written.

An exported model takes uint8 photos, N×H×W×3 with any N, and returns `logits` (N×K), `features` (N×C×h×w, the map
before pooling) and the weights of the classifier (`head.0`, `head.1`, ...), so that Grad-CAM++ needs no torch.
Normalisation is part of its graph, and an `.onnx` file that is exported with its training data has the statistics by
which `teach` adds classes; preprocessing, class names and provenance are in its header, see `ModelSpec`.

Shapes: N photos of H×W pixels, K classes, C channels of an h×w feature map.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from twincar.core.errors import MissingExtraError, TwinCarError, UsageError
from twincar.core.files import clear_unfinished, working_folder, write_bytes, write_text
from twincar.core.labels import slug
from twincar.core.options import Arithmetic, ExportFormat
from twincar.core.preprocess import Preprocessing, iterate_batches
from twincar.core.progress import Progress
from twincar.data.dataset import PreparedData, spread
from twincar.deploy.onnx_graph import (
    OPSET,
    add_head_outputs,
    forget_origin,
    halve_weights,
    quantize,
    sensitive_nodes,
    shrink_weights,
    to_onnx,
)
from twincar.evaluation.feature_statistics import compute_statistics
from twincar.evaluation.subject import Subject
from twincar.models.bundled import MODEL
from twincar.models.cam.gradcam import HeadWeights
from twincar.models.class_statistics import ClassStatistics
from twincar.models.engines.base import OPENVINO_HEADER, OPENVINO_MODEL, Engine
from twincar.models.engines.open import compute_logits, open_engine
from twincar.models.onnx_head import ExportedModel
from twincar.models.spec import HEADER_KEY, ModelSpec

log = logging.getLogger(__name__)


_COMPARED = 256  # validation photos for the comparison; int8 is compared on all, by accuracy
_CALIBRATED = 300  # training photos by which int8 is calibrated
_MAX_DIFFERENCE: dict[Arithmetic, float] = {"fp32": 1e-3, "fp16": 0.02, "bf16": 0.1}  # of a probability
_COMPARED_BY_ACCURACY: tuple[Arithmetic, ...] = ("int8", "int8-weights")
_MAX_LOSS = 0.005  # of accuracy by int8, a share of the photos


@dataclass(frozen=True)
class ExportComparison:
    """The comparison of an exported model with its network on the same validation photos."""

    photos: int
    largest_difference: float
    """Largest difference of a probability."""
    equal_predictions: float
    """Share of the photos with the same most likely class."""
    accuracy_before: float
    """Accuracy of the network, a share of the photos."""
    accuracy_after: float
    """Accuracy of the exported model."""


@dataclass(frozen=True)
class Exported:
    """The result of an export."""

    path: Path
    format: ExportFormat
    precision: Arithmetic
    bytes: int
    kept_in_fp32: int
    """Number of layers that are not in int8, because accuracy fell too much with them."""
    comparison: ExportComparison

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {**asdict(self), "path": str(self.path), "opset": OPSET}


def export(
    model: str | Path | None = None,
    *,
    format: ExportFormat = "onnx",
    precision: Arithmetic = "fp32",
    out: str | Path | None = None,
    data_folder: str | Path | None = None,
    force: bool = False,
    on_photo: Progress | None = None,
) -> Exported:
    """Export a model; it is compared with the network on validation photos before it is written to `out`.

    Args:
        model: a run folder, or any other model together with `data_folder`; by default the bundled model. An exported
            `.onnx` file in fp32 can be exported in all precisions except 'int8'; one in another precision can become an
            OpenVINO folder in the same precision.
        format: 'onnx' is one file, 'openvino' a folder.
        precision: 'fp16' halves the size and computes in fp32; 'bf16' (OpenVINO only) also computes in bf16 if the CPU
            supports it; 'int8' is calibrated on training photos, and keeps sensitive layers in fp32 if accuracy falls
            too much; 'int8-weights' is a quarter of the size and computes in fp32.
        out: the file or folder to write; by default beside the weights, named after format and precision.
        data_folder: photos for the comparison: a prepared data set, class folders, or a CSV; by default those of a run.
        force: write it even if the comparison fails.
        on_photo: called with photos compared and in all, for a progress bar.

    Returns:
        The path that was written, its size in bytes, and how it compares with the network.

    Raises:
        UsageError: something is at `out`, or the arguments do not go together.
        MissingExtraError: int8 or OpenVINO is requested, and its packages are not installed.
        TwinCarError: the predictions of the exported model differ, or int8 loses more than half a percentage point of
            accuracy; nothing is written.
        StorageError: the disk is full or cannot be written to; nothing is written.
    """
    subject = Subject.open(model, data_folder=data_folder)
    out = Path(out) if out else _default_out(subject, format, precision)
    clear_unfinished(out.parent)  # first, because an export that was killed after writing `out` may have left files
    _check_arguments(format, precision, out)
    data, source = subject.data, _SourceGraph.of(subject, format, precision)
    spec = replace(subject.spec, arithmetic=precision)
    checker = _ExportChecker(subject.engine, spec, data, subject.split, on_photo)
    attempts = [[], sensitive_nodes(source.model)] if precision == "int8" else [[]]
    with working_folder(out) as scratch:
        for kept in attempts:
            candidate = scratch / f"{len(kept)}" / out.name
            changed = _in_precision(source, data, spec, kept)
            _write(changed, replace(spec, provenance=_provenance(spec, format)), format, candidate)
            comparison = checker.compare(candidate, format)
            failure = _failure(precision, comparison)
            if failure is None:
                break
            if kept is not attempts[-1]:
                log.info("%s Trying again with sensitive layers kept in fp32.", failure)
        if failure and not force:
            raise TwinCarError(f"{failure} Nothing was written; --force writes it anyway.")
        candidate.replace(out)
    return Exported(out, format, precision, _size(out), len(kept), comparison)


@dataclass(frozen=True)
class _SourceGraph:
    """The graph from which a model is exported."""

    model: onnx.ModelProto
    head: HeadWeights | None
    """The weights of the classifier, to be added as outputs; None if the graph has them."""
    precision: Arithmetic
    """The precision of the graph."""
    statistics: ClassStatistics | None = None
    """The statistics of the classes, to be added; None if the graph has them, or if there are none."""

    @classmethod
    def of(cls, subject: Subject, format: ExportFormat, precision: Arithmetic) -> _SourceGraph:
        """The graph of torch weights, or of an exported file that can be exported in this form.

        Raises:
            UsageError: the model cannot be exported in this form.
        """
        engine, spec = subject.engine, subject.spec
        if engine.name == "torch":
            from twincar.models.engines.torch_engine import TorchEngine

            assert isinstance(engine, TorchEngine)  # as its name says
            statistics = _statistics(subject, format)
            return cls(to_onnx(engine.network, spec.preprocessing), engine.head, "fp32", statistics)
        same = spec.arithmetic == precision
        if subject.path.suffix != ".onnx":
            problem = "an OpenVINO folder cannot be exported again"
        elif spec.arithmetic != "fp32" and not same:
            problem = f"it is in {spec.arithmetic}, which cannot be changed (--precision {spec.arithmetic})"
        elif precision == "int8" and not same:
            problem = "int8 needs the weights of a run"
        elif same and format == "onnx":
            problem = "it has this form already (--format openvino, or another --precision)"
        else:
            return cls(onnx.load(subject.path, load_external_data=False), None, spec.arithmetic)
        raise UsageError(
            f"Expected a run folder, .safetensors or .pth, or an exported model that can be exported as {format} in "
            f"{precision}, but found {subject.name}: {problem}. Export the weights from which it was made."
        )


class _ExportChecker:
    """Compares exported models with a network, whose predictions are computed once."""

    def __init__(
        self, engine: Engine, spec: ModelSpec, data: PreparedData, split: str, on_photo: Progress | None
    ) -> None:
        photos = data.split(split)
        chosen = photos if spec.arithmetic in _COMPARED_BY_ACCURACY else spread(photos, _COMPARED)
        to_model = data.classes.indices_in(spec.classes)
        self.labels = np.array([-1 if photo.label is None else to_model[photo.label] for photo in chosen])
        self.paths = [data.photo(photo) for photo in chosen]
        self.preprocessing, self.calibration = spec.preprocessing, spec.calibration
        self.expected = self._probabilities(engine, on_photo)

    def compare(self, path: Path, format: ExportFormat) -> ExportComparison:
        """Compare the model at `path`, opened as a user would open it."""
        engine, _ = open_engine(path, "onnxruntime" if format == "onnx" else "openvino")
        found = self._probabilities(engine, None)
        before, after = self.expected.argmax(axis=1), found.argmax(axis=1)
        return ExportComparison(
            photos=len(self.paths),
            largest_difference=float(abs(found - self.expected).max()),
            equal_predictions=float((before == after).mean()),
            accuracy_before=float((before == self.labels).mean()),
            accuracy_after=float((after == self.labels).mean()),
        )

    def _probabilities(self, engine: Engine, on_photo: Progress | None) -> NDArray[np.float32]:
        logits = compute_logits(engine, self.preprocessing, self.paths, on_photo=on_photo)[:, 0]
        return self.calibration.probabilities(logits)


def _failure(precision: Arithmetic, comparison: ExportComparison) -> str | None:
    if precision in _COMPARED_BY_ACCURACY:
        lost = comparison.accuracy_before - comparison.accuracy_after
        if lost <= _MAX_LOSS:
            return None
        return (
            f"Expected {precision} to lose at most {_MAX_LOSS:.1%} of accuracy, but it fell from "
            f"{comparison.accuracy_before:.1%} to {comparison.accuracy_after:.1%} of {comparison.photos} photos."
        )
    largest = _MAX_DIFFERENCE[precision]
    if comparison.largest_difference <= largest:
        return None
    return (
        f"Expected probabilities within {largest} of the network's, but on {comparison.photos} photos one differs by "
        f"{comparison.largest_difference:.4f}."
    )


def _statistics(subject: Subject, format: ExportFormat) -> ClassStatistics | None:
    """The statistics by which an `.onnx` file can be taught more classes; None without training data."""
    data = subject.data
    if format != "onnx" or not data.has_split("train"):
        return None
    if any(photo.label is None for photo in data.split("train")) or data.classes.names != subject.spec.classes.names:
        return None
    return compute_statistics(subject.engine, subject.spec, data)


def _in_precision(source: _SourceGraph, data: PreparedData, spec: ModelSpec, kept: list[str]) -> onnx.ModelProto:
    model = source.model
    if spec.arithmetic == source.precision != "fp32":  # an exported file in this precision
        return model
    if spec.arithmetic == "int8":
        model = quantize(model, _inputs(data, spec.preprocessing), kept)
    if spec.arithmetic in _COMPARED_BY_ACCURACY:
        shrink_weights(model, kept)
    if source.head:
        add_head_outputs(model, source.head)
    if source.statistics:
        ExportedModel(model, "the exported model").statistics = source.statistics
    forget_origin(model)
    return model if spec.arithmetic == "fp32" else halve_weights(model)


def _inputs(data: PreparedData, preprocessing: Preprocessing) -> Iterator[NDArray[np.uint8]]:
    """Training photos without augmentation, 1×H×W×3 each."""
    paths = [data.photo(photo) for photo in spread(data.split("train"), _CALIBRATED)]
    for images in iterate_batches(paths, preprocessing, batch_size=1):
        yield images[:, 0]


def _write(model: onnx.ModelProto, spec: ModelSpec, format: ExportFormat, path: Path) -> None:
    if format == "onnx":
        onnx.helper.set_model_props(model, {HEADER_KEY: spec.to_header()})
        write_bytes(path, model.SerializeToString())
        return
    from twincar.models.engines.openvino_engine import save_openvino

    path.mkdir(parents=True)
    save_openvino(model.SerializeToString(), path / OPENVINO_MODEL, half=spec.arithmetic != "fp32")
    write_text(path / OPENVINO_HEADER, spec.to_header())


def _provenance(spec: ModelSpec, format: ExportFormat) -> dict[str, Any]:
    return {**spec.provenance, "export": {"format": format, "precision": spec.arithmetic, "opset": OPSET}}


def _default_out(subject: Subject, format: ExportFormat, precision: Arithmetic) -> Path:
    """A path beside the weights; for the bundled model or one on the hub, in the working folder."""
    ending = f"{precision}.onnx" if format == "onnx" else f"{precision}-openvino"
    if subject.path == MODEL or not Path(subject.model or MODEL).exists():
        return Path(f"{slug(subject.name)}-{ending}")
    return (subject.path if subject.run else subject.path.parent) / f"model-{ending}"


def _check_arguments(format: ExportFormat, precision: Arithmetic, out: Path) -> None:
    for needs, module, extra, what in (
        (precision == "int8", "nncf", "quantize", "Quantizing to int8"),
        (format == "openvino", "openvino", "openvino", "Exporting for OpenVINO"),
    ):
        if needs and find_spec(module) is None:  # before the comparison, which takes minutes
            raise MissingExtraError(f"{what} needs {module}: pip install 'twincar[{extra}]'.")
    if format == "onnx" and precision == "bf16":
        raise UsageError("Expected --format openvino for --precision bf16: onnxruntime does not compute in it.")
    if format == "onnx" and out.suffix != ".onnx":
        raise UsageError(f"Expected a name ending in .onnx for --out, and found {out}.")
    if out.exists():
        raise UsageError(
            f"An exported model is never overwritten, but {out} exists. Delete it, or choose another --out."
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else sum(file.stat().st_size for file in path.iterdir())
