"""Every error TwinCar raises on purpose, in one tree.

    TwinCarError                  exit code 1
    ├── UsageError                exit code 2: the command itself is wrong; nothing was started
    ├── DataError                 a data set or source that cannot be used as it is
    │   └── PhotoError            one photo; carries the `Defect` found
    ├── LabelError                class names that do not fit together
    ├── CheckpointError           a model file that cannot be trusted or does not fit
    ├── PretrainedWeightsError    the backbone's pretrained weights cannot be had
    ├── HubError                  what a hub was asked for, or to keep: not there, refused, not whole
    ├── ClusterError              a cluster that cannot be reached, or that gave up its work
    ├── StorageError              the disk: full, read-only, no permission
    └── MissingExtraError         a verb whose optional dependencies are not installed

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
        # What a message repeats of a file or a request may be as long as that is; a sentence is not.
        half = _LONGEST // 2
        super().__init__(message if len(message) <= _LONGEST else f"{message[:half]} [...] {message[-half:]}")


class UsageError(TwinCarError):
    """The command or call is wrong as written: a path that is not there, values that do not go together."""

    exit_code = 2


class DataError(TwinCarError):
    """A data set or a source of one that cannot be used as it is."""


class Defect(StrEnum):
    """What can be wrong with one row of a data set."""

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
    """Nothing is wrong with it by itself; the user's list says that it should go."""


class PhotoError(DataError):
    """One photo cannot be used; `defect` says which kind of trouble it is."""

    def __init__(self, defect: Defect, message: str) -> None:
        super().__init__(message)
        self.defect = defect

    def __reduce__(self) -> tuple[type[PhotoError], tuple[Defect, str]]:
        # Data-loader workers send their exceptions through pickle, which by default would lose `defect`.
        return PhotoError, (self.defect, str(self))


class LabelError(TwinCarError):
    """Class names that do not fit together: unknown, repeated, or missing on one side."""


class CheckpointError(TwinCarError):
    """A model file that is damaged, of another architecture, or not safe to open."""


class PretrainedWeightsError(TwinCarError):
    """The backbone's pretrained weights were asked for and cannot be had."""


class HubError(TwinCarError):
    """A hub does not give what it was asked for, or does not take what it was given."""


class ClusterError(TwinCarError):
    """A cluster that cannot be reached, or that gave up its work."""


class StorageError(TwinCarError):
    """Nothing could be written: the disk is full, read-only, or not ours to write to."""


class MissingExtraError(TwinCarError):
    """An optional dependency is not installed; the message names the extra that brings it."""


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
    """Turn the operating system's refusals to write `what` into one `StorageError`."""
    try:
        yield
    except OSError as error:
        reason = _STORAGE_REASONS.get(error.errno or 0)
        if reason is None:
            raise
        raise StorageError(
            f"Could not write {what}: {reason}. What was there before is unchanged; make room or choose another "
            "folder, and try again."
        ) from error
