"""Photos at addresses that fsspec opens, by the rules of folders. Torch-free."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from typing import Any

from twincar.core.errors import DataError, UsageError
from twincar.core.photo_formats import HEAD
from twincar.core.skipped import DEEPEST, DRAWN, Skip, Skipped, is_photo, is_wanted

_PACKAGES = {  # of kinds of addresses, what fsspec needs, for pip
    "http": "aiohttp requests", "https": "aiohttp requests", "s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs",
    "abfs": "adlfs", "sftp": "paramiko", "ssh": "paramiko", "smb": "smbprotocol",
}  # fmt: skip


def photos_at(argument: str, skipped: Skipped) -> Iterator[str]:
    """The photos that an address of a photo or a folder, or a pattern, stands for.

    Raises:
        UsageError: the kind of address is unknown, or its package is not installed.
        DataError: it cannot be listed.
    """
    filesystem, path = open_address(argument)
    try:
        if glob.has_magic(path):
            found: Iterable[str] = _matching(filesystem, path, skipped)
        elif _is_folder(filesystem, path):
            found = _below_address(filesystem, path, skipped, DEEPEST)
        else:
            found = [path]
        inside = argument[argument.find("::") :] if "::" in argument else ""  # such as `zip://cars::archive.zip`
        yield from (filesystem.unstrip_protocol(name) + inside for name in found)
    except Exception as error:  # each kind of address raises its own errors
        raise DataError(f"Expected to list {argument}, but that failed: {error}") from None


def _is_folder(filesystem: Any, path: str) -> bool:
    """Whether it is a folder; not if that cannot be found out, because reading it as a photo reports the error."""
    try:
        return bool(filesystem.isdir(path))
    except Exception:  # each kind of address raises its own errors
        return False


def _matching(filesystem: Any, pattern: str, skipped: Skipped) -> Iterator[str]:
    for path, entry in sorted(filesystem.glob(pattern, detail=True).items()):
        if not is_wanted(path, skipped, pattern):
            continue
        if entry["type"] == "file" and _is_remote_photo(filesystem, path, skipped):
            yield path
        elif entry["type"] == "directory" and "**" not in pattern:
            yield from _below_address(filesystem, path, skipped, DEEPEST)


def _below_address(filesystem: Any, folder: str, skipped: Skipped, depth: int) -> Iterator[str]:
    """As `_below_folder`, because fsspec's own walk has no fixed order."""
    if depth == 0:
        skipped.add(Skip.TOO_DEEP, folder)
        return
    listed = sorted(filesystem.ls(folder, detail=True), key=lambda entry: entry["name"])
    if depth < DEEPEST and any(entry["name"].endswith(f"/{DRAWN}") for entry in listed):
        skipped.add(Skip.DRAWN, folder)
        return
    entries = [
        entry
        for entry in listed
        if entry["name"].rstrip("/") != folder.rstrip("/") and is_wanted(entry["name"], skipped)
    ]
    for entry in entries:
        if entry["type"] == "file" and _is_remote_photo(filesystem, entry["name"], skipped):
            yield entry["name"]
    for entry in entries:
        if entry["type"] == "directory":
            yield from _below_address(filesystem, entry["name"], skipped, depth - 1)


def _is_remote_photo(filesystem: Any, path: str, skipped: Skipped) -> bool:
    return is_photo(path, lambda name: filesystem.cat_file(name, start=0, end=HEAD), skipped)


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
