"""Read and replace parts of an exported `.onnx` file: header, last layer, statistics of its classes; needs onnx.

An exported file has the weights of its head as constant outputs, `head.0`, `head.1`, ..., in fp32 or stored as fp16,
also where its network is in int8. When rows are added, the logits are computed from these, by the mean of the feature
map and one or two linear layers, so that one copy of the head is enough. The statistics are initialisers without a
node, in fp16; engines drop them when they load the file.

Shapes: K classes, C penultimate features, R directions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from twincar.core.errors import CheckpointError
from twincar.core.files import write_bytes
from twincar.models.class_statistics import ClassStatistics
from twincar.models.engines.base import HEAD_OUTPUT, damaged
from twincar.models.engines.onnxruntime_engine import check_self_contained
from twincar.models.spec import HEADER_KEY, ModelSpec

Floats = NDArray[np.float32]

_STATISTICS = "statistics."
_PARTS = ("means", "counts", "factor", "deviation")
_LOGITS, _FEATURES = "logits", "features"


@dataclass(frozen=True, eq=False)
class LastLayer:
    """The last layer of a classification head."""

    weight: Floats
    """K×C."""
    bias: Floats
    """K."""


class ExportedModel:
    """An exported file as a graph that can be changed."""

    def __init__(self, model: onnx.ModelProto, name: str) -> None:
        self.model = model
        self._name = name
        self._graph = model.graph

    @classmethod
    def read(cls, path: Path) -> ExportedModel:
        """Read a file.

        Raises:
            CheckpointError: it is damaged, or refers to other files.
        """
        check_self_contained(path)
        with damaged(path, "a whole ONNX file"):
            return cls(onnx.load(path, load_external_data=False), str(path))

    def write(self, path: Path, spec: ModelSpec) -> None:
        """Write it with this header; the other metadata is kept.

        Raises:
            StorageError: it cannot be written.
        """
        others = {entry.key: entry.value for entry in self.model.metadata_props}
        helper.set_model_props(self.model, {**others, HEADER_KEY: spec.to_header()})
        write_bytes(path, self.model.SerializeToString())

    @property
    def statistics(self) -> ClassStatistics | None:
        """The statistics of the classes, if the file has them.

        Raises:
            CheckpointError: they are damaged.
        """
        found = {tensor.name: tensor for tensor in self._graph.initializer}
        if f"{_STATISTICS}{_PARTS[0]}" not in found:
            return None
        with damaged(Path(self._name), "statistics of the classes", "they are damaged"):
            means, counts, factor, deviation = (numpy_helper.to_array(found[f"{_STATISTICS}{part}"]) for part in _PARTS)
            variance = deviation.astype(np.float32) ** 2
            return ClassStatistics(means.astype(np.float32), counts, factor.astype(np.float32), variance)

    @statistics.setter
    def statistics(self, statistics: ClassStatistics) -> None:
        self._remove_initializers(f"{_STATISTICS}{part}" for part in _PARTS)
        deviation = np.sqrt(statistics.diagonal)  # a variance may be outside of the range of fp16
        parts: tuple[NDArray[Any], ...] = (statistics.means, statistics.counts, statistics.factor, deviation)
        for part, values in zip(_PARTS, parts, strict=True):
            stored = values if part == "counts" else values.astype(np.float16)
            self._graph.initializer.append(numpy_helper.from_array(stored, f"{_STATISTICS}{part}"))

    @property
    def last_layer(self) -> LastLayer:
        """The last layer of the head.

        Raises:
            CheckpointError: the file has none.
        """
        weight, bias = (numpy_helper.to_array(self._constant(name)) for name in self._head_names[-2:])
        return LastLayer(weight.astype(np.float32), bias.astype(np.float32))

    @last_layer.setter
    def last_layer(self, layer: LastLayer) -> None:
        self._compute_logits_from_head()
        for name, values in zip(self._head_names[-2:], (layer.weight, layer.bias), strict=True):
            tensor = self._constant(name)
            stored = helper.tensor_dtype_to_np_dtype(tensor.data_type)
            tensor.CopyFrom(numpy_helper.from_array(values.astype(stored), tensor.name))
            self._set_shape(name, list(values.shape))
        self._set_shape(_LOGITS, [None, len(layer.bias)])

    @property
    def _head_names(self) -> list[str]:
        names = [output.name for output in self._graph.output if output.name.startswith(HEAD_OUTPUT)]
        if len(names) not in (2, 4):
            raise CheckpointError(
                f"Expected a model with the weights of its head in {self._name}, but it has none. Export it again."
            )
        return names

    def _constant(self, name: str) -> onnx.TensorProto:
        """The initialiser behind a constant output, through the nodes that copy it or convert it to fp32."""
        producers = {output: node for node in self._graph.node for output in node.output}
        while name in producers and producers[name].op_type in ("Identity", "Cast"):
            name = producers[name].input[0]
        found: list[onnx.TensorProto] = [tensor for tensor in self._graph.initializer if tensor.name == name]
        if found:
            return found[0]
        raise CheckpointError(f"Expected the weights of the head in {self._name}, but they are no constants.")

    def _compute_logits_from_head(self) -> None:
        """Replace the nodes that compute the logits, unless this was done before."""
        names = self._head_names
        producer = next(node for node in self._graph.node if _LOGITS in node.output)
        if producer.op_type == "Gemm" and list(producer.input[1:]) == names[-2:]:
            return
        self._graph.node.remove(producer)
        pooled = [
            helper.make_node("GlobalAveragePool", [_FEATURES], ["taught.pooled"]),
            helper.make_node("Flatten", ["taught.pooled"], ["taught.flat"]),
        ]
        last = "taught.flat"
        if len(names) == 4:
            pooled += [
                helper.make_node("Gemm", [last, *names[:2]], ["taught.hidden"], transB=1),
                helper.make_node("Relu", ["taught.hidden"], ["taught.active"]),
            ]
            last = "taught.active"
        self._graph.node.extend([*pooled, helper.make_node("Gemm", [last, *names[-2:]], [_LOGITS], transB=1)])
        del self._graph.value_info[:]
        self._prune()

    def _prune(self) -> None:
        """Remove the nodes and initialisers that no output needs; the statistics stay."""
        needed, kept = {output.name for output in self._graph.output}, []
        for node in reversed(self._graph.node):
            if needed & set(node.output):
                needed |= set(node.input)
                kept.append(node)
        del self._graph.node[:]
        self._graph.node.extend(reversed(kept))
        names = [tensor.name for tensor in self._graph.initializer]
        self._remove_initializers(name for name in names if name not in needed and not name.startswith(_STATISTICS))

    def _remove_initializers(self, names: Iterable[str]) -> None:
        gone = set(names)
        for tensor in [tensor for tensor in self._graph.initializer if tensor.name in gone]:
            self._graph.initializer.remove(tensor)

    def _set_shape(self, name: str, shape: list[int | None]) -> None:
        """Set the declared sizes of an output; None leaves one as it is."""
        output = next(output for output in self._graph.output if output.name == name)
        for axis, size in zip(output.type.tensor_type.shape.dim, shape, strict=True):
            if size is not None:
                axis.dim_value = size
