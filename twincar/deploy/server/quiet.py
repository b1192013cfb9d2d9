"""What clients send must not write into the log by way of a library: it is counted, and they are told."""

from __future__ import annotations

import ctypes
import logging
import re
import warnings
from contextlib import suppress
from pathlib import Path

_LIBTIFF = re.compile(r"/\S*libtiff[-.\w]*\.so[.\d]*$", re.MULTILINE)


def quiet_libraries() -> None:
    """Silence the warnings of Pillow and the errors of libtiff, for the whole process; both are raised as well.

    By now Pillow, which brings libtiff, has been imported.
    """
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"PIL\.")
    with suppress(OSError, AttributeError):  # elsewhere than on Linux, or with a Pillow that was built otherwise
        for path in set(_LIBTIFF.findall(Path("/proc/self/maps").read_text(encoding="utf-8"))):
            ctypes.CDLL(path).TIFFSetErrorHandler(None)  # it writes to the file descriptor, past Python
