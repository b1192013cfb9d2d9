"""Read the list of photos to leave out: `findings.csv` of a deep audit, or any CSV file with a column `file`.

If there is a column `action`, only rows with 'exclude' count; rows with 'look' are for people to look at. The columns
`reason` and `detail` are copied to the list of rows that were left out.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from twincar.core.errors import DataError, UsageError
from twincar.core.files import from_spreadsheet_cell
from twincar.core.user_files import read_bounded
from twincar.data.sources import file_key

EXCLUDE, LOOK = "exclude", "look"
"""The values of the column `action`."""


def read_exclusions(path: Path) -> dict[str, str]:
    """The files to leave out, by `file_key`, and why.

    Raises:
        UsageError: there is no such file.
        DataError: it is not a CSV file with a column `file`, or the column `action` has another value.
    """
    try:
        text = read_bounded(path).decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise UsageError(f"Expected a CSV file at {path}, but it cannot be read: {error.strerror}.") from None
    rows = csv.DictReader(io.StringIO(text, newline=""), restval="")
    try:
        return _excluded(rows, path)
    except csv.Error as error:
        raise DataError(f"Expected CSV in {path}, but line {rows.line_num} cannot be read: {error}.") from None


def _excluded(rows: csv.DictReader[str], path: Path) -> dict[str, str]:
    if "file" not in (rows.fieldnames or ()):
        raise DataError(f"Expected the column file in the first line of {path}, but it is not there.")
    excluded: dict[str, str] = {}
    for row in rows:
        action = row.get("action", EXCLUDE).strip().casefold() or LOOK
        if action not in (EXCLUDE, LOOK):
            raise DataError(
                f"Expected {EXCLUDE} or {LOOK} in the column action of {path}, but line {rows.line_num} has {action!r}."
            )
        if action == EXCLUDE and row["file"]:
            why = [part for part in (row.get("reason"), row.get("detail")) if part]
            name = from_spreadsheet_cell(row["file"])  # the list may be what `audit --csv` printed
            excluded.setdefault(file_key(name), ": ".join(why) or f"listed in {path.name}")
    return excluded
