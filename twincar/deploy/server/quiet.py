"""Silence libraries that log what clients send; errors in photos are counted and reported to the clients instead."""

from __future__ import annotations

import ctypes
import logging
import re
import warnings
from contextlib import suppress
from pathlib import Path

_LIBTIFF = re.compile(r"/\S*libtiff[-.\w]*\.so[.\d]*$", re.MULTILINE)


def quiet_libraries() -> None:
    """Silence the warnings of Pillow and the errors of libtiff for the whole process; both raise errors as well.

    Pillow, which contains libtiff, must have been imported before.
    """
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"PIL\.")
    with suppress(OSError, AttributeError):  # not on Linux, or another build of Pillow
        for path in set(_LIBTIFF.findall(Path("/proc/self/maps").read_text(encoding="utf-8"))):
            ctypes.CDLL(path).TIFFSetErrorHandler(None)  # it writes to the file descriptor, past Python
