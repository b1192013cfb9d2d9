"""What Linux, macOS and Windows do differently, in one place: files, folders, locks and processes."""

from __future__ import annotations

import os
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

POSIX = os.name == "posix"
"""False on Windows."""

_FAR = 1 << 30  # bytes; Windows lets nobody read what is locked, so a byte is locked that no file has


def flags(*names: str) -> int:
    """Flags of `os.open`, such as 'O_NONBLOCK', as far as this system has them, and binary mode where it is one."""
    return sum(getattr(os, name, 0) for name in {*names, "O_BINARY"})


def lock(file: TextIO) -> None:
    """Lock a file that is open for writing, until it is closed or the process ends.

    On POSIX it is a record lock: unlike a lock of flock(2), it is not inherited by the data-loader processes, which
    outlive a killed process for seconds, and on NFS it holds for all hosts.

    Raises:
        OSError: another process has locked it (EACCES or EAGAIN), or it cannot be locked.
    """
    try:
        import fcntl
    except ImportError:
        msvcrt: Any = import_module("msvcrt")
        os.lseek(file.fileno(), _FAR, os.SEEK_SET)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def rename_folder(folder: Path, to: Path) -> None:
    """Rename a folder, also to the name of an empty one, which Windows does not replace.

    Raises:
        OSError: there is a file, or a folder that is not empty, of that name; or the disk cannot be written to.
    """
    if not POSIX:
        with suppress(OSError):
            to.rmdir()
    folder.replace(to)


def is_running(process: int) -> bool | None:
    """Whether there is a process of this number; None where that cannot be asked.

    Windows has no signal 0: there, `os.kill(process, 0)` would be Ctrl-C.
    """
    if not POSIX:
        return None
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to another user
        return True
    return True
