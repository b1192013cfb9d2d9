"""Iterate over the photos below a folder or an address; memory does not grow with their number. Torch-free.

Every command that searches a folder uses these rules. A file with a photo suffix is a photo; if the suffix is missing
or unknown, the first bytes of the file decide. Hidden files and folders, and those that operating systems create, are
skipped. Links to folders are followed, except back to a folder above them. What is skipped is counted by reason.
"""

from __future__ import annotations

import glob
import logging
import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from twincar.core.errors import DataError, UsageError
from twincar.core.hub import MODEL_SUFFIXES
from twincar.core.photo_formats import (
    HEAD,
    LEFTOVER_SUFFIXES,
    OTHER_SUFFIXES,
    PHOTO_SUFFIXES,
    RAW_SUFFIXES,
    is_photo_data,
)
from twincar.core.photos import is_address, local_path
from twincar.core.run_files import CHECKPOINT_FILE, LOCK_FILE, WEIGHTS_FILE
from twincar.core.user_files import open_regular
from twincar.core.wording import counted

log = logging.getLogger(__name__)

_SYSTEM_NAMES = frozenset(
    {
        "__macosx", "@eadir", "@__thumb", "#recycle", "#snapshot", "$recycle.bin", "lost+found", "thumbs.db",
        "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "__pycache__",
        "system volume information", "icon\r",
    }
)  # fmt: skip
_DEEPEST = 32
_PACKAGES = {  # of kinds of addresses, what fsspec needs, for pip
    "http": "aiohttp requests", "https": "aiohttp requests", "s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs",
    "abfs": "adlfs", "sftp": "paramiko", "ssh": "paramiko", "smb": "smbprotocol",
}  # fmt: skip
_RUN_FILES = (WEIGHTS_FILE, CHECKPOINT_FILE, LOCK_FILE)  # of which a run folder has at least one
_OPENVINO_FILES = ("model.xml", "model.bin")


class Skip(StrEnum):
    """Why a file or folder is skipped; the values are keys in JSON output."""

    HIDDEN = "hidden"
    SYSTEM = "made by the system"
    NOT_A_PHOTO = "not a photo"
    RAW = "raw file of a camera"
    LEFTOVER = "unfinished download or backup"
    LOOP = "link to a folder above"
    TOO_DEEP = f"more than {_DEEPEST} folders deep"
    UNREADABLE = "not readable"
    NO_CLASS = "photo outside the class folders"
    OTHER_FOLDER = "photo in a folder beside the splits"


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

    def log(self) -> None:
        """Log the counts, if anything was skipped."""
        if self._counts:
            reasons = [
                f"{count} {reason} (such as {self._examples[reason]})" for reason, count in self._counts.most_common()
            ]
            total = counted(self._counts.total(), "file or folder", "files or folders")
            log.info("Skipped %s: %s.", total, ", ".join(reasons))


def find_photos(arguments: str | Path | Iterable[str | Path], skipped: Skipped | None = None) -> Iterator[str]:
    """The photos that files, folders (searched recursively) and patterns such as `'cars/*.jpg'` stand for.

    Each argument may be a path or an address that fsspec opens, such as `s3://bucket/cars`. The order is by name,
    folder by folder. A file that is named explicitly is always kept, so that its error is reported. What was skipped is
    logged at the end.

    Args:
        arguments: a path, pattern or address, or several.
        skipped: counts what is skipped.

    Raises:
        UsageError: a model among the arguments, a folder or pattern without a photo, or an address of a kind that
            cannot be opened here.
        DataError: a folder or an address that cannot be listed.
    """
    several = (arguments,) if isinstance(arguments, str | Path) else arguments
    named = [local_path(str(argument)) for argument in several]
    refuse_models(named)
    return _find_photos(named, Skipped() if skipped is None else skipped)


