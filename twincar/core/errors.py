"""Every error TwinCar raises on purpose, in one tree.

    TwinCarError                  exit code 1
    ├── UsageError                exit code 2: the command itself is wrong; nothing was started
    ├── DataError                 a data set or source cannot be used as it is
    │   └── PhotoError            one photo cannot be used; carries the `Defect` found
    ├── LabelError                class names do not fit together
    ├── CheckpointError           a model file cannot be trusted or does not fit
    ├── PretrainedWeightsError    the backbone's pretrained weights are not available
    ├── HubError                  a download from or an upload to a hub failed
    ├── ClusterError              a cluster cannot be reached, or its work failed
    ├── StorageError              the disk is full or read-only, or permission is denied
    └── MissingExtraError         the optional dependencies of a verb are not installed

Each message is one sentence or two: what was expected, what was found, what to do next. Only the command line turns
an error into an exit code; libraries and tests catch the classes.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

_LONGEST = 2000  # characters of a message


class TwinCarError(Exception):
    """Base of every error raised on purpose; `exit_code` is what the command line returns for it."""

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        # A message may quote from a file or a request, which can be of any length.
        half = _LONGEST // 2
        super().__init__(message if len(message) <= _LONGEST else f"{message[:half]} [...] {message[-half:]}")


class UsageError(TwinCarError):
    """The command or call itself is wrong: a path does not exist, or values do not go together."""

    exit_code = 2


class DataError(TwinCarError):
    """A data set, or a source of one, cannot be used as it is."""


class Defect(StrEnum):
    """What can be wrong with one row of a data set; the values appear in tables and JSON."""

    MISSING = "missing"
    EMPTY = "empty"
    TRUNCATED = "truncated"
    NOT_AN_IMAGE = "not an image"
    UNSUPPORTED = "unsupported format"
    OUTSIDE = "outside the data folder"
    TOO_LARGE = "too large once decoded"
    TOO_SMALL = "too small"
    ODD_SHAPE = "odd shape"
    REPEATED = "repeated row"
    UNKNOWN_LABEL = "unknown label"
    MALFORMED = "malformed row"
    SINGLETON = "class with one photo"
    EXCLUDED = "excluded"
    """The row itself is valid; the user's list of exclusions names it."""


class PhotoError(DataError):
    """One photo cannot be used; `defect` says why."""

    def __init__(self, defect: Defect, message: str) -> None:
        super().__init__(message)
        self.defect = defect

    def __reduce__(self) -> tuple[type[PhotoError], tuple[Defect, str]]:
        # Data-loader workers send their exceptions through pickle, which by default would lose `defect`.
        return PhotoError, (self.defect, str(self))


class LabelError(TwinCarError):
    """Class names do not fit together: unknown, repeated, or missing on one side."""


class CheckpointError(TwinCarError):
    """A model file is damaged, of another architecture, or not safe to open."""


class PretrainedWeightsError(TwinCarError):
    """The backbone's pretrained weights were requested but are not available."""


class HubError(TwinCarError):
    """A download from a hub, or an upload to it, failed."""


class ClusterError(TwinCarError):
    """A cluster cannot be reached, or its work failed."""


class StorageError(TwinCarError):
    """A file could not be written: the disk is full or read-only, or permission is denied."""


class MissingExtraError(TwinCarError):
    """An optional dependency is not installed; the message names the extra that brings it."""


def reason(error: BaseException, *, last: bool = False) -> str:
    """One line of an error's message, to quote in a sentence: without its full stop; its class if it has no message.

    Args:
        error: of any library.
        last: take the last line, where some libraries put the cause, in place of the first.
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1 if last else 0].strip().rstrip(".:")


_STORAGE_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be larger than the system allows",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission was denied",
    errno.EPERM: "permission was denied",
}


@contextmanager
def storage_errors(what: str | Path) -> Iterator[None]:
    """Raise the operating system's errors in writing `what` as one `StorageError`."""
    try:
        yield
    except OSError as error:
        cause = _STORAGE_REASONS.get(error.errno or 0)
        if cause is None:
            raise
        raise StorageError(
            f"Could not write {what}: {cause}. What was there before is unchanged; make room or choose another "
            "folder, and try again."
        ) from error
