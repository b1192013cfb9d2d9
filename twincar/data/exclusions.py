"""The list of photos to leave out: `findings.csv` of a deep audit, or any CSV file with a column `file`.

Where there is a column `action`, only the rows that say 'exclude' count; the others are there to be looked at. The
columns `reason` and `detail` are passed on.
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
"""What can stand in the column `action`."""


def read_exclusions(path: Path) -> dict[str, str]:
    """The files to leave out, by `file_key`, and why.

    Raises:
        UsageError: there is no such file.
        DataError: it is no CSV file with a column `file`, or has another word in the column `action`.
    """
    try:
        text = read_bounded(path).decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise UsageError(f"Expected a CSV file at {path}, and it cannot be read: {error.strerror}.") from None
    rows = csv.DictReader(io.StringIO(text, newline=""), restval="")
    try:
        return _excluded(rows, path)
    except csv.Error as error:
        raise DataError(f"Expected CSV in {path}, and line {rows.line_num} cannot be read: {error}.") from None


def _excluded(rows: csv.DictReader[str], path: Path) -> dict[str, str]:
    if "file" not in (rows.fieldnames or ()):
        raise DataError(f"Expected the column file in the first line of {path}, and it is not there.")
    excluded: dict[str, str] = {}
    for row in rows:
        action = row.get("action", EXCLUDE).strip().casefold() or LOOK
        if action not in (EXCLUDE, LOOK):
            raise DataError(
                f"Expected {EXCLUDE} or {LOOK} in the column action of {path}, and line {rows.line_num} has {action!r}."
            )
        if action == EXCLUDE and row["file"]:
            why = [part for part in (row.get("reason"), row.get("detail")) if part]
            name = from_spreadsheet_cell(row["file"])  # the list may be what `audit --csv` printed
            excluded.setdefault(file_key(name), ": ".join(why) or f"listed in {path.name}")
    return excluded
