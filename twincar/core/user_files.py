"""Files that a user names: regular ones only, read within a bound, and their names as text."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from urllib.parse import quote

MAX_BYTES = 1 << 30
"""Most that is read of a file that a user names, unless a reader has a bound of its own."""


@contextmanager
def open_regular(path: Path) -> Iterator[BufferedReader]:
    """Open a regular file to read it; no device, and no pipe, which would be waited for.

    Raises:
        OSError: it cannot be opened, or is no regular file (EINVAL; a folder: `IsADirectoryError`).
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        with open(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def read_bounded(path: Path, most: int = MAX_BYTES) -> bytes:
    """The contents of a regular file; for every path that a user names.

    A file that grows meanwhile, or does not tell its size, is read no further than `most` bytes.

    Raises:
        OSError: as `open_regular` does, and if it has more than `most` bytes (EFBIG).
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(min(size, most) + 1)  # as many bytes are set aside, so not `most` of them at once
        if size < len(data) <= most:
            data += file.read(most + 1 - len(data))
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it has more than {most} bytes", str(path))
    return data


def text_name(name: str) -> str:
    """The name of a file as text that can be written anywhere, and that leads back to the file.

    Names on disk are bytes. Where they are no UTF-8, the text is the file's address, percent-encoded (RFC 8089).

    >>> text_name("/cars/caf\\udce9.jpg")
    'file:///cars/caf%E9.jpg'
    """
    try:
        name.encode()
    except UnicodeEncodeError:  # Python carries the other bytes as surrogates
        pass
    else:
        return name
    if "://" in name:
        return quote(os.fsencode(name), safe="/:?#[]@!$&'()*+,;=~%")
    return Path(name).absolute().as_uri()


def as_text(message: str) -> str:
    """A message for people that can be written anywhere, whatever names of files it repeats."""
    return message.encode("utf-8", "backslashreplace").decode()
