"""OpenVINO on the CPU: runs an exported folder (`model.xml model.bin twincar.json`) or an `.onnx` file.

Shapes: N photos of H×W pixels, K classes, C channels of an h×w feature map.
"""

from __future__ import annotations

from functools import cache, cached_property
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from twincar.core.errors import CheckpointError, StorageError, UsageError, reason
from twincar.core.options import Arithmetic, EngineName
from twincar.core.telemetry import without_telemetry
from twincar.models.cam.gradcam import HeadWeights
from twincar.models.engines.base import (
    HEAD_OUTPUT,
    OPENVINO_HEADER,
    OPENVINO_MODEL,
    Engine,
    check_shapes,
    damaged,
    engine_errors,
)
from twincar.models.engines.onnxruntime_engine import read_onnx_spec
from twincar.models.spec import ModelSpec

with without_telemetry():
    import openvino
    from openvino.frontend import FrontEndManager

_IR_STARTS = (b"<?xml", b"<net")


class OpenVinoEngine(Engine):
    """A model for OpenVINO's CPU device, compiled at its first use."""

    name: ClassVar[EngineName] = "openvino"

    def __init__(self, model: openvino.Model, arithmetic: Arithmetic) -> None:
        self._model = model
        self._arithmetic = arithmetic
        self._computing = Lock()  # a compiled model refuses to compute for two threads at a time

    @classmethod
    def open(cls, path: Path) -> tuple[Engine, ModelSpec]:
        """Open an exported folder or `.onnx` file.

        Raises:
            UsageError: there is no such model.
            CheckpointError: it is damaged, or was not exported by TwinCar.
        """
        is_onnx = path.suffix == ".onnx"
        spec = read_onnx_spec(path) if is_onnx else _read_spec(path)
        if not is_onnx:
            _check_ir(path)
        with damaged(path, found="OpenVINO cannot read it"):
            model = _read_onnx(path) if is_onnx else _read_ir(path)
            ports = [*model.inputs, *model.outputs]
            check_shapes({port.any_name: _shape_of(port) for port in ports}, spec)
        return cls(model, spec.arithmetic), spec

    @cached_property
    def head(self) -> HeadWeights:
        """The weights of the classification head, which are constant outputs of the model."""
        names = [output.any_name for output in self._model.outputs if output.any_name.startswith(HEAD_OUTPUT)]
        height, width = (size.get_length() for size in list(self._model.inputs[0].partial_shape)[1:3])
        with engine_errors():
            return HeadWeights.from_arrays(_run(self._compile(names), np.zeros((1, height, width, 3), np.uint8)))

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits, N×K, of photos, N×H×W×3."""
        with self._computing:
            return _run(self._logits_model, images)[0]

    def logits_and_features(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits, N×K, and the feature map before pooling, N×C×h×w, of photos, N×H×W×3."""
        with self._computing:
            logits, features = _run(self._features_model, images)
        return logits, features

    # OpenVINO computes and copies every output of a model, so each use has a model with only the outputs it needs.
    @cached_property
    def _logits_model(self) -> openvino.CompiledModel:
        return self._compile(["logits"])

    @cached_property
    def _features_model(self) -> openvino.CompiledModel:
        return self._compile(["logits", "features"])

    def _compile(self, names: list[str]) -> openvino.CompiledModel:
        with engine_errors():
            outputs = [self._model.output(name) for name in names]
            model = openvino.Model(outputs, self._model.get_parameters())
            return _core().compile_model(model, "CPU", _options(self._arithmetic))


def save_openvino(onnx_model: bytes, path: Path, *, half: bool) -> None:
    """Write an ONNX model as OpenVINO's `.xml`, with its weights in a `.bin` beside it, as fp16 if `half`.

    Raises:
        StorageError: it cannot be written.
    """
    model = _core().read_model(onnx_model)
    try:
        openvino.save_model(model, path, compress_to_fp16=half)
    except RuntimeError as error:  # it gives no reason
        raise StorageError(
            f"OpenVINO could not write the model, most likely for lack of space: {reason(error)}. What was "
            "there before is unchanged; make room or choose another folder, and try again."
        ) from error


@cache
def _core() -> openvino.Core:
    """One core per process: it must outlive the models that it has read and compiled."""
    return openvino.Core()


@cache
def _frontends() -> FrontEndManager:
    """The same for the frontends. By default OpenVINO detects formats by content, and some formats name other files."""
    return FrontEndManager()


def _read_onnx(path: Path) -> openvino.Model:
    reader = _frontends().load_by_framework("onnx")
    return reader.convert(reader.load(path))


def _read_ir(folder: Path) -> openvino.Model:
    """Read OpenVINO's own format, whose weights are in the file of the same name; it cannot name other files."""
    reader = _frontends().load_by_framework("ir")
    return reader.convert(reader.load(folder / OPENVINO_MODEL))


def _check_ir(folder: Path) -> None:
    """Check that a folder's model is in OpenVINO's own format.

    Raises:
        CheckpointError: it is not XML.
    """
    with damaged(folder), (folder / OPENVINO_MODEL).open("rb") as file:
        start = file.read(len(_IR_STARTS[0]))
    if not start.startswith(_IR_STARTS):
        raise CheckpointError(
            f"Expected OpenVINO's XML in {folder / OPENVINO_MODEL}, but it begins with {start!r}. It was not opened, "
            "because other formats can name any file on this computer; export the model again: "
            "twincar export RUN --format openvino"
        )


def _shape_of(port: Any) -> list[int | None]:
    """The shape of a port; None for a dynamic size, such as the number of photos."""
    return [size.get_length() if size.is_static else None for size in port.partial_shape]


def _options(arithmetic: Arithmetic) -> dict[str, Any]:
    """By default OpenVINO uses bf16 wherever the CPU can; results must be those that the export has checked."""
    bf16 = arithmetic == "bf16" and "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32"}


def _read_spec(folder: Path) -> ModelSpec:
    try:
        text = (folder / OPENVINO_HEADER).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(
            f"Expected {OPENVINO_HEADER} beside {OPENVINO_MODEL} in {folder}, but it is not there. "
            "Export the model again: twincar export RUN --format openvino"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"Expected the header of a model in {folder / OPENVINO_HEADER}: {error}") from None
    return ModelSpec.from_header(text, str(folder))


def _run(model: openvino.CompiledModel, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    with engine_errors():
        results = model(np.ascontiguousarray(images))
    return [results[index] for index in range(len(model.outputs))]
