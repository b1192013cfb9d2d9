"""Exports a trained model to one file for onnxruntime or one folder for OpenVINO, and checks it before it is there.

What leaves here takes uint8 photos, N×H×W×3 with any N, and gives `logits` (N×K), `features` (N×C×h×w, the map before
pooling) and the classifier's weights (`head.0`, `head.1`, ...), so that Grad-CAM++ needs no torch. Normalisation is
inside; preprocessing, class names and provenance travel as the header of `ModelSpec`.

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
from twincar.evaluation.subject import Subject
from twincar.models.bundled import MODEL
from twincar.models.cam.gradcam import HeadWeights
from twincar.models.engines.base import OPENVINO_HEADER, OPENVINO_MODEL, Engine
from twincar.models.engines.open import compute_logits, open_engine
from twincar.models.spec import HEADER_KEY, ModelSpec

log = logging.getLogger(__name__)


_CHECKED = 256  # validation photos a file is compared on; for int8, where accuracy decides, all
_CALIBRATED = 300  # training photos that set the scales of int8
_LARGEST_DIFFERENCE: dict[Arithmetic, float] = {"fp32": 1e-3, "fp16": 0.02, "bf16": 0.1}  # of a probability
_JUDGED_BY_ACCURACY: tuple[Arithmetic, ...] = ("int8", "int8-weights")
_LARGEST_LOSS = 0.005  # of accuracy by int8, a share of the photos


@dataclass(frozen=True)
class ExportComparison:
    """An exported model beside the network it came from, on the same validation photos."""

    photos: int
    largest_difference: float
    """Of any probability."""
    equal_answers: float
    """Share of the photos with the same likeliest class."""
    accuracy_before: float
    """Of the network, a share of the photos."""
    accuracy_after: float
    """Of the exported model."""


@dataclass(frozen=True)
class Exported:
    """What an export came to."""

    path: Path
    format: ExportFormat
    precision: Arithmetic
    bytes: int
    kept_in_fp32: int
    """Layers left out of int8, because with them it lost too much."""
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
    """Export a model, and compare it with the network on validation photos before it takes its place.

    Args:
        model: a run folder; any other model needs `data_folder`. An exported `.onnx` file in fp32 becomes any form but
            'int8', one in another precision an OpenVINO folder in the same; the bundled model unless given.
        format: 'onnx' is one file, 'openvino' a folder.
        precision: 'fp16' stores half as much and computes in fp32; 'bf16' (OpenVINO only) also computes in bf16 where
            the CPU can; 'int8' is calibrated on training photos, and keeps sensitive layers in fp32 if it must;
            'int8-weights' stores a quarter and computes in fp32.
        out: where to; by default beside the weights, named after format and precision.
        data_folder: photos to compare on: a prepared data set, class folders, or a CSV; only a run knows its own.
        force: write it even if it fails the comparison.
        on_photo: called with photos compared and in all, for a progress bar.

    Returns:
        The path that was written, its size in bytes, and how it compares with the network.

    Raises:
        UsageError: something is at `out`, or the arguments do not go together.
        MissingExtraError: int8 or OpenVINO is asked for, and its packages are not installed.
        TwinCarError: the exported model answers differently, or int8 loses more than half a point of accuracy;
            nothing is written.
        StorageError: the disk; nothing is written.
    """
    subject = Subject.open(model, data_folder=data_folder)
    out = Path(out) if out else _default_out(subject, format, precision)
    clear_unfinished(out.parent)  # before a rerun is refused because `out` is there: killed right after, it left more
    _check_arguments(format, precision, out)
    data, source = subject.data, _SourceGraph.of(subject, format, precision)
    spec = replace(subject.spec, arithmetic=precision)
    judge = _ExportChecker(subject.engine, spec, data, subject.split, on_photo)
    attempts = [[], sensitive_nodes(source.model)] if precision == "int8" else [[]]
    with working_folder(out) as scratch:
        for kept in attempts:
            candidate = scratch / f"{len(kept)}" / out.name
            changed = _in_precision(source, data, spec, kept)
            _write(changed, replace(spec, provenance=_provenance(spec, format)), format, candidate)
            comparison = judge.compare(candidate, format)
            failure = _failure(precision, comparison)
            if failure is None:
                break
            if kept is not attempts[-1]:
                log.info("%s Trying again with sensitive layers kept in fp32.", failure)
        if failure and not force:
            raise TwinCarError(f"{failure} Nothing was written; --force writes it all the same.")
        candidate.replace(out)
    return Exported(out, format, precision, _size(out), len(kept), comparison)


@dataclass(frozen=True)
class _SourceGraph:
    """The graph that an export begins with."""

    model: onnx.ModelProto
    head: HeadWeights | None
    """The classifier's weights, to be added as outputs; None where the graph has them."""
    precision: Arithmetic
    """That it is in."""

    @classmethod
    def of(cls, subject: Subject, format: ExportFormat, precision: Arithmetic) -> _SourceGraph:
        """Of torch weights, or of an exported file where it can take the wanted form.

        Raises:
            UsageError: it cannot.
        """
        engine, spec = subject.engine, subject.spec
        if engine.name == "torch":
            from twincar.models.engines.torch_engine import TorchEngine

            assert isinstance(engine, TorchEngine)  # what its name says
            return cls(to_onnx(engine.network, spec.preprocessing), engine.head, "fp32")
        same = spec.arithmetic == precision
        if subject.path.suffix != ".onnx":
            problem = "an OpenVINO folder is not turned into anything else"
        elif spec.arithmetic != "fp32" and not same:
            problem = f"it is in {spec.arithmetic} and stays so (--precision {spec.arithmetic})"
        elif precision == "int8" and not same:
            problem = "int8 is made from weights only"
        elif same and format == "onnx":
            problem = "it is one already (--format openvino, or another --precision)"
        else:
            return cls(onnx.load(subject.path, load_external_data=False), None, spec.arithmetic)
        raise UsageError(
            f"Expected a run folder, .safetensors or .pth, or an exported model that can take the form {format}, "
            f"{precision}, but {subject.name}: {problem}. Export it from the weights it was made of."
        )


