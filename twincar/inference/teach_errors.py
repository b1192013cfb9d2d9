"""Why a car cannot be taught, or forgotten: a sentence for people, and a code for programs."""

from __future__ import annotations

from typing import Literal

from twincar.core.errors import DataError, TwinCarError, UsageError

TeachCode = Literal[
    "name_trained", "name_exists", "unknown_name", "photos_repeated", "photos_of_another_car", "no_car", "several_cars",
]  # fmt: skip


class TeachError(TwinCarError):
    """A car that cannot be taught, or forgotten."""

    def __init__(self, code: TeachCode, found: str, advice: str = "") -> None:
        """Describe it.

        Args:
            code: why.
            found: the same as a sentence: what was expected, and what was found.
            advice: what to do at the command line; a server has other words for it.
        """
        super().__init__(f"{found} {advice}".strip())
        self.code = code
        self.found = found


class TeachNameError(TeachError, UsageError):
    """The name is in use, or was not taught, or the photos are there already."""


class TeachPhotosError(TeachError, DataError):
    """The photos can be read, but do not show one car."""
