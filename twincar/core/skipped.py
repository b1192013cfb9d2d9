"""What a search for photos leaves out, and why: the rules that hold for folders and for addresses."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable
from enum import StrEnum

from twincar.core.photo_formats import (
    LEFTOVER_SUFFIXES,
    OTHER_SUFFIXES,
    PHOTO_SUFFIXES,
    RAW_SUFFIXES,
    is_photo_data,
)

log = logging.getLogger(__name__)

DEEPEST = 32
"""Folders in each other that are searched."""
DRAWN = ".drawn_by_twincar"
"""A file in a folder of pictures that `predict --draw` made, which are no photos."""
_SYSTEM_NAMES = frozenset(
    {
        "__macosx", "@eadir", "@__thumb", "#recycle", "#snapshot", "$recycle.bin", "lost+found", "thumbs.db",
        "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "__pycache__",
        "system volume information", "icon\r",
    }
)  # fmt: skip


class Skip(StrEnum):
    """Why a file or folder is skipped; the values are keys in JSON output."""

    HIDDEN = "hidden"
    SYSTEM = "made by the system"
    NOT_A_PHOTO = "not a photo"
    RAW = "raw file of a camera"
    LEFTOVER = "unfinished download or backup"
    LOOP = "link to a folder above"
    TOO_DEEP = f"more than {DEEPEST} folders deep"
    UNREADABLE = "not readable"
    NO_CLASS = "photo outside the class folders"
    OTHER_FOLDER = "photo in a folder beside the splits"
    DRAWN = "drawn by predict --draw"
    REPEATED = "named twice"


class Skipped:
    """Counts of skipped files and folders by reason, with the first example of each."""

    def __init__(self) -> None:
        self._counts: Counter[Skip] = Counter()
        self._examples: dict[Skip, str] = {}

    def add(self, reason: Skip, name: str) -> None:
        """Count one file, or one folder that was not searched."""
        self._counts[reason] += 1
        self._examples.setdefault(reason, name)

    def to_dict(self) -> dict[str, int]:
        """The counts by reason, for JSON."""
        return {str(reason): count for reason, count in self._counts.most_common()}

    def count(self, reason: Skip) -> int:
        """How many were skipped for a reason."""
        return self._counts[reason]

    def log(self) -> None:
        """Log the counts, if anything was skipped."""
        if self._counts:
            reasons = (
                f"{count} {reason} (such as {self._examples[reason]})" for reason, count in self._counts.most_common()
            )
            log.info("Skipped: %s.", ", ".join(reasons))


def is_wanted(path: str, skipped: Skipped, pattern: str = "") -> bool:
    """Whether a file or folder is neither hidden nor made by the system.

    For a match of a pattern, all folders on the path are checked, except those that the pattern names.
    """
    named = set(pattern.split("/"))
    parts = path.rstrip("/").split("/")
    for name in parts if pattern else parts[-1:]:
        hidden = name.startswith(".")
        if name not in named and (hidden or name.casefold() in _SYSTEM_NAMES):
            skipped.add(Skip.HIDDEN if hidden else Skip.SYSTEM, path)
            return False
    return True


def is_photo(path: str, read_head: Callable[[str], bytes], skipped: Skipped) -> bool:
    """Whether a file is a photo by its suffix, or without one that says so by its first bytes; others are counted."""
    suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122
    if suffix in PHOTO_SUFFIXES:
        return True
    if suffix in RAW_SUFFIXES or suffix.endswith("~") or suffix in LEFTOVER_SUFFIXES:
        skipped.add(Skip.RAW if suffix in RAW_SUFFIXES else Skip.LEFTOVER, path)
        return False
    try:
        if suffix not in OTHER_SUFFIXES and is_photo_data(read_head(path)):
            return True
    except Exception:  # an error of the disk, or any that this kind of address raises
        skipped.add(Skip.UNREADABLE, path)
        return False
    skipped.add(Skip.NOT_A_PHOTO, path)
    return False