class _ExportChecker:
    """Compares exported models with a network, whose answers are computed once."""

    def __init__(
        self, engine: Engine, spec: ModelSpec, data: PreparedData, split: str, on_photo: Progress | None
    ) -> None:
        photos = data.split(split)
        chosen = photos if spec.arithmetic in _JUDGED_BY_ACCURACY else spread(photos, _CHECKED)
        to_model = data.classes.indices_in(spec.classes)
        self.labels = np.array([-1 if photo.label is None else to_model[photo.label] for photo in chosen])
        self.paths = [data.photo(photo) for photo in chosen]
        self.preprocessing, self.calibration = spec.preprocessing, spec.calibration
        self.expected = self._probabilities(engine, on_photo)

    def compare(self, path: Path, format: ExportFormat) -> ExportComparison:
        """The model at `path`, opened as a user would open it."""
        engine, _ = open_engine(path, "onnxruntime" if format == "onnx" else "openvino")
        found = self._probabilities(engine, None)
        before, after = self.expected.argmax(axis=1), found.argmax(axis=1)
        return ExportComparison(
            photos=len(self.paths),
            largest_difference=float(abs(found - self.expected).max()),
            equal_answers=float((before == after).mean()),
            accuracy_before=float((before == self.labels).mean()),
            accuracy_after=float((after == self.labels).mean()),
        )

    def _probabilities(self, engine: Engine, on_photo: Progress | None) -> NDArray[np.float32]:
        logits = compute_logits(engine, self.preprocessing, self.paths, on_photo=on_photo)[:, 0]
        return self.calibration.probabilities(logits)


def _failure(precision: Arithmetic, comparison: ExportComparison) -> str | None:
    if precision in _JUDGED_BY_ACCURACY:
        lost = comparison.accuracy_before - comparison.accuracy_after
        if lost <= _LARGEST_LOSS:
            return None
        return (
            f"Expected {precision} to lose at most {_LARGEST_LOSS:.1%} of accuracy, and it fell from "
            f"{comparison.accuracy_before:.1%} to {comparison.accuracy_after:.1%} of {comparison.photos} photos."
        )
    largest = _LARGEST_DIFFERENCE[precision]
    if comparison.largest_difference <= largest:
        return None
    return (
        f"Expected probabilities within {largest} of the network's, and on {comparison.photos} photos one differs by "
        f"{comparison.largest_difference:.4f}."
    )


def _in_precision(source: _SourceGraph, data: PreparedData, spec: ModelSpec, kept: list[str]) -> onnx.ModelProto:
    model = source.model
    if spec.arithmetic == source.precision != "fp32":  # an exported file, which is in that precision
        return model
    if spec.arithmetic == "int8":
        model = quantize(model, _inputs(data, spec.preprocessing), kept)
    if spec.arithmetic in _JUDGED_BY_ACCURACY:
        shrink_weights(model, kept)
    if source.head:
        add_head_outputs(model, source.head)
    forget_origin(model)
    return model if spec.arithmetic == "fp32" else halve_weights(model)


def _inputs(data: PreparedData, preprocessing: Preprocessing) -> Iterator[NDArray[np.uint8]]:
    """Training photos, unvaried, 1×H×W×3 each."""
    paths = [data.photo(photo) for photo in spread(data.split("train"), _CALIBRATED)]
    for batch in iterate_batches(paths, preprocessing, batch_size=1):
        for error in batch.failures.values():
            raise error
        yield batch.images[:, 0]


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
    """Beside the weights; of the bundled model or one on the hub, in the working folder."""
    ending = f"{precision}.onnx" if format == "onnx" else f"{precision}-openvino"
    if subject.path == MODEL or not Path(subject.model or MODEL).exists():
        return Path(f"{slug(subject.name)}-{ending}")
    return (subject.path if subject.run else subject.path.parent) / f"model-{ending}"


def _check_arguments(format: ExportFormat, precision: Arithmetic, out: Path) -> None:
    for needs, module, extra, what in (
        (precision == "int8", "nncf", "quantize", "Quantizing to int8"),
        (format == "openvino", "openvino", "openvino", "Exporting for OpenVINO"),
    ):
        if needs and find_spec(module) is None:  # said before the minutes that the comparison takes
            raise MissingExtraError(f"{what} needs {module}: pip install 'twincar[{extra}]'.")
    if format == "onnx" and precision == "bf16":
        raise UsageError("Expected --format openvino for --precision bf16: onnxruntime does not compute in it.")
    if format == "onnx" and out.suffix != ".onnx":
        raise UsageError(f"Expected a name ending in .onnx for --out, and found {out}.")
    if out.exists():
        raise UsageError(f"An exported model is never overwritten, and {out} exists. Delete it, or choose --out.")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else sum(file.stat().st_size for file in path.iterdir())
