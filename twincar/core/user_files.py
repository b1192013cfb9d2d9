"""Safe reading of files that a user names (regular files only, up to a size limit), and their names as text."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from urllib.parse import quote

from twincar.core.portable import flags

MAX_BYTES = 1 << 30
"""Largest file that is read, bytes, unless a reader has its own limit."""


@contextmanager
def open_regular(path: Path) -> Iterator[BufferedReader]:
    """Open a regular file for reading; a device or a pipe, which might block, is refused.

    Raises:
        OSError: it cannot be opened, or is not a regular file (EINVAL; `IsADirectoryError` for a folder).
    """
    folder = IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    try:
        descriptor = os.open(path, os.O_RDONLY | flags("O_NONBLOCK", "O_NOCTTY"))
    except PermissionError:  # Windows opens no folder at all
        if path.is_dir():
            raise folder from None
        raise
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise folder
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        with open(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def read_bounded(path: Path, most: int = MAX_BYTES) -> bytes:
    """The contents of a regular file; used for every path that a user names.

    At most `most` bytes are read, even if the file grows meanwhile or reports no size.

    Raises:
        OSError: as `open_regular` does, and if it has more than `most` bytes (EFBIG).
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(min(size, most) + 1)  # read() allocates as much as it is asked for, so not `most` at once
        if size < len(data) <= most:
            data += file.read(most + 1 - len(data))
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it has more than {most} bytes", str(path))
    return data


def text_name(name: str) -> str:
    """The name of a file as valid text from which the file can be found again.

    Names on disk are bytes. If they are not UTF-8, the text is a percent-encoded `file:` address (RFC 8089).

    >>> text_name("/cars/caf\\udce9.jpg")
    'file:///cars/caf%E9.jpg'
    """
    try:
        name.encode()
    except UnicodeEncodeError:  # Python represents the other bytes as surrogates
        pass
    else:
        return name
    if "://" in name:
        return quote(os.fsencode(name), safe="/:?#[]@!$&'()*+,;=~%")
    return Path(name).absolute().as_uri()


def as_text(message: str) -> str:
    """A message as valid text, whatever file names it repeats."""
    return message.encode("utf-8", "backslashreplace").decode()
