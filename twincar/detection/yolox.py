"""Convert an ONNX file of YOLOX to a detector file; needs the package onnx.

YOLOX (Ge et al., 2021, "YOLOX: Exceeding YOLO Series in 2021") takes one letterboxed photo, 1×3×H×W, BGR, 0 to 255, and
computes 1×A×(5+K): the offset of the box's centre from its cell and the logarithms of its width and height, both in
cells of the strides 8, 16 and 32, the probability of an object, and those of K classes. `tools/export_onnx.py` of its
authors exports it so, without `--decode_in_inference`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from twincar.core.errors import CheckpointError, UsageError
from twincar.core.files import write_bytes
from twincar.detection.header import HEADER_KEY, DetectorHeader
from twincar.models.engines.base import damaged
from twincar.models.engines.onnxruntime_engine import check_self_contained

COCO_CAR = MappingProxyType({"car": 2})
"""The number of the class 'car' among the 80 of COCO."""
_STRIDES = (8, 16, 32)
_PREFIX = "yolox/"


def convert_yolox(
    source: Path, target: Path, *, cars: Mapping[str, int] = COCO_CAR, threshold: float = 0.3
) -> DetectorHeader:
    """Write the detector file `target` from YOLOX's `source`; returns its header.

    Args:
        source: an ONNX file of YOLOX.
        target: the file to write, over one that is there.
        cars: name and number of each class that is a car.
        threshold: least probability of a car that is reported.

    Raises:
        UsageError: there is no such file, or `cars` and `threshold` do not fit it.
        CheckpointError: it is not an ONNX file of YOLOX.
    """
    if not source.is_file():
        raise UsageError(f"Expected an ONNX file of YOLOX at {source}, but there is no such file.")
    check_self_contained(source)
    with damaged(source, "an ONNX file of YOLOX"):
        model = onnx.load(source, load_external_data=False)
        height, width, classes = _sizes(model.graph)
    try:
        header = DetectorHeader(classes=tuple(cars), cars=tuple(cars), fit="letterbox", threshold=threshold)
        if not all(0 <= number < classes for number in cars.values()):
            raise ValueError(f"cars are {dict(cars)}, but the file has the classes 0 to {classes - 1}")
    except ValueError as error:
        raise UsageError(f"Expected cars and a threshold for {source}, but {error}.") from None
    converted = _wrapped(model, (height, width), list(cars.values()))
    helper.set_model_props(converted, {HEADER_KEY: header.to_json()})
    write_bytes(target, converted.SerializeToString())
    return header


def _sizes(graph: onnx.GraphProto) -> tuple[int, int, int]:
    """H, W and K."""
    (images,), (output,) = graph.input, graph.output
    batch, channels, height, width = (side.dim_value for side in images.type.tensor_type.shape.dim)
    found = [side.dim_value for side in output.type.tensor_type.shape.dim]
    boxes = sum((height // stride) * (width // stride) for stride in _STRIDES)
    if (batch, channels) != (1, 3) or height < 1 or width < 1 or found[:2] != [1, boxes] or found[2] < 6:
        raise CheckpointError(
            f"Expected a YOLOX with the input 1×3×H×W and one output, 1×A×(5+K), but found the input "
            f"{[batch, channels, height, width]} and the output {found}. Export it with one photo per batch and "
            "without --decode_in_inference."
        )
    return height, width, found[2] - 5


def _wrapped(model: onnx.ModelProto, size: tuple[int, int], classes: list[int]) -> onnx.ModelProto:
    """The graph between the documented input and outputs."""
    model = onnx.compose.add_prefix(model, _PREFIX)
    graph = model.graph
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if opset < 13:
        model = onnx.version_converter.convert_version(model, 13)
        graph = model.graph
    images, raw = graph.input[0].name, graph.output[0].name
    cells, strides = _cells(*size)
    constants: dict[str, NDArray[Any] | np.float32] = {
        "bgr": np.array([2, 1, 0]),
        "classes": np.array(classes) + 5,
        "object": np.array([4]),
        "parts": np.array([2, 2, graph.output[0].type.tensor_type.shape.dim[2].dim_value - 4]),
        "cells": cells[None],
        "strides": strides[None, :, None],
        "side": np.array(size[::-1], np.float32),
        "half": np.float32(0.5),
    }
    before = [
        helper.make_node("Cast", ["images"], ["levels"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["levels"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Gather", ["planes", "bgr"], [images], axis=1),
    ]
    after = [
        helper.make_node("Split", [raw, "parts"], ["offsets", "logarithms", "rest"], axis=2),
        helper.make_node("Add", ["offsets", "cells"], ["centers_in_cells"]),
        helper.make_node("Mul", ["centers_in_cells", "strides"], ["centers"]),
        helper.make_node("Exp", ["logarithms"], ["sizes_in_cells"]),
        helper.make_node("Mul", ["sizes_in_cells", "strides"], ["sizes"]),
        helper.make_node("Mul", ["sizes", "half"], ["half_sizes"]),
        helper.make_node("Sub", ["centers", "half_sizes"], ["left_top"]),
        helper.make_node("Add", ["centers", "half_sizes"], ["right_bottom"]),
        helper.make_node("Div", ["left_top", "side"], ["left_top_shares"]),
        helper.make_node("Div", ["right_bottom", "side"], ["right_bottom_shares"]),
        helper.make_node("Concat", ["left_top_shares", "right_bottom_shares"], ["boxes"], axis=2),
        helper.make_node("Gather", [raw, "object"], ["of_object"], axis=2),
        helper.make_node("Gather", [raw, "classes"], ["of_classes"], axis=2),
        helper.make_node("Mul", ["of_object", "of_classes"], ["scores"]),
    ]
    wrapped = helper.make_graph(
        [*before, *graph.node, *after],
        "yolox",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, [1, *size, 3])],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, len(cells), 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, len(cells), len(classes)]),
        ],
        [*graph.initializer, *(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items())],
    )
    return helper.make_model(wrapped, opset_imports=model.opset_import, ir_version=max(model.ir_version, 8))


def _cells(height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Column and row of each cell, A×2, and its stride in pixels, A."""
    cells, strides = [], []
    for stride in _STRIDES:
        rows, columns = np.mgrid[: height // stride, : width // stride]
        cells.append(np.stack([columns, rows], axis=-1).reshape(-1, 2))
        strides.append(np.full(rows.size, stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(strides).astype(np.float32)
