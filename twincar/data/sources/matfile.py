"""A reader for MATLAB files of version 5 to 7, limited to text, numbers, cells and structures.

SciPy's reader is not used because it trusts the file: a changed byte can crash the process or fill the memory. This
reader never reads outside the file, allocates more than its bytes, or recurses deeper than lists of photos need. The
format is described in "MAT-File Format" by The MathWorks.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twincar.core.user_files import read_bounded

_HEADER = 128
_MOST = 16 << 20  # bytes once decompressed; the lists of Stanford Cars have 3 million
_DEEPEST = 3  # structures in a structure
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _TEXT = 1, 2, 4
_NUMERIC = range(6, 16)
_NUMBERS = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d", 12: "q", 13: "Q"}
_ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}


def read_variable(path: Path, name: str) -> Any:
    """The value of a variable: text as str, a number as int or float, several as a list, structures as dicts.

    Raises:
        OSError: there is no such file.
        ValueError: the file is not of this format, is damaged, or has data of other kinds.
        KeyError: it has no such variable.
    """
    data = read_bounded(path)
    order = {b"IM": "<", b"MI": ">"}.get(data[126:_HEADER])
    if order is None:
        raise ValueError("it is not a MATLAB file of version 5 to 7")
    for element in _Elements(data, order, _HEADER):
        if element.kind == _COMPRESSED:
            element = next(iter(_Elements(_decompressed(element.data), order, 0)))
        if element.kind == _MATRIX and (matrix := _Matrix.of(element.data, order)).name == name:
            return matrix.value(_DEEPEST)
    raise KeyError(name)


@dataclass(frozen=True)
class _Element:
    """A data element and its type."""

    kind: int
    data: bytes


class _Elements:
    """Reads data elements in sequence."""

    def __init__(self, data: bytes, order: str, start: int) -> None:
        self._data, self._order, self._offset = data, order, start

    def __iter__(self) -> Iterator[_Element]:
        while self._offset < len(self._data):
            yield self.take()

    def take(self) -> _Element:
        """Read the next element and skip its padding to 8 bytes."""
        first, size = self._tag()
        kind, small = first & 0xFFFF, first >> 16
        if small:  # its size and its data are within the tag
            size, start = small, self._offset + 4
            self._offset += 8
        else:
            start = self._offset + 8
            self._offset = start + size + (0 if kind == _COMPRESSED else -size % 8)
        if start + size > len(self._data) or (small and size > 4):
            raise ValueError("it is truncated")
        return _Element(kind, self._data[start : start + size])

    def numbers(self) -> list[Any]:
        """Read the next element as numbers."""
        element = self.take()
        form = _NUMBERS.get(element.kind)
        if form is None or len(element.data) % struct.calcsize(form):
            raise ValueError(f"it has data of type {element.kind} where numbers belong")
        count = len(element.data) // struct.calcsize(form)
        return list(struct.unpack(f"{self._order}{count}{form}", element.data))

    def text(self) -> str:
        """Read the next element as text."""
        element = self.take()
        encoding = _ENCODINGS.get(element.kind)
        if encoding is None:
            raise ValueError(f"it has data of type {element.kind} where text belongs")
        if encoding in ("utf-16", "utf-32"):
            encoding += "-le" if self._order == "<" else "-be"
        return element.data.decode(encoding)

    def _tag(self) -> tuple[int, int]:
        if self._offset + 8 > len(self._data):
            raise ValueError("it is truncated")
        first, size = struct.unpack_from(f"{self._order}II", self._data, self._offset)
        return first, size


@dataclass(frozen=True)
class _Matrix:
    """An array of any class, of which only the header has been read."""

    kind: int
    dimensions: list[int]
    name: str
    rest: _Elements
    order: str

    @classmethod
    def of(cls, data: bytes, order: str) -> _Matrix:
        """Read the header from the data of an element; empty data is an empty array."""
        elements = _Elements(data, order, 0)
        if not data:
            return cls(_NUMERIC.start, [0], "", elements, order)
        flags, dimensions = elements.numbers(), elements.numbers()
        if not flags or not all(isinstance(size, int) and size >= 0 for size in dimensions):
            raise ValueError("it has an array without dimensions")
        return cls(flags[0] & 0xFF, dimensions, elements.text(), elements, order)

    def value(self, depth: int) -> Any:
        """The value as `read_variable` returns it; arrays may be nested at most `depth` deep."""
        count = math.prod(self.dimensions)
        if depth == 0:
            raise ValueError("it is nested too deeply")
        if self.kind == _TEXT:
            return _rows_of(self.rest.text() if count else "", self.dimensions[0])
        if self.kind in _NUMERIC:
            numbers = self.rest.numbers() if count else []
            return numbers[0] if len(numbers) == 1 else numbers
        if self.kind == _CELL:
            return [self._next(depth) for _ in range(count)]
        if self.kind == _STRUCT:
            names = self._field_names()
            if not names and count:
                raise ValueError("it has structures without fields")
            return [{name: self._next(depth) for name in names} for _ in range(count)]
        raise ValueError(f"it has an array of the class {self.kind}")

    def _next(self, depth: int) -> Any:
        element = self.rest.take()
        if element.kind != _MATRIX:
            raise ValueError(f"it has data of type {element.kind} where an array belongs")
        return _Matrix.of(element.data, self.order).value(depth - 1)

    def _field_names(self) -> list[str]:
        length, text = self.rest.numbers(), self.rest.text()
        if len(length) != 1 or not isinstance(length[0], int) or length[0] < 1:
            raise ValueError("it has structures whose fields have no names")
        return [text[start : start + length[0]].partition("\0")[0] for start in range(0, len(text), length[0])]


def _rows_of(text: str, rows: int) -> str | list[str]:
    """The rows of a character array, which is stored column by column."""
    return text if rows <= 1 else [text[row::rows] for row in range(min(rows, len(text)))]


def _decompressed(data: bytes) -> bytes:
    decompressor = zlib.decompressobj()
    try:
        found = decompressor.decompress(data, _MOST)
    except zlib.error as error:
        raise ValueError(f"it is damaged ({error})") from None
    if decompressor.unconsumed_tail:
        raise ValueError(f"it holds more than {_MOST >> 20} MiB")
    if not found:
        raise ValueError("it is truncated")
    return found
