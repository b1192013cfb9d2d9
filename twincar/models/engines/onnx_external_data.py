"""Detect external data in an ONNX file, without the onnx package, which prediction does not need otherwise.

An ONNX file may name other files that hold its tensors, by any path. Files that TwinCar exports never do, and a file
that does is not opened. Parsers of protocol buffers differ in how they read encodings that no writer uses: some drop
the bits of a tag above the 32nd, so that an unknown field for one is `external_data` for another. So only the canonical
encoding is accepted (https://protobuf.dev/programming-guides/encoding): shortest numbers, and no groups.
The message types and their numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

# For each type of message, the fields whose messages can contain a tensor.
_NODE, _GRAPH, _ATTRIBUTE, _TENSOR, _SPARSE = "node", "graph", "attribute", "tensor", "sparse tensor"
_FIELDS: Mapping[str, Mapping[int, str]] = {
    "model": {7: _GRAPH, 20: "training", 25: "function"},
    "training": {1: _GRAPH, 2: _GRAPH},
    "function": {7: _NODE, 11: _ATTRIBUTE},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
    _TENSOR: {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_TAG_BITS, _LENGTH_BITS, _NUMBER_BITS = 32, 31, 64
_DEEPEST = 64  # graphs within graphs


def names_other_files(data: bytes) -> bool:
    """Whether any tensor of an ONNX file is stored in another file.

    Raises:
        ValueError: it is not an ONNX file, or is not encoded canonically.
    """
    return _names_others(memoryview(data), "model", _DEEPEST)


def _names_others(message: memoryview, kind: str, depth: int) -> bool:
    """A repeated field is checked every time, because parsers differ in which one they keep."""
    if depth == 0:
        raise ValueError("it is nested too deeply")
    inner = _FIELDS[kind]
    for field, value in _fields_of(message):
        if kind == _TENSOR and (field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value)):
            return True
        if field in inner and isinstance(value, memoryview) and _names_others(value, inner[field], depth - 1):
            return True
    return False


def _fields_of(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Number and value of each field."""
    offset = 0
    while offset < len(message):
        key, offset = _varint(message, offset, _TAG_BITS)
        field, wire = key >> 3, key & 7
        if field == 0:
            raise ValueError("it is not a protocol buffer")
        if wire == _VARINT:
            value, offset = _varint(message, offset, _NUMBER_BITS)
            yield field, value
            continue
        if wire == _LENGTH:
            size, offset = _varint(message, offset, _LENGTH_BITS)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError("it is not a protocol buffer, or has groups")
        if offset + size > len(message):
            raise ValueError("it is truncated")
        yield field, message[offset : offset + size]
        offset += size


def _varint(message: memoryview, offset: int, bits: int) -> tuple[int, int]:
    """A number of seven bits per byte, and the offset after it."""
    number = 0
    for shift in range(0, bits, 7):
        if offset >= len(message):
            raise ValueError("it is truncated")
        byte = message[offset]
        offset += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            if (shift and not byte) or number >> bits:
                break
            return number, offset
    raise ValueError("a number in it has more bytes than it needs, or than it may have")
