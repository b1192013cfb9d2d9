"""Export a network as an ONNX graph, and transform the graph: weights in half precision, int8.

Shapes: N photos of H×W pixels, K classes, C channels of an h×w feature map.
"""

from __future__ import annotations

import ast
import io
import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from twincar.core.preprocess import Preprocessing
from twincar.core.telemetry import without_telemetry
from twincar.models.cam.gradcam import HeadWeights
from twincar.models.engines.base import HEAD_OUTPUT
from twincar.models.network import CarNet

OPSET = 20
_MIN_WEIGHTS = 256  # of a tensor that is stored smaller; below it, the extra node outweighs the saving

# Parts of a network that are most sensitive to int8, beside its first and last convolution: the gates of
# squeeze-and-excitation and the head.
_SENSITIVE = (".se", "network.head")
_SCOPES = "pkg.torch.onnx.name_scopes"


class _Exported(nn.Module):
    """A network from uint8 photos, N×H×W×3, to all outputs that an engine needs."""

    def __init__(self, network: CarNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.network.features(images.permute(0, 3, 1, 2).float())
        return self.network.classify(features), features


def to_onnx(network: CarNet, preprocessing: Preprocessing) -> onnx.ModelProto:
    """The graph of a network, with the input `images` and the outputs `logits` and `features`."""
    photos = torch.zeros(2, preprocessing.height, preprocessing.width, 3, dtype=torch.uint8)
    with _quiet():
        program = torch.onnx.export(
            _Exported(network).eval(),
            (photos,),
            input_names=["images"],
            output_names=["logits", "features"],
            dynamic_shapes={"images": {0: torch.export.Dim("N")}},
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # it is None without dynamo only
    return program.model_proto


def add_head_outputs(model: onnx.ModelProto, head: HeadWeights) -> None:
    """Add the weights of the head as constant outputs `head.0`, `head.1`, ...; in place.

    They are a second copy, because int8 keeps no exact one, and Grad-CAM++ must equal that of the network.
    """
    for number, array in enumerate(array for layer in head.layers for array in layer):
        name = f"{HEAD_OUTPUT}{number}"
        model.graph.initializer.append(numpy_helper.from_array(array, f"{name}.value"))
        model.graph.node.append(helper.make_node("Identity", [f"{name}.value"], [name]))
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape))


def shrink_weights(model: onnx.ModelProto, kept_in_fp32: Sequence[str] = ()) -> None:
    """Store the remaining floating-point weights of convolutions as int8, with one scale per output channel; in place.

    They still compute in fp32: a cast and a product restore them once, when the model is loaded. After `quantize` these
    are the gates of squeeze-and-excitation, which NNCF does not quantize: a fifth of an EfficientNet.
    """
    shrunk = {node.input[1] for node in model.graph.node if node.op_type == "Conv" and node.name not in kept_in_fp32}
    nodes = []
    for tensor in list(model.graph.initializer):
        if tensor.name not in shrunk or np.prod(tensor.dims) < _MIN_WEIGHTS:
            continue
        name, weights = tensor.name, numpy_helper.to_array(tensor)
        scale = np.maximum(abs(weights).max(axis=(1, 2, 3), keepdims=True) / 127, np.finfo(np.float32).tiny)
        tensor.CopyFrom(numpy_helper.from_array(np.rint(weights / scale).astype(np.int8), f"{name}.int8"))
        model.graph.initializer.append(numpy_helper.from_array(scale, f"{name}.scale"))
        nodes.append(helper.make_node("Cast", [f"{name}.int8"], [f"{name}.steps"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", [f"{name}.steps", f"{name}.scale"], [name]))
    _prepend(model, nodes)


def forget_origin(model: onnx.ModelProto) -> None:
    """Remove the metadata of the exporter, which has local file names and is a twentieth of the file; in place."""
    for part in (model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]


def halve_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that stores its weights as fp16 and converts them to fp32 when it is loaded: half the size, same speed."""
    halved = onnx.ModelProto()
    halved.CopyFrom(model)
    casts = []
    for tensor in halved.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < _MIN_WEIGHTS:
            continue
        name = tensor.name
        half = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.fp16"))
        casts.append(helper.make_node("Cast", [f"{name}.fp16"], [name], to=TensorProto.FLOAT))
    _prepend(halved, casts)
    return halved


def _prepend(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    after = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *after])


def quantize(model: onnx.ModelProto, photos: Iterable[NDArray[np.uint8]], kept_in_fp32: list[str]) -> onnx.ModelProto:
    """An int8 copy by NNCF, calibrated on photos, 1×H×W×3 each; nodes named in `kept_in_fp32` stay in fp32."""
    with _quiet(), without_telemetry():
        import nncf

        nncf.set_log_level(logging.ERROR)
        data = nncf.Dataset([{"images": photo} for photo in photos])
        quantized: onnx.ModelProto = nncf.quantize(
            model,
            data,
            preset=nncf.QuantizationPreset.MIXED,  # SiLU goes below zero: its outputs need an offset
            subset_size=data.get_length(),
            ignored_scope=nncf.IgnoredScope(names=kept_in_fp32, validate=False) if kept_in_fp32 else None,
        )
    return quantized


def sensitive_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the layers that are usually most sensitive to int8."""
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    parts = [
        node.name
        for node in model.graph.node
        if node.op_type in ("Conv", "Gemm", "MatMul")
        and any(scope.endswith(part) for scope in _scopes(node) for part in _SENSITIVE)
    ]
    return list(dict.fromkeys([*convolutions[:1], *parts, *convolutions[-1:]]))


def _scopes(node: onnx.NodeProto) -> list[str]:
    """Dotted names of the modules that contain a node, outermost first."""
    text = next((prop.value for prop in node.metadata_props if prop.key == _SCOPES), "[]")
    scopes: list[str] = ast.literal_eval(text)
    return scopes


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the libraries' own progress messages and warnings, which are for developers."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
