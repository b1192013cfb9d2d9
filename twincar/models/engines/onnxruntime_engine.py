"""An exported `.onnx` file on onnxruntime, on the CPU.

Shapes: N photos of H×W pixels, K classes, C channels of an h×w feature map.
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from twincar.core.errors import CheckpointError, UsageError
from twincar.core.machine import compute_threads
from twincar.core.options import EngineName
from twincar.models.cam.gradcam import HeadWeights
from twincar.models.engines.base import HEAD_OUTPUT, Engine, check_shapes, damaged, engine_errors
from twincar.models.engines.onnx_external_data import names_other_files
from twincar.models.spec import HEADER_KEY, ModelSpec

if TYPE_CHECKING:
    import onnxruntime

_ERRORS_ONLY = 3


class OnnxRuntimeEngine(Engine):
    """An onnxruntime session."""

    name: ClassVar[EngineName] = "onnxruntime"

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session

    @classmethod
    def open(cls, path: Path) -> tuple[Engine, ModelSpec]:
        """Open an exported file.

        Raises:
            UsageError: there is no such file.
            CheckpointError: it is damaged, or was not exported by TwinCar.
        """
        session = open_session(path)
        spec = _spec_of(session, path)
        with damaged(path):
            shapes = {found.name: found.shape for found in (*session.get_inputs(), *session.get_outputs())}
            check_shapes(shapes, spec)
        return cls(session), spec

    @cached_property
    def head(self) -> HeadWeights:
        """The weights of the classification head, which are constant outputs of the model."""
        names = [output.name for output in self._session.get_outputs() if output.name.startswith(HEAD_OUTPUT)]
        height, width = self._session.get_inputs()[0].shape[1:3]
        with engine_errors():
            return HeadWeights.from_arrays(self._run(names, np.zeros((1, height, width, 3), np.uint8)))

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits, N×K, of photos, N×H×W×3."""
        return self._run(["logits"], images)[0]

    def logits_and_features(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits, N×K, and the feature map before pooling, N×C×h×w, of photos, N×H×W×3."""
        logits, features = self._run(["logits", "features"], images)
        return logits, features

    def _run(self, names: list[str], images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        with engine_errors():
            outputs: list[NDArray[np.float32]] = self._session.run(names, {"images": images})
        return outputs


def read_onnx_spec(path: Path) -> ModelSpec:
    """The header of an exported file; raises the same errors as `OnnxRuntimeEngine.open`."""
    return _spec_of(open_session(path, optimize=False), path)


def open_session(
    path: Path, expected: str = "an exported model", *, optimize: bool = True
) -> onnxruntime.InferenceSession:
    """Open an ONNX file for the CPU, without threads that spin.

    Raises:
        UsageError: there is no such file.
        CheckpointError: it is not an ONNX file, or refers to other files.
    """
    if not path.is_file():
        raise UsageError(f"Expected {expected} at {path}, but there is no such file.")
    # onnxruntime sends usage data to its vendor unless this is set before it is imported.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = compute_threads()
    # Threads that spin while they wait take cores from other work, such as decoding the next photos.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    check_self_contained(path)
    with damaged(path, "a whole ONNX file"):
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def check_self_contained(path: Path) -> None:
    """Check that an ONNX file does not refer to other files.

    Raises:
        CheckpointError: it has external data, or is not an ONNX file.
    """
    with damaged(path, "a whole ONNX file"):
        others = names_other_files(path.read_bytes())
    if others:
        raise CheckpointError(
            f"Expected a model whose weights are all in {path}, but it names other files. They were not opened, "
            "because they can be any file on this computer; export the model into one file."
        )


def _spec_of(session: onnxruntime.InferenceSession, path: Path) -> ModelSpec:
    with damaged(path):
        header = session.get_modelmeta().custom_metadata_map.get(HEADER_KEY)
    if header is None:
        raise CheckpointError(
            f"Expected a model that TwinCar exported in {path}, but it has no class names and no preprocessing. "
            "Make one: twincar export RUN"
        )
    return ModelSpec.from_header(header, str(path))
