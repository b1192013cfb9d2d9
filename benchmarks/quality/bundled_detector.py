"""Converts the bundled detector from the TFLite file of its authors to ONNX.

python -m benchmarks.quality.bundled_detector objectron_solution_packed_assets.data

The file is part of the npm package `@mediapipe/objectron` 0.4.1675468480 (`npm pack` fetches it). Its bytes 184 to
9,987,912 are a TFLite model: SSD MobileNetV2 for 300×300 pixels, trained on Open Images v4 (Apache-2.0). Its raw
outputs are an offset from each anchor and a score for each of 24 classes. The ONNX graph computes boxes and
probabilities of the class 'Car' from them, and normalises its input, as `twincar.detection.detector` describes. Only
files with the hashes below are read and written.

Field numbers are those of tensorflow/compiler/mlir/lite/schema/schema.fbs. Shapes: N photos, A anchors, C channels of
H×W pixels.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from flatbuffers import encode, number_types
from flatbuffers.table import Table
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from twincar.core.files import write_bytes
from twincar.deploy.onnx_graph import shrink_weights
from twincar.detection.detector import BUNDLED
from twincar.detection.header import HEADER_KEY, DetectorHeader

ASSETS_SHA256 = "470986ca5df183f41698da6de74b027d838fe289d77b5ab094497d350bee664e"
ONNX_SHA256 = "3b7a67b2147a4652a0b4fda9a7a876454a6a60ebe3625301c9ccafd98bd4d91c"
HEADER = DetectorHeader(classes=("car",), cars=("car",), fit="squash", threshold=0.36)
_MODEL_BYTES = slice(184, 9_987_912)
_SIDE, _CLASSES, _CAR = 300, 24, 23
_IR_VERSION, _OPSET = 10, 20
_ADD, _CONCATENATION, _CONV, _DEPTHWISE, _DEQUANTIZE, _RESHAPE = 0, 2, 3, 4, 6, 22  # BuiltinOperator
_RELU6 = 3  # ActivationFunctionType
_CENTER_SCALE, _SIZE_SCALE = 10.0, 5.0  # of the offsets


def anchors() -> NDArray[np.float32]:
    """Centre x, centre y, width and height of each anchor, A×4, as shares of the photo.

    Six grids with 3 or 6 anchors per cell; scale s_k = 0.2 + 0.15 k for k = 0..5, width s·√ratio and height s/√ratio
    (Liu et al., 2016, "SSD: Single Shot MultiBox Detector", equation 4). The first grid has a smaller square; the
    others have a second one of scale √(s_k · s_{k+1}), with s_6 = 1.
    """
    scales = [0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0]
    found = []
    for k, grid in enumerate((19, 10, 5, 3, 2, 1)):
        shapes = [(scales[k], ratio) for ratio in (1, 2, 1 / 2, 3, 1 / 3)] + [((scales[k] * scales[k + 1]) ** 0.5, 1)]
        if k == 0:
            shapes = [(0.1, 1), (scales[0], 2), (scales[0], 1 / 2)]
        sizes = [(scale * ratio**0.5, scale / ratio**0.5) for scale, ratio in shapes]
        for row in range(grid):
            for column in range(grid):
                found += [((column + 0.5) / grid, (row + 0.5) / grid, *size) for size in sizes]
    return np.array(found, np.float32)


@dataclass(frozen=True)
class _Operator:
    """One operator of the TFLite graph."""

    code: int
    inputs: list[int]
    outputs: list[int]
    options: Table | None


class TfliteGraph:
    """The tensors and operators of a TFLite file with one graph."""

    def __init__(self, data: bytes) -> None:
        model = Table(data, encode.Get(number_types.UOffsetTFlags.packer_type, data, 0))
        self._buffers = list(_tables(model, 4))
        codes = [
            max(_number(code, 0, number_types.Int8Flags), _number(code, 3, number_types.Int32Flags))
            for code in _tables(model, 1)
        ]
        (graph,) = _tables(model, 2)
        self._tensors = list(_tables(graph, 0))
        self.inputs, self.outputs = _numbers(graph, 1), _numbers(graph, 2)
        self.operators = [
            _Operator(
                codes[_number(found, 0, number_types.Uint32Flags)],
                _numbers(found, 1),
                _numbers(found, 2),
                _union(found, 4),
            )
            for found in _tables(graph, 3)
        ]

    def shape(self, tensor: int) -> list[int]:
        """Dimensions of a tensor."""
        return _numbers(self._tensors[tensor], 0)

    def constant(self, tensor: int) -> NDArray[Any]:
        """A constant stored as fp16 or fp32."""
        found = self._tensors[tensor]
        buffer = self._buffers[_number(found, 2, number_types.Uint32Flags)]
        kind = {0: np.float32, 1: np.float16}[_number(found, 1, number_types.Int8Flags)]
        start, length = _vector(buffer, 0)
        return np.frombuffer(bytes(buffer.Bytes[start : start + length]), kind).reshape(self.shape(tensor))


def convert(data: bytes) -> onnx.ModelProto:
    """The ONNX model of a TFLite file, with weights in fp32."""
    return _Converter(TfliteGraph(data)).model()


class _Converter:
    """Builds the ONNX graph, in which images are N×C×H×W instead of N×H×W×C."""

    def __init__(self, graph: TfliteGraph) -> None:
        self._graph = graph
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._weights: dict[int, NDArray[np.float32]] = {}
        self._names = {graph.inputs[0]: "normalised"}

    def model(self) -> onnx.ModelProto:
        """The whole model, with its header."""
        self._normalise()
        for operator in self._graph.operators:
            self._add(operator)
        self._decode(*(self._names[tensor] for tensor in self._graph.outputs))
        graph = helper.make_graph(
            self._nodes,
            "ssd_mobilenet_v2_open_images_v4",
            [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", _SIDE, _SIDE, 3])],
            [
                helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["N", len(anchors()), 4]),
                helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", len(anchors()), 1]),
            ],
            self._constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
        helper.set_model_props(model, {HEADER_KEY: HEADER.to_json()})
        return model

    def _normalise(self) -> None:
        """From 0..255 to -1..1, and from N×H×W×C to N×C×H×W."""
        self._node("Cast", ["images"], "levels", to=TensorProto.FLOAT)
        self._node("Mul", ["levels", self._constant("step", np.float32(1 / 127.5))], "scaled")
        self._node("Sub", ["scaled", self._constant("one", np.float32(1))], "centered")
        self._node("Transpose", ["centered"], "normalised", perm=[0, 3, 1, 2])

    def _add(self, operator: _Operator) -> None:
        output = operator.outputs[0]
        if operator.code == _DEQUANTIZE:
            self._weights[output] = self._graph.constant(operator.inputs[0]).astype(np.float32)
            return
        name = self._names[output] = f"t{output}"
        inputs = [self._names[tensor] for tensor in operator.inputs if tensor in self._names]
        if operator.code in (_CONV, _DEPTHWISE):
            self._convolve(operator, inputs[0], name)
        elif operator.code == _ADD:
            self._node("Add", inputs, name)
        elif operator.code == _CONCATENATION:
            self._node("Concat", inputs, name, axis=1)
        elif operator.code == _RESHAPE:
            self._reshape(operator, inputs[0], name)
        else:
            raise ValueError(f"operator {operator.code} is not expected")

    def _convolve(self, operator: _Operator, image: str, name: str) -> None:
        depthwise = operator.code == _DEPTHWISE
        weights, bias = (self._weights[tensor] for tensor in operator.inputs[1:])
        # O×H×W×I, or 1×H×W×O if depthwise, to O×I×H×W.
        weights = weights.transpose(3, 0, 1, 2) if depthwise else weights.transpose(0, 3, 1, 2)
        assert operator.options is not None
        strides = [_number(operator.options, field, number_types.Int32Flags) for field in (2, 1)]
        activation = _number(operator.options, 4 if depthwise else 3, number_types.Int8Flags)
        sizes = self._graph.shape(operator.inputs[0])[1:3]
        if self._is_head(operator):
            weights, bias = _for_cars(weights), _for_cars(bias)
            name = self._names[operator.outputs[0]] = f"{name}.grid"
        plain = f"{name}.plain" if activation == _RELU6 else name
        before, after = zip(*map(_same_padding, sizes, weights.shape[2:], strides), strict=True)
        self._node(
            "Conv",
            [image, self._constant(f"{name}.weights", weights), self._constant(f"{name}.bias", bias)],
            plain,
            strides=strides,
            pads=[*before, *after],
            group=weights.shape[0] if depthwise else 1,
        )
        if activation == _RELU6:
            self._node(
                "Clip", [plain, self._constant("zero", np.float32(0)), self._constant("six", np.float32(6))], name
            )

    def _is_head(self, operator: _Operator) -> bool:
        """Whether the result of a convolution is reshaped next: it is the offsets or the scores of one grid."""
        return [user.code for user in self._graph.operators if operator.outputs[0] in user.inputs] == [_RESHAPE]

    def _reshape(self, operator: _Operator, grid: str, name: str) -> None:
        """From N×C×H×W to N×A×(C/A); what is reshaped after the concatenation has that shape here already."""
        if not grid.endswith(".grid"):
            self._names[operator.outputs[0]] = grid
            return
        per_anchor = 4 if self._graph.shape(operator.outputs[0])[-1] == 4 else 1
        self._node("Transpose", [grid], f"{name}.last", perm=[0, 2, 3, 1])
        shape = self._constant(f"reshape.{per_anchor}", np.array([0, -1, per_anchor]))
        self._node("Reshape", [f"{name}.last", shape], name)

    def _decode(self, offsets: str, scores: str) -> None:
        """Left, top, right, bottom from the offsets: centre + offset/10·size, and size·exp(offset/5)."""
        boxes = anchors()[None]
        centers, sizes = boxes[..., :2], boxes[..., 2:]
        self._node("Split", [offsets], ["moved", "stretched"], axis=2, num_outputs=2)
        self._node("Mul", ["moved", self._constant("moves", sizes / np.float32(_CENTER_SCALE))], "moves_of_photo")
        self._node("Add", ["moves_of_photo", self._constant("centers", centers)], "box_centers")
        self._node("Mul", ["stretched", self._constant("stretch", np.float32(1 / _SIZE_SCALE))], "logarithms")
        self._node("Exp", ["logarithms"], "factors")
        self._node("Mul", ["factors", self._constant("half_sizes", sizes / np.float32(2))], "box_half_sizes")
        self._node("Sub", ["box_centers", "box_half_sizes"], "left_top")
        self._node("Add", ["box_centers", "box_half_sizes"], "right_bottom")
        self._node("Concat", ["left_top", "right_bottom"], "boxes", axis=2)
        self._node("Sigmoid", [scores], "scores")

    def _node(self, kind: str, inputs: list[str], outputs: str | list[str], **attributes: Any) -> None:
        named = [outputs] if isinstance(outputs, str) else outputs
        self._nodes.append(helper.make_node(kind, inputs, named, name=named[0], **attributes))

    def _constant(self, name: str, values: NDArray[Any] | np.generic) -> str:
        if all(constant.name != name for constant in self._constants):
            self._constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name


def _for_cars(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights or biases of a head: for its scores only those of cars, for its offsets x before y."""
    anchors_per_cell, rest = divmod(len(values), _CLASSES)
    if not rest and anchors_per_cell in (3, 6):
        return values[_CAR::_CLASSES]
    return values.reshape(-1, 4, *values.shape[1:])[:, [1, 0, 3, 2]].reshape(values.shape)


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TFLite's padding 'SAME' before and after; the odd pixel comes after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _vector(table: Table, field: int) -> tuple[int, int]:
    """Start and number of elements of a vector."""
    offset = table.Offset(4 + 2 * field)
    return (table.Vector(offset), table.VectorLen(offset)) if offset else (0, 0)


