"""Starts processes of the program without importing torch in each, which takes seconds.

A server has imported everything once, and each process is a fork of it (multiprocessing's `forkserver`). It is a
separate process like any other: it can be killed, has its own children, and its own exit code.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import get_context, set_start_method
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TextIO

_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        *("twincar.cli", "twincar.quickstart", "twincar.training.train", "twincar.evaluation.report.page"),
        *("twincar.explanation.compare", "twincar.auditing.audit", "twincar.inference.batch", "twincar.deploy.publish"),
    ]
)


@dataclass
class Forked:
    """A running process."""

    process: BaseProcess
    told: TextIO
    """Its standard output and standard error, line by line."""

    @property
    def pid(self) -> int:
        """Its number."""
        assert self.process.pid is not None
        return self.process.pid

    def finish(self) -> tuple[int, str]:
        """Wait for its end; returns the exit code, negative for a signal, and the output not read so far."""
        with self.told:
            told = self.told.read()
        self.process.join()
        assert self.process.exitcode is not None
        return self.process.exitcode, told


def start(
    function: Callable[..., object],
    *arguments: object,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Forked:
    """Call a function of a module in a separate process, in the given folder and environment or the current ones."""
    heard, told = _CONTEXT.Pipe(duplex=False)
    settings = (str(folder or Path.cwd()), dict(os.environ if environment is None else environment))
    process = _CONTEXT.Process(target=_call, args=(told, *settings, function, arguments))
    process.start()
    told.close()
    with heard:
        return Forked(process, os.fdopen(os.dup(heard.fileno()), encoding="utf-8", errors="replace"))


def command_line(arguments: Sequence[object]) -> None:
    """`twincar ARGUMENTS`."""
    from twincar.cli import main

    sys.argv = ["twincar", *map(str, arguments)]
    main()


def _call(
    told: Connection,
    folder: str,
    environment: dict[str, str],
    function: Callable[..., object],
    arguments: tuple[object, ...],
) -> None:
    for stream in (1, 2):
        os.dup2(told.fileno(), stream)
    # Those of the server may have been opened on a file, in which they would seek.
    sys.stdout, sys.stderr = (
        os.fdopen(stream, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
        for stream in (1, 2)
    )
    told.close()
    set_start_method(None, force=True)  # of its own children; it came with the server's
    signal.signal(signal.SIGINT, signal.default_int_handler)  # of a shell's background job children ignore Ctrl-C
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    function(*arguments)
