"""Photos below a folder or an address, one after the other: memory does not grow with their number. Torch-free."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from twincar.errors import DataError, UsageError
from twincar.preprocess import PHOTO_SUFFIXES, is_address


def find_photos(arguments: Iterable[str]) -> Iterator[str]:
    """Photos in files, folders (searched below, by suffix) and patterns such as `'cars/*.jpg'`.

    Each may be a path or an address that fsspec opens, such as `s3://bucket/cars`. The order is that of the names,
    folder by folder. A file that is named is kept whatever it is, so that its error is told.

    Raises:
        UsageError: a name that is nothing, or a folder or pattern without a photo; an address of a kind that cannot be
            opened here.
        DataError: a folder or an address that cannot be listed.
    """
    for argument in arguments:
        found = False
        for photo in _at_address(argument) if is_address(argument) else _at_path(argument):
            found = True
            yield photo
        if not found:
            raise UsageError(f"Expected photos in {argument!r}, and found none.")


def _at_path(argument: str) -> Iterator[str]:
    path = Path(argument)
    if path.is_dir():
        yield from _below_folder(path)
    elif path.exists() or not glob.has_magic(argument):
        yield argument
    else:
        yield from sorted(glob.iglob(argument, recursive=True))  # noqa: PTH207  # absolute patterns too


def _below_folder(top: Path) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        raise DataError(f"Expected to list the folder {error.filename}, and it cannot be: {error.strerror}") from None

    for folder, folders, files in os.walk(top, onerror=refuse):
        folders.sort()
        yield from (str(Path(folder, name)) for name in sorted(files) if _is_photo(name))


def _at_address(argument: str) -> Iterator[str]:
    filesystem, path = open_address(argument)
    try:
        if glob.has_magic(path):
            found: Iterable[str] = sorted(filesystem.glob(path))
        elif filesystem.isdir(path):
            found = _below_address(filesystem, path)
        else:
            found = [path]
        inside = argument[argument.find("::") :] if "::" in argument else ""  # such as `zip://cars::archive.zip`
        yield from (filesystem.unstrip_protocol(name) + inside for name in found)
    except Exception as error:  # each kind of address has errors of its own
        raise DataError(f"Expected to list {argument}, and it cannot be: {error}") from None


def _below_address(filesystem: Any, folder: str) -> Iterator[str]:
    """As `_below_folder`; fsspec's own walk keeps no order."""
    entries = sorted(filesystem.ls(folder, detail=True), key=lambda entry: entry["name"])
    yield from (entry["name"] for entry in entries if entry["type"] == "file" and _is_photo(entry["name"]))
    for entry in entries:
        if entry["type"] == "directory" and entry["name"].rstrip("/") != folder.rstrip("/"):
            yield from _below_address(filesystem, entry["name"])


def open_address(address: str) -> tuple[Any, str]:
    """The fsspec file system of an address, and the path in it.

    Raises:
        UsageError: it is of a kind that is not known, or whose package is not installed.
        DataError: it cannot be reached.
    """
    from fsspec.core import url_to_fs  # deferred: it costs a tenth of a second, and most photos are files

    try:
        # Listings are read once, and a cache would grow with the number of photos.
        filesystem, path = url_to_fs(address, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise UsageError(f"Expected an address that fsspec opens, and found {address!r}: {error}") from None
    except Exception as error:  # each kind of address has errors of its own
        raise DataError(f"Expected to reach {address}, and it cannot be: {error}") from None
    return filesystem, path


def _is_photo(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in PHOTO_SUFFIXES  # noqa: PTH122  # quicker than Path, for millions