def _tables(table: Table, field: int) -> Iterator[Table]:
    start, length = _vector(table, field)
    return (Table(table.Bytes, table.Indirect(start + 4 * k)) for k in range(length))


def _numbers(table: Table, field: int) -> list[int]:
    """A vector of int32."""
    start, length = _vector(table, field)
    return [table.Get(number_types.Int32Flags, start + 4 * k) for k in range(length)]


def _number(table: Table, field: int, kind: Any) -> int:
    offset = table.Offset(4 + 2 * field)
    return int(table.Get(kind, table.Pos + offset)) if offset else 0


def _union(table: Table, field: int) -> Table | None:
    offset = table.Offset(4 + 2 * field)
    if not offset:
        return None
    found = Table(table.Bytes, 0)
    table.Union(found, offset)
    return found


def main() -> None:
    """Convert the file, with weights in int8, and check the hashes of what goes in and comes out."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.bundled_detector", description=__doc__)
    parser.add_argument("assets", type=Path, help="objectron_solution_packed_assets.data")
    parser.add_argument("--out", type=Path, default=BUNDLED)
    arguments = parser.parse_args()
    assets = arguments.assets.read_bytes()
    _check(assets, ASSETS_SHA256, str(arguments.assets))
    model = convert(assets[_MODEL_BYTES])
    shrink_weights(model)
    data = model.SerializeToString(deterministic=True)
    _check(data, ONNX_SHA256, "the ONNX file")
    write_bytes(arguments.out, data)
    print(f"{arguments.out.name}: {len(data):,} bytes, SHA-256 {ONNX_SHA256}")


def _check(data: bytes, expected: str, name: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise SystemExit(f"Expected {name} with the SHA-256 {expected}, but found {found}.")


if __name__ == "__main__":
    main()