def refuse_models(arguments: Iterable[str]) -> None:
    """Check that none of the names given for photos is that of a model, whose figures would be taken for photos.

    Raises:
        UsageError: one is a run folder, an exported model or a file of weights.
    """
    for argument in arguments:
        if (what := _kind_of_model(Path(argument))) is not None:
            quoted = shlex.quote(argument)
            raise UsageError(
                f"Expected photos, but {argument} is {what}. Did you mean --model {quoted}? (In explain, similar and "
                "teach, which have no such option, the model stands before the photos.)"
            )


def _kind_of_model(path: Path) -> str | None:
    if path.suffix.casefold() in MODEL_SUFFIXES:
        return "a model file" if path.is_file() else None
    holds = {name for name in (*_RUN_FILES, *_OPENVINO_FILES) if (path / name).is_file()}
    if holds.issuperset(_OPENVINO_FILES):
        return "an exported model"
    return "the folder of a training run" if holds & set(_RUN_FILES) else None


def _find_photos(arguments: Sequence[str], skipped: Skipped) -> Iterator[str]:
    for argument in arguments:
        found = False
        for photo in _at_address(argument, skipped) if is_address(argument) else _at_path(argument, skipped):
            found = True
            yield photo
        if not found:
            skipped.log()
            raise UsageError(f"Expected photos in {argument!r}, but found none.")
    skipped.log()


def photos_below(folder: Path, skipped: Skipped, *, within: Iterable[Path] = ()) -> Iterator[Path]:
    """The photos in a folder and its subfolders.

    Args:
        folder: the folder.
        skipped: counts what is skipped.
        within: folders above it that are searched too; links back to them are not followed.

    Raises:
        DataError: a folder that cannot be listed.
    """
    return map(Path, _below_folder(str(folder), skipped, tuple(_identity(str(above)) for above in within)))


def look_into(folder: Path, skipped: Skipped) -> tuple[list[Path], list[Path]]:
    """The subfolders and the photos directly in a folder.

    Raises:
        DataError: the folder cannot be listed.
    """
    entries = _entries(str(folder), skipped)
    files = [entry.path for entry in entries if not _is_folder(entry)]
    photos = [Path(path) for path in files if _is_photo(path, _read_head, skipped)]
    return [Path(entry.path) for entry in entries if _is_folder(entry)], photos


def _at_path(argument: str, skipped: Skipped) -> Iterator[str]:
    if os.path.isdir(argument):  # noqa: PTH112  # os.path is much faster than Path, which matters for millions
        yield from _below_folder(argument, skipped, ())
    elif os.path.lexists(argument) or not glob.has_magic(argument):
        yield argument
    else:
        for path in sorted(glob.iglob(argument, recursive=True)):  # noqa: PTH207  # absolute patterns too
            if not _is_wanted(path, skipped, argument):
                continue
            if not os.path.isdir(path):  # noqa: PTH112
                if _is_photo(path, _read_head, skipped):
                    yield path
            elif "**" not in argument:  # otherwise the pattern itself matches the photos in it
                yield from _below_folder(path, skipped, ())


