"""Small detector files for tests: they compute the same boxes and scores for every photo, or what their graph says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

HEADER = {"classes": ["person", "car"], "cars": ["car"], "fit": "squash", "threshold": 0.5}


def constant_detector(
    boxes: NDArray[np.float32] | Sequence[Sequence[float]],
    scores: NDArray[np.float32] | Sequence[Sequence[float]],
    *,
    header: dict[str, Any] | str | None = None,
    size: tuple[int, int] = (8, 8),
) -> bytes:
    """A detector of boxes, A×4, and scores, A×C, for photos of any content; `header` is merged into `HEADER`."""
    nodes, constants = [], []
    for name, values in (("boxes", boxes), ("scores", scores)):
        array = np.asarray(values, np.float32)[None]
        constants.append(numpy_helper.from_array(array, f"{name}.value"))
        nodes.append(helper.make_node("Identity", [f"{name}.value"], [name]))
    return serialized(nodes, constants, header=header, size=size)


def serialized(
    nodes: Sequence[onnx.NodeProto],
    constants: Sequence[onnx.TensorProto] = (),
    *,
    header: dict[str, Any] | str | None = None,
    size: tuple[int, int] = (8, 8),
    input_type: int = TensorProto.UINT8,
) -> bytes:
    """A detector file with these nodes."""
    graph = helper.make_graph(
        list(nodes),
        "detector",
        [helper.make_tensor_value_info("images", input_type, ["N", *size, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None, None]) for name in ("boxes", "scores")],
        list(constants),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    text = header if isinstance(header, str) else json.dumps({**HEADER, **(header or {})})
    helper.set_model_props(model, {"twincar.detector": text} if text else {})
    data: bytes = model.SerializeToString()
    return data


def raw_yolox(
    *, height: int = 64, width: int = 96, classes: int = 80, predictions: dict[int, Sequence[float]] | None = None
) -> bytes:
    """A file like those of YOLOX: one photo, 1×3×H×W, to 1×A×(5+K).

    The last class's probability of every box is the mean of the first plane of the input (blue) over 255; `predictions`
    are the first numbers of some rows.
    """
    boxes = sum((height // stride) * (width // stride) for stride in (8, 16, 32))
    rows = np.zeros((1, boxes, 4 + classes), np.float32)
    for number, values in (predictions or {}).items():
        rows[0, number, : len(values)] = values
    constants = [
        numpy_helper.from_array(rows, "rows"),
        numpy_helper.from_array(np.array([1, 1, 1]), "one"),
        numpy_helper.from_array(np.array([1, boxes, 1]), "column"),
        numpy_helper.from_array(np.array([0]), "first"),
        numpy_helper.from_array(np.float32(255), "white"),
    ]
    nodes = [
        helper.make_node("Gather", ["images", "first"], ["blue"], axis=1),
        helper.make_node("ReduceMean", ["blue"], ["mean"], keepdims=0),
        helper.make_node("Div", ["mean", "white"], ["share"]),
        helper.make_node("Reshape", ["share", "one"], ["number"]),
        helper.make_node("Expand", ["number", "column"], ["last"]),
        helper.make_node("Concat", ["rows", "last"], ["output"], axis=2),
    ]
    graph = helper.make_graph(
        nodes,
        "yolox",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, height, width])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, boxes, 5 + classes])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
    data: bytes = model.SerializeToString()
    return data
