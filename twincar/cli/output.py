"""Output: tables on a terminal, tab-separated lines elsewhere, JSON and CSV for machines, progress bars."""

from __future__ import annotations

import csv
import io
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from time import perf_counter
from typing import Any, Protocol, TypeVar

import typer

from twincar.core.files import spreadsheet_cell
from twincar.core.progress import Progress

log = logging.getLogger("twincar.cli")

_MINUTE = 60  # seconds between two lines of a log


@contextmanager
def progress(what: str) -> Iterator[Progress | None]:
    """A progress bar on standard error if that is a terminal, else a line a minute in the log.

    Yields the function to call with (done, total).
    """
    if not log.isEnabledFor(logging.INFO):
        yield None
        return
    if not sys.stderr.isatty():
        yield _line_a_minute(what)
        return
    from rich import progress as bars
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with bars.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)  # 0: it is not known


def _line_a_minute(what: str) -> Progress:
    logged = perf_counter()

    def on_item(done: int, total: int) -> None:
        nonlocal logged
        if perf_counter() - logged >= _MINUTE:
            logged = perf_counter()
            log.info("%s: %d%s", what, done, f" of {total}" if total else "")  # 0: it is not known

    return on_item


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table on a terminal, tab-separated lines elsewhere; the first line names the columns."""
    if not sys.stdout.isatty():
        rows = iter(rows)
        first = list(islice(rows, 1))  # before anything is printed, because it may raise an error
        for row in chain([header], first, rows):
            typer.echo("\t".join(row))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    columns = (Column(name, overflow="fold") for name in header)  # long cells are wrapped, not cut off
    table = Table(*columns, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


class Result(Protocol):
    """The result of a verb."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""


R = TypeVar("R", bound=Result)


def print_result(result: R, show: Callable[[R], None], *, as_json: bool) -> None:
    """Print a result: one JSON object for machines, or by `show` for people."""
    if as_json:
        print_json(result.to_dict())
    else:
        show(result)


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object, indented."""
    _write_utf8()
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_json_lines(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print one JSON object per line."""
    _write_utf8()
    for row in rows:
        typer.echo(json.dumps(row, ensure_ascii=False))


def print_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print CSV with a header; missing cells are empty, and text that a spreadsheet would run is quoted.

    Fields of a row that are no column are left out.

    Numbers have six decimals at most and no exponent; the items of a list are joined by semicolons.
    """
    _write_utf8()
    rows = iter(rows)
    first = list(islice(rows, 1))  # before anything is printed, because it may raise an error
    writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({column: _cell(row.get(column)) for column in columns} for row in chain(first, rows))
    sys.stdout.flush()  # while the error of a full disk can still be reported


def _cell(value: Any) -> Any:
    """A number without an exponent, a list of anything as one text."""
    if isinstance(value, float):
        return f"{value:.6f}"
    return spreadsheet_cell("; ".join(map(str, value)) if isinstance(value, list | tuple) else value)


def _write_utf8() -> None:
    """Write UTF-8 in any locale; bytes of a name that are not UTF-8 become escapes."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


class CurrentStderr(logging.StreamHandler[Any]):
    """Logs to the current standard error, so that a progress bar can keep lines above itself."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        """The current standard error."""
        return sys.stderr

    @stream.setter
    def stream(self, value: Any) -> None:
        """Ignored: the stream is always the current standard error."""