def _below_folder(folder: str, skipped: Skipped, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """The photos below a folder; `above` are the folders that contain it, by device and inode."""
    identity = _identity(folder)
    if identity in above or len(above) == _DEEPEST:
        skipped.add(Skip.LOOP if identity in above else Skip.TOO_DEEP, folder)
        return
    folders = []
    for entry in _entries(folder, skipped):
        if _is_folder(entry):
            folders.append(entry.path)
        elif _is_photo(entry.path, _read_head, skipped):
            yield entry.path
    for path in folders:
        yield from _below_folder(path, skipped, (*above, identity))


def _identity(folder: str) -> tuple[int, int]:
    try:
        status = os.stat(folder)  # noqa: PTH116
    except OSError as error:
        raise _not_listed(folder, error) from None
    return status.st_dev, status.st_ino


def _entries(folder: str, skipped: Skipped) -> list[os.DirEntry[str]]:
    """The entries of a folder, sorted by name, without those that are hidden or made by the system."""
    try:
        with os.scandir(folder) as entries:
            wanted = (entry for entry in entries if _is_wanted(entry.path, skipped))
            return sorted(wanted, key=lambda entry: entry.name)
    except OSError as error:
        raise _not_listed(folder, error) from None


def _not_listed(folder: str, error: OSError) -> DataError:
    return DataError(f"Expected to list the folder {folder}, but that failed: {error.strerror}")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_wanted(path: str, skipped: Skipped, pattern: str = "") -> bool:
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


def _is_photo(path: str, read_head: Callable[[str], bytes], skipped: Skipped) -> bool:
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


def _read_head(path: str) -> bytes:
    with open_regular(Path(path)) as file:
        return file.read(HEAD)


def _at_address(argument: str, skipped: Skipped) -> Iterator[str]:
    filesystem, path = open_address(argument)
    try:
        if glob.has_magic(path):
            found: Iterable[str] = _matching(filesystem, path, skipped)
        elif filesystem.isdir(path):
            found = _below_address(filesystem, path, skipped, _DEEPEST)
        else:
            found = [path]
        inside = argument[argument.find("::") :] if "::" in argument else ""  # such as `zip://cars::archive.zip`
        yield from (filesystem.unstrip_protocol(name) + inside for name in found)
    except Exception as error:  # each kind of address raises its own errors
        raise DataError(f"Expected to list {argument}, but that failed: {error}") from None


def _matching(filesystem: Any, pattern: str, skipped: Skipped) -> Iterator[str]:
    for path, entry in sorted(filesystem.glob(pattern, detail=True).items()):
        if not _is_wanted(path, skipped, pattern):
            continue
        if entry["type"] == "file" and _is_remote_photo(filesystem, path, skipped):
            yield path
        elif entry["type"] == "directory" and "**" not in pattern:
            yield from _below_address(filesystem, path, skipped, _DEEPEST)


def _below_address(filesystem: Any, folder: str, skipped: Skipped, depth: int) -> Iterator[str]:
    """As `_below_folder`, because fsspec's own walk has no fixed order."""
    if depth == 0:
        skipped.add(Skip.TOO_DEEP, folder)
        return
    entries = [
        entry
        for entry in sorted(filesystem.ls(folder, detail=True), key=lambda entry: entry["name"])
        if entry["name"].rstrip("/") != folder.rstrip("/") and _is_wanted(entry["name"], skipped)
    ]
    for entry in entries:
        if entry["type"] == "file" and _is_remote_photo(filesystem, entry["name"], skipped):
            yield entry["name"]
    for entry in entries:
        if entry["type"] == "directory":
            yield from _below_address(filesystem, entry["name"], skipped, depth - 1)


def _is_remote_photo(filesystem: Any, path: str, skipped: Skipped) -> bool:
    return _is_photo(path, lambda name: filesystem.cat_file(name, start=0, end=HEAD), skipped)


def open_address(address: str) -> tuple[Any, str]:
    """The fsspec file system of an address, and the path in it.

    Raises:
        UsageError: the kind of address is unknown, or its package is not installed.
        DataError: it cannot be reached.
    """
    from fsspec.core import url_to_fs  # deferred: the import takes a tenth of a second, and most photos are files

    try:
        # Each listing is read once, and a cache would grow with the number of photos.
        filesystem, path = url_to_fs(address, use_listings_cache=False)
    except ImportError as error:
        packages = _PACKAGES.get(address.partition("://")[0])
        how = f"pip install {packages}" if packages else str(error)
        raise UsageError(
            f"Expected packages that open addresses such as {address}, but they are not installed: {how}"
        ) from None
    except ValueError as error:
        raise UsageError(
            f"Expected a path, or an address such as https://HOST/car.jpg or s3://BUCKET/cars, but found {address!r}: "
            f"{error}"
        ) from None
    except Exception as error:  # each kind of address raises its own errors
        raise DataError(f"Expected to reach {address}, but that failed: {error}") from None
    return filesystem, path
