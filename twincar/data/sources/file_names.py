"""Find the file on disk for the name of a photo in a table; the two may be spelled differently."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from twincar.core.errors import DataError
from twincar.core.listing import look_into
from twincar.core.photo_formats import PHOTO_SUFFIXES
from twincar.core.skipped import Skipped
from twincar.data.dataset import is_outside
from twincar.data.sources.base import file_key


@dataclass(frozen=True)
class FoundName:
    """The result of looking up a name."""

    name: str
    """Path below the photo folder as spelled on disk; the listed name if there is no such file."""
    exists: bool = False
    respelled: bool = False
    """Whether it is listed without its suffix or in another case."""
    others: tuple[str, ...] = ()
    """If there is no such file, the files that may be meant."""


@dataclass(frozen=True)
class PhotoNames:
    """Looks up names of photos below a folder."""

    root: Path
    _folders: dict[str, tuple[Mapping[str, list[str]], Mapping[str, list[str]]]] = field(default_factory=dict)

    def find(self, name: str) -> FoundName:
        """The file of this name, or the only photo that differs in case or has a suffix that the list omits."""
        if not name or is_outside(name):
            return FoundName(name)
        # Systems store 'é' as one code point or as two, independently of the list.
        spellings = (name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name))
        if exact := next((spelling for spelling in spellings if _is_file(self.root / spelling)), None):
            return FoundName(exact, exists=True)
        folder, _, last = name.rpartition("/")
        by_name, by_stem = self._listed(folder)
        has_suffix = PurePosixPath(last).suffix.casefold() in PHOTO_SUFFIXES
        fitting = by_name.get(_key(last)) or ([] if has_suffix else by_stem.get(_key(last))) or []
        paths = [f"{folder}/{found}" if folder else found for found in fitting]
        if len(paths) == 1:
            return FoundName(paths[0], exists=True, respelled=True)
        return FoundName(name, others=tuple(paths or by_stem.get(_key(PurePosixPath(last).stem), ())))

    def _listed(self, folder: str) -> tuple[Mapping[str, list[str]], Mapping[str, list[str]]]:
        """The photos of a folder, by their names and by their names without a suffix; read once."""
        if folder not in self._folders:
            by_name, by_stem = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
            for path in _photos_in(self.root / folder):
                by_name[_key(path.name)].append(path.name)
                by_stem[_key(path.stem)].append(path.name)
            self._folders[folder] = by_name, by_stem
        return self._folders[folder]


def name_below(folder: Path, name: str) -> str:
    """Make an absolute name relative to `folder` if the file lies below it; any other name is returned as it is."""
    path = Path(name)
    if not path.is_absolute():
        return name
    for start, parent in ((folder, path.parent), (folder.resolve(), _resolved(path.parent))):
        if parent.is_relative_to(start) and ".." not in parent.parts:
            return (parent.relative_to(start) / path.name).as_posix()
    return name


def _resolved(folder: Path) -> Path:
    try:
        return folder.resolve()
    except (OSError, ValueError, RuntimeError):  # too long, with a zero byte, or a loop of links
        return folder


def _key(name: str) -> str:
    return file_key(name).casefold()


def _photos_in(folder: Path) -> list[Path]:
    try:
        return look_into(folder, Skipped())[1]
    except (DataError, ValueError):
        return []


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name no file can have: too long, or with a zero byte
        return False
