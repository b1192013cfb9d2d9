"""A disk that fills up, one of Windows, and a run that another process holds."""

from __future__ import annotations

import errno
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from twincar.core import portable


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """As on a disk that fills up: the system refuses to write past `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # Python keeps what it could not write whole
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        sys.dont_write_bytecode = bytecode
        signal.signal(signal.SIGXFSZ, handler)


def rename_as_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows renames a folder to a free name only, not to that of an empty folder."""
    renamed = Path.replace

    def rename(path: Path, to: Path) -> None:
        if to.is_dir():
            raise PermissionError(errno.EACCES, "Access is denied", str(to))
        renamed(path, to)

    monkeypatch.setattr(portable, "POSIX", False)
    monkeypatch.setattr(Path, "replace", rename)


HOLD_LOCK = """
import os, sys; from pathlib import Path; from twincar.core.runs import RunFolder
with RunFolder(Path(sys.argv[1])).locked():
    if os.fork():  # the other is as a process that loads photos: it lives until its standard input ends
        print(os.getpid(), flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_elsewhere(run: Path) -> Iterator[subprocess.Popen[str]]:
    """A run whose lock another process holds, which has forked."""
    code = [sys.executable, "-c", HOLD_LOCK, str(run)]
    process = subprocess.Popen(code, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin
    assert process.stdout
    try:
        assert process.stdout.readline() == f"{process.pid}\n"
        yield process
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()
