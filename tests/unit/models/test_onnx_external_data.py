"""What an ONNX file says of other files, in every encoding that some parser takes."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from google.protobuf.message import DecodeError
from onnx import TensorProto

from tests.robustness.fuzz_models import small_onnx, spec_text
from tests.robustness.mutations_protobuf import GROUP, GROUP_END, LENGTH, VARINT, Field, mutate_message, rewrite, varint
from twincar.core.errors import CheckpointError
from twincar.inference.classifier import Classifier
from twincar.models.engines.onnx_external_data import _FIELDS, names_other_files

SOUND = small_onnx(spec_text())
OUTSIDE = small_onnx(spec_text(), external="beside.bin")
WEIGHT = (7, 5)  # the numbers of the fields that lead to the tensors: graph, initializer
EXTERNAL = (13, 14)  # external_data, data_location


def hidden(how: Callable[[Field], Field]) -> bytes:
    """The model whose weights lie outside, with the fields that say so written in another way."""
    return rewrite(OUTSIDE, (*WEIGHT, 0), lambda field: [how(field) if field.number in EXTERNAL else field])


ODD = {
    "tags above 32 bits": hidden(lambda field: replace(field, tag_bits=1)),
    "graph above 32 bits": rewrite(OUTSIDE, (7,), lambda field: [replace(field, tag_bits=1)]),
    "tensor above 32 bits": rewrite(OUTSIDE, WEIGHT, lambda field: [replace(field, tag_bits=1)]),
    "long tags": hidden(lambda field: replace(field, tag_bytes=5)),
    "long lengths": rewrite(SOUND, WEIGHT, lambda field: [replace(field, value_bytes=4)]),
    "long numbers": rewrite(SOUND, (1,), lambda field: [replace(field, value_bytes=9)]),
    "a number above 64 bits": Field(1, VARINT, 1 << 64).encode() + SOUND,
    "field 0": Field(0, VARINT, 0).encode() + SOUND,
    "groups": Field(7, GROUP, OUTSIDE).encode() + Field(7, GROUP_END, b"").encode(),
    "an unknown kind": Field(99, 6, b"").encode() + SOUND,
}


@pytest.mark.parametrize("way", ODD)
def test_only_the_canonical_encoding_is_read(way: str) -> None:
    with pytest.raises(ValueError, match=r"has more bytes|not a protocol buffer"):
        names_other_files(ODD[way])


@pytest.mark.parametrize("way", ["tags above 32 bits", "tensor above 32 bits"])
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_weights_in_another_file_are_not_read_however_they_are_named(tmp_path: Path, way: str, engine: str) -> None:
    (tmp_path / "beside.bin").write_bytes(np.ones((3, 3), np.float32).tobytes())
    (tmp_path / "model.onnx").write_bytes(ODD[way])
    with pytest.raises(CheckpointError, match="has more bytes"):
        Classifier.load(tmp_path / "model.onnx", engine=engine)  # type: ignore[arg-type]


def test_what_comes_twice_is_looked_at_twice() -> None:
    def split(field: Field) -> list[Field]:
        assert isinstance(field.value, bytes)
        named = rewrite(field.value, (0,), lambda part: [part] if part.number in EXTERNAL else [])
        rest = rewrite(field.value, (0,), lambda part: [] if part.number in EXTERNAL else [part])
        return [replace(field, value=value) for value in (rest, named)]

    assert names_other_files(rewrite(OUTSIDE, WEIGHT, split))
    for first, second in ((SOUND, OUTSIDE), (OUTSIDE, SOUND)):
        both = first + second  # which a parser merges
        assert any(tensor.external_data for tensor in onnx.ModelProto.FromString(both).graph.initializer)
        assert names_other_files(both)
    back = hidden(lambda field: field) + b"".join(
        Field(7, LENGTH, Field(5, LENGTH, Field(14, VARINT, 0).encode()).encode()).encode() for _ in range(2)
    )
    assert names_other_files(back)
    whole = SOUND + Field(99, LENGTH, b"a field of a later version").encode()
    assert not names_other_files(whole)


def test_every_message_that_can_hold_a_tensor_is_looked_into() -> None:
    """By what the library of ONNX's knows of its messages."""
    names = {"model": "ModelProto", "training": "TrainingInfoProto", "function": "FunctionProto"}
    names |= {"graph": "GraphProto", "node": "NodeProto", "attribute": "AttributeProto"}
    names |= {"tensor": "TensorProto", "sparse tensor": "SparseTensorProto"}
    inside = {
        (kind.name, field.number, field.message_type.name)
        for kind in onnx.onnx_ml_pb2.DESCRIPTOR.message_types_by_name.values()
        for field in kind.fields
        if field.message_type
    }
    holders = {"TensorProto"}
    while more := {kind for kind, _, value in inside if value in holders} - holders:
        holders |= more
    expected = {found for found in inside if found[2] in holders}
    assert expected == {(names[kind], n, names[v]) for kind, fields in _FIELDS.items() for n, v in fields.items()}
    assert TensorProto.DESCRIPTOR.fields_by_name["external_data"].number == EXTERNAL[0]
    assert TensorProto.DESCRIPTOR.fields_by_name["data_location"].number == EXTERNAL[1]


def test_a_mutated_file_is_refused_or_read_as_protobuf_reads_it() -> None:
    rng, read, refused = random.Random(0), 0, 0
    for _ in range(2000):
        data = mutate_message(rng.choice((SOUND, OUTSIDE)), rng)
        try:
            found = names_other_files(data)
        except ValueError:
            refused += 1
            continue
        try:
            model = onnx.ModelProto.FromString(data)
        except DecodeError:
            continue
        outside = [t for t in model.graph.initializer if t.external_data or t.data_location == TensorProto.EXTERNAL]
        assert found or not outside
        read += 1
    assert read > 300
    assert refused > 300


def test_onnxruntime_takes_no_weights_from_elsewhere_by_itself(tmp_path: Path) -> None:
    """The lower bound in pyproject is the first version tried that refuses these; ours is not the only check."""
    folder = tmp_path / "model"
    folder.mkdir()
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.ones((3, 3), np.float32).tobytes())
    (folder / "link.bin").symlink_to(secret)
    for place in ("../secret.bin", str(secret), "link.bin"):
        (folder / "model.onnx").write_bytes(small_onnx(spec_text(), external=place))
        with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.Fail, match=r"[Ee]xternal data"):
            onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])


def test_numbers_are_written_in_as_few_bytes_as_they_need() -> None:
    assert [varint(number) for number in (0, 127, 128, 300)] == [b"\0", b"\x7f", b"\x80\x01", b"\xac\x02"]
    assert varint(1, 3) == b"\x81\x80\x00"
