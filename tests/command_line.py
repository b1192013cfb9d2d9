"""The command line as a test runs it: in its own process, without a terminal."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

import pytest

from twincar.cli import main


@dataclass
class Result:
    returncode: int
    stdout: str
    stderr: str


class Stdin(io.TextIOWrapper):
    """Standard input that holds some bytes."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))


def run(*arguments: object, stdin: bytes = b"") -> Result:
    """The command as `main` runs it, without a terminal; in this process, because importing torch takes seconds."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["twincar", *map(str, arguments)])
        patch.setattr(sys, "stdin", Stdin(stdin))
        with pytest.raises(SystemExit) as stop:
            main()
    return Result(int(stop.value.code or 0), out.getvalue(), err.getvalue())
