"""Read the rows of a CSV file: recognize its encoding, its separator and its columns.

Encodings are UTF-8, with or without a byte order mark, and UTF-16 with one; separators are comma, semicolon and tab.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from twincar.core.errors import DataError
from twincar.core.labels import shorten
from twincar.core.user_files import read_bounded

BOX = ("x1", "y1", "x2", "y2")
_SPELLINGS = {
    "filename": ("filename", "file", "file_name", "image"),
    "label": ("label", "class"),
    "split": ("split",),
    "x1": ("x1", "xmin", "x_min", "left", "bbox_x1", "box_x1"),
    "y1": ("y1", "ymin", "y_min", "top", "bbox_y1", "box_y1"),
    "x2": ("x2", "xmax", "x_max", "right", "bbox_x2", "box_x2"),
    "y2": ("y2", "ymax", "y_max", "bottom", "bbox_y2", "box_y2"),
}
_COLUMN_OF = {spelling: column for column, spellings in _SPELLINGS.items() for spelling in spellings}
_SEPARATORS = ",;\t"


@dataclass(frozen=True, kw_only=True)
class CsvRow:
    """One row that is not empty."""

    line: int
    """The line on which it ends, from 1."""
    cells: Mapping[str, str]
    """Cells by TwinCar's name of the column."""
    fault: str = ""
    """Why the cells cannot be assigned to columns; `cells` is then empty."""


def read_rows(path: Path) -> list[CsvRow]:
    """The rows of a file whose first line names the columns filename and label.

    Raises:
        DataError: it cannot be read, is not CSV, or lacks a column or has it twice.
    """
    text = read_text(path)
    # strict: an unclosed quote would otherwise silently swallow the rest of the file.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text), strict=True)
    try:
        header = next((row for row in reader if row), [])
        columns = _columns(header, path)
        return [_as_row(cells, header, columns, reader.line_num) for cells in reader if any(map(str.strip, cells))]
    except csv.Error as error:
        raise DataError(f"Expected CSV in {path}, but line {reader.line_num} cannot be read: {error}.") from None


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        DataError: it cannot be read, or is neither UTF-8 nor UTF-16 with a byte order mark.
    """
    try:
        data = read_bounded(path)
    except OSError as error:
        raise DataError(f"Expected a text file at {path}, but it cannot be read: {error.strerror}.") from None
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"Expected {'UTF-16' if encoding == 'utf-16' else 'UTF-8'} text in {path}, but byte {error.start} is not; "
            "save it as UTF-8."
        ) from None
    if "\0" in text:
        raise DataError(f"Expected text in {path}, but it contains zero bytes; save it as UTF-8.")
    return text


def _separator(text: str) -> str:
    """The separator for which the first line has the known columns, else the most frequent one in it."""
    first = text.lstrip("\r\n").partition("\n")[0]

    def fit(separator: str) -> tuple[int, int]:
        names = {_COLUMN_OF.get(_plain(name.strip(' "\r'))) for name in first.split(separator)}
        return len(names & {"filename", "label"}), first.count(separator)

    return max(_SEPARATORS, key=fit)


def _columns(header: list[str], path: Path) -> dict[str, int]:
    """The index of each known column."""
    indices: dict[str, int] = {}
    for index, name in enumerate(header):
        column = _COLUMN_OF.get(_plain(name))
        if column in indices:
            raise DataError(
                f"Expected one column {column} in the first line of {path}, but {header[indices[column]]!r} and "
                f"{name!r} both mean it. Rename the one that is not meant."
            )
        if column:
            indices[column] = index
    if not {"filename", "label"} <= indices.keys():
        raise DataError(
            f"Expected the columns filename and label in the first line of {path}, but found "
            f"{shorten(header, 6) or 'an empty file'}."
        )
    return indices


def _plain(name: str) -> str:
    return name.strip().casefold()


def _as_row(cells: list[str], header: list[str], columns: Mapping[str, int], line: int) -> CsvRow:
    # Blank cells at the end, beyond the last named column, may be dropped.
    named = max(index for index, name in enumerate(header) if name.strip()) + 1
    if named <= len(cells) and not any(map(str.strip, cells[len(header) :])):
        return CsvRow(line=line, cells={column: cells[index] for column, index in columns.items()})
    fault = f"Expected {len(header)} cells in line {line}, but there are {len(cells)}: {shorten(cells, 8)}."
    return CsvRow(line=line, cells={}, fault=fault)
