"""Open a model of any kind with the engine that fits, and compute logits."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twincar.core.errors import MissingExtraError, UsageError
from twincar.core.labels import ClassNames
from twincar.core.options import EngineName
from twincar.core.photos import Photo
from twincar.core.preprocess import Preprocessing, iterate_batches
from twincar.core.progress import Progress
from twincar.models.engines.base import OPENVINO_MODEL, Engine
from twincar.models.locate import check_weights
from twincar.models.spec import ModelSpec

_BATCH = 64


def open_engine(
    path: Path, engine: EngineName = "auto", *, classes: ClassNames | None = None, backbone: str = ""
) -> tuple[Engine, ModelSpec]:
    """Open a model for inference.

    Args:
        path: a run folder, a `.safetensors` file of a run, third-party weights (`.pth`), or an exported model: an
            `.onnx` file or an OpenVINO folder.
        engine: 'auto' is torch for the first three, OpenVINO for its folder, and onnxruntime for an `.onnx` file; for
            one in int8 it is OpenVINO if that is installed, because it is several times faster.
        classes: class names of third-party weights, which have none; by default those of Stanford Cars.
        backbone: backbone of third-party weights; by default that of the published model.

    Raises:
        UsageError: there is no such model, the engine cannot open it, or the model has its own class names or backbone.
        CheckpointError: the model is damaged, not safe to open, or does not fit.
        MissingExtraError: the engine is not installed.
    """
    opened, spec = _open(path, engine, classes, backbone)
    if classes is not None and classes.names != spec.classes.names:
        pairs = zip_longest(classes.names, spec.classes.names, fillvalue="nothing")
        other, own = next((other, own) for other, own in pairs if other != own)
        raise UsageError(
            f"Expected --classes with weights without class names, but {path} has its own, such as {own!r} instead of "
            f"{other!r}. Leave --classes out."
        )
    if backbone and backbone != spec.backbone:
        raise UsageError(
            f"Expected --backbone with weights that do not name one, but {path} is a {spec.backbone}. "
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
    if path.is_dir():
        from twincar.core.runs import RunFolder  # deferred: an exported model starts faster without

        RunFolder.open(path)
    else:
        check_weights(path)
    if find_spec("torch") is None:
        raise MissingExtraError(
            f"Opening {path} needs torch: pip install 'twincar[train]'. Without torch, use an exported model such as "
            "model.onnx (twincar export RUN, where torch is installed)."
        )
    from twincar.models.engines.torch_engine import TorchEngine, open_network

    network, spec = open_network(path, classes=classes, backbone=backbone)
    return TorchEngine(network), spec


def compute_logits(
    engine: Engine,
    preprocessing: Preprocessing,
    photos: Sequence[Photo],
    *,
    tta: bool = False,
    on_photo: Progress | None = None,
) -> NDArray[np.float32]:
    """Logits, N×V×K, of photos in their order; V is 1 without test-time augmentation.

    Raises:
        PhotoError: one of them cannot be read.
    """
    parts, done = [], 0
    for images in iterate_batches(photos, preprocessing, batch_size=_BATCH, tta=tta):
        parts.append(engine.view_logits(images))
        done += len(images)
        if on_photo:
            on_photo(done, len(photos))
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
        raise UsageError(f"Expected --engine auto or {' or '.join(fitting)} for {path}, but found {engine!r}.")
