"""Engines: uint8 photos in, logits and feature maps out; torch, onnxruntime and OpenVINO behind one small interface.

Importing this module imports none of them; opening a model imports the one it takes.

Shapes: N photos with V views each of H×W pixels, K classes, C channels of an h×w feature map.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from twincar.core.errors import CheckpointError, MissingExtraError, UsageError
from twincar.core.labels import ClassNames
from twincar.core.options import EngineName
from twincar.core.preprocess import Photo, Preprocessing, iterate_batches
from twincar.models.cam.gradcam import HeadWeights
from twincar.models.spec import ModelSpec

OPENVINO_MODEL, OPENVINO_HEADER = "model.xml", "twincar.json"
"""The files that make a folder an OpenVINO model of ours."""
_BATCH = 64
HEAD_OUTPUT = "head."
"""How the names of the outputs begin that are the classifier's weights."""


class Engine(ABC):
    """A model on a device."""

    name: ClassVar[EngineName]

    @cached_property
    @abstractmethod
    def head(self) -> HeadWeights:
        """The classifier's weights, for Grad-CAM++."""

    @abstractmethod
    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits, N×K, of photos, N×H×W×3."""

    @abstractmethod
    def logits_and_features(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits, N×K, and the feature map before pooling, N×C×h×w, of photos, N×H×W×3."""

    def view_logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits, N×V×K, of photos in several views, N×V×H×W×3."""
        photos, views = images.shape[:2]
        return self.logits(images.reshape(photos * views, *images.shape[2:])).reshape(photos, views, -1)


@contextmanager
def damaged(path: Path, expected: str = "a whole model", found: str = "it cannot be opened") -> Iterator[None]:
    """Turn whatever an engine raises while it opens a file into one error; each has kinds of its own."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"Expected {expected} in {path}, and {found}: {_reason(error)}") from None


@contextmanager
def engine_errors() -> Iterator[None]:
    """Likewise while it computes: a file may be whole and still not compute what its header says."""
    try:
        yield
    except Exception as error:
        raise CheckpointError(
            f"Expected a model that answers as its header says, and it does not: {_reason(error)} Export it again."
        ) from None


def check_shapes(shapes: Mapping[str, Sequence[Any]], spec: ModelSpec) -> None:
    """See that a model's input and outputs are those its header promises, as far as the file tells.

    Raises:
        ValueError: they are not.
    """
    size, classes = [spec.preprocessing.height, spec.preprocessing.width, 3], len(spec.classes)
    expected: dict[str, list[int | None]] = {
        "images": [None, *size],
        "logits": [None, classes],
        "features": [None, None, None, None],
    }
    for name, wanted in expected.items():
        found = shapes.get(name)
        if found is None or len(found) != len(wanted) or (list(found[1:3]) != size[:2] and name == "images"):
            raise ValueError(f"{name} has the shape {found}, not {wanted}")
        if any(isinstance(a, int) and b is not None and a != b for a, b in zip(found, wanted, strict=True)):
            raise ValueError(f"{name} has the shape {found}, not {wanted}")


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def open_engine(
    path: Path, engine: EngineName = "auto", *, classes: ClassNames | None = None, backbone: str = ""
) -> tuple[Engine, ModelSpec]:
    """Open a model for answering.

    Args:
        path: a run folder, a `.safetensors` file of ours, published weights (`.pth`), or an exported model: an `.onnx`
            file or an OpenVINO folder.
        engine: 'auto' takes torch for the first three, OpenVINO for its folder, and for an `.onnx` file onnxruntime,
            unless its arithmetic is int8, which OpenVINO computes several times quicker, and OpenVINO is installed.
        classes: names for published weights, which carry none; those of Stanford Cars unless given.
        backbone: of published weights; that of the published model unless given.

    Raises:
        UsageError: nothing is there, that engine does not open such a model, or the model has other names or another
            backbone of its own.
        CheckpointError: the model is damaged, not safe to open, or does not fit.
        MissingExtraError: the engine is not installed.
    """
    opened, spec = _open(path, engine, classes, backbone)
    if classes is not None and classes.names != spec.classes.names:
        pairs = zip_longest(classes.names, spec.classes.names, fillvalue="nothing")
        other, own = next((other, own) for other, own in pairs if other != own)
        raise UsageError(
            f"Expected --classes with weights that carry no names, but {path} has names of its own, such as {own!r} in "
            f"place of {other!r}. Leave --classes out."
        )
    if backbone and backbone != spec.backbone:
        raise UsageError(
            f"Expected --backbone with weights that do not name their own, but {path} is a {spec.backbone}. "
            "Leave --backbone out."
        )
    return opened, spec


def _open(path: Path, engine: EngineName, classes: ClassNames | None, backbone: str) -> tuple[Engine, ModelSpec]:
    if path.suffix == ".onnx":
        return _open_onnx(path, engine)
    if (path / OPENVINO_MODEL).is_file():
        _check_engine(path, engine, "openvino")
        return _openvino_engine(path)
    _check_engine(path, engine, "torch")
    if find_spec("torch") is None:
        raise MissingExtraError(
            f"Opening {path} needs torch: pip install 'twincar[train]'. Without torch use an exported model "
            "(twincar export RUN, where torch is), such as model.onnx."
        )
    from twincar.models.engines.torch_engine import TorchEngine, open_network

    network, spec = open_network(path, classes=classes, backbone=backbone)
    return TorchEngine(network), spec


def read_logits(
    engine: Engine,
    preprocessing: Preprocessing,
    photos: Sequence[Photo],
    *,
    tta: bool = False,
    on_photo: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Logits, N×V×K, of photos in their order; V is 1 without test-time augmentation.

    Raises:
        PhotoError: one of them cannot be read.
    """
    parts = []
    for batch in iterate_batches(photos, preprocessing, batch_size=_BATCH, tta=tta):
        for error in batch.failures.values():
            raise error
        parts.append(engine.view_logits(batch.images))
        if on_photo:
            on_photo(batch.positions[-1] + 1, len(photos))
    return np.concatenate(parts)


def _open_onnx(path: Path, engine: EngineName) -> tuple[Engine, ModelSpec]:
    _check_engine(path, engine, "onnxruntime", "openvino")
    from twincar.models.engines.onnxruntime_engine import OnnxRuntimeEngine, read_onnx_spec

    if engine == "onnxruntime":
        return OnnxRuntimeEngine.open(path)
    spec = read_onnx_spec(path)
    if engine == "openvino" or (spec.arithmetic == "int8" and find_spec("openvino") is not None):
        return _openvino_engine(path)
    return OnnxRuntimeEngine.open(path)


def _openvino_engine(path: Path) -> tuple[Engine, ModelSpec]:
    if find_spec("openvino") is None:
        raise MissingExtraError(f"Opening {path} with OpenVINO needs it: pip install 'twincar[openvino]'.")
    from twincar.models.engines.openvino_engine import OpenVinoEngine

    return OpenVinoEngine.open(path)


def _check_engine(path: Path, engine: EngineName, *fitting: EngineName) -> None:
    if engine not in ("auto", *fitting):
        raise UsageError(f"Expected --engine auto or {' or '.join(fitting)} for {path}, and found {engine!r}.")
