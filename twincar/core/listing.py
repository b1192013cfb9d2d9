"""Iterate over the photos below a folder or an address; memory does not grow with their number. Torch-free.

Every command that searches a folder uses these rules. A file with a photo suffix is a photo; if the suffix is missing
or unknown, the first bytes of the file decide. Hidden files and folders, those that operating systems create, and
folders of drawn pictures are skipped. Links to folders are followed, except back to a folder above them. What is
skipped is counted by reason.
"""

from __future__ import annotations

import glob
import logging
import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from twincar.core.addresses import photos_at
from twincar.core.errors import DataError, UsageError
from twincar.core.hub import MODEL_SUFFIXES
from twincar.core.photo_formats import HEAD
from twincar.core.photos import is_address, local_path
from twincar.core.run_files import CHECKPOINT_FILE, LOCK_FILE, WEIGHTS_FILE
from twincar.core.skipped import DEEPEST, DRAWN, Skip, Skipped, is_photo, is_wanted
from twincar.core.user_files import open_regular

log = logging.getLogger(__name__)

_RUN_FILES = (WEIGHTS_FILE, CHECKPOINT_FILE, LOCK_FILE)  # of which a run folder has at least one
_OPENVINO_FILES = ("model.xml", "model.bin")


def find_photos(arguments: str | Path | Iterable[str | Path], skipped: Skipped | None = None) -> Iterator[str]:
    """The photos that files, folders (searched recursively) and patterns such as `'cars/*.jpg'` stand for.

    Each argument may be a path or an address that fsspec opens, such as `s3://bucket/cars`. The order is by name,
    folder by folder. A file that is named explicitly is always kept, so that its error is reported; what is named
    twice, or is also in a folder, comes once.

    Of several arguments, one that has no photos or cannot be listed is returned itself, so that its error is reported
    in its place and the others are found; if it is the only one, its error is raised.

    Args:
        arguments: a path, pattern or address, or several.
        skipped: counts what is skipped; by default it is logged at the end.

    Returns:
        Paths and addresses, one after the other.

    Raises:
        UsageError: a model among the arguments; or a folder or pattern without a photo, or an address of a kind that
            cannot be opened here, if it is the only one.
        DataError: a folder or an address that cannot be listed, if it is the only one.
    """
    several = (arguments,) if isinstance(arguments, str | Path) else arguments
    named = [local_path(str(argument)) for argument in several]
    refuse_models(named)
    return _find_photos(named, Skipped() if skipped is None else skipped, log_skipped=skipped is None)


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


def _find_photos(arguments: Sequence[str], skipped: Skipped, *, log_skipped: bool) -> Iterator[str]:
    named = _Named(arguments, skipped)
    for argument in arguments:
        if named.again(argument):
            continue
        before, found = skipped.count(Skip.REPEATED), False
        try:
            for photo in photos_at(argument, skipped) if is_address(argument) else _at_path(argument, skipped, named):
                found = True
                yield photo
            if not found and skipped.count(Skip.REPEATED) == before:
                raise UsageError(f"Expected photos in {argument!r}, but found none.")
        except (DataError, UsageError):
            if len(arguments) == 1:
                skipped.log()
                raise
            yield argument
    if log_skipped:
        skipped.log()


class _Named:
    """What is named by itself, as an argument or a match of a pattern: it comes once, and not again from its folder.

    A single argument names nothing twice, and its photos are not held in memory.
    """

    def __init__(self, arguments: Sequence[str] = (), skipped: Skipped | None = None) -> None:
        several = arguments if len(arguments) > 1 else ()
        patterns = [name for name in several if _is_pattern(name)]
        matches = (path for pattern in patterns for path in glob.iglob(pattern, recursive=True))  # noqa: PTH207
        self._names = {_full(name) for name in (*several, *matches)}
        self._done: set[str] = set()
        self._skipped = skipped or Skipped()

    def again(self, name: str) -> bool:
        """Whether an argument or a match has been there before, which is counted."""
        repeated = _full(name) in self._done
        self._done.add(_full(name))
        return repeated and self._count(name)

    def elsewhere(self, path: str) -> bool:
        """Whether a photo or a folder that is found in a folder is also named by itself, which is counted."""
        return bool(self._names) and _full(path) in self._names and self._count(path)

    def _count(self, name: str) -> bool:
        self._skipped.add(Skip.REPEATED, name)
        return True


def _full(name: str) -> str:
    return name if is_address(name) else os.path.abspath(name)  # noqa: PTH100  # without following links


def _is_pattern(name: str) -> bool:
    return not is_address(name) and glob.has_magic(name) and not os.path.lexists(name)


def photos_below(folder: Path, skipped: Skipped, *, within: Iterable[Path] = ()) -> Iterator[Path]:
    """The photos in a folder and its subfolders.

    Args:
        folder: the folder.
        skipped: counts what is skipped.
        within: folders above it that are searched too; links back to them are not followed.

    Raises:
        DataError: a folder that cannot be listed.
    """
    return map(Path, _below_folder(str(folder), skipped, tuple(_identity(str(above)) for above in within), _Named()))


def look_into(folder: Path, skipped: Skipped) -> tuple[list[Path], list[Path]]:
    """The subfolders and the photos directly in a folder.

    Raises:
        DataError: the folder cannot be listed.
    """
    entries = _entries(str(folder), skipped)
    files = [entry.path for entry in entries if not _is_folder(entry)]
    photos = [Path(path) for path in files if is_photo(path, _read_head, skipped)]
    return [Path(entry.path) for entry in entries if _is_folder(entry)], photos


def _at_path(argument: str, skipped: Skipped, named: _Named) -> Iterator[str]:
    if os.path.isdir(argument):  # noqa: PTH112  # os.path is much faster than Path, which matters for millions
        yield from _below_folder(argument, skipped, (), named)
    elif not _is_pattern(argument):
        yield argument
    else:
        for path in sorted(glob.iglob(argument, recursive=True)):  # noqa: PTH207  # absolute patterns too
            if not is_wanted(path, skipped, argument) or _is_in_drawn(path, argument, skipped):
                continue
            if not os.path.isdir(path):  # noqa: PTH112
                if is_photo(path, _read_head, skipped) and not named.again(path):
                    yield path
            elif "**" not in argument and not named.again(path):  # else the pattern itself matches the photos in it
                yield from _below_folder(path, skipped, (), named)


def _below_folder(folder: str, skipped: Skipped, above: tuple[tuple[int, int], ...], named: _Named) -> Iterator[str]:
    """The photos below a folder; `above` are the folders that contain it, by device and inode."""
    identity = _identity(folder)
    if identity in above or len(above) == DEEPEST:
        skipped.add(Skip.LOOP if identity in above else Skip.TOO_DEEP, folder)
        return
    folders = []
    for entry in _entries(folder, skipped):
        if _is_folder(entry):
            folders.append(entry.path)
        elif is_photo(entry.path, _read_head, skipped) and not named.elsewhere(entry.path):
            yield entry.path
    for path in folders:
        if not named.elsewhere(path):
            yield from _below_folder(path, skipped, (*above, identity), named)


def _identity(folder: str) -> tuple[int, int]:
    try:
        status = os.stat(folder)  # noqa: PTH116
    except OSError as error:
        raise _not_listed(folder, error) from None
    return status.st_dev, status.st_ino


def _entries(folder: str, skipped: Skipped) -> list[os.DirEntry[str]]:
    """The entries of a folder, sorted by name, without those that are hidden, or made by the system or by `--draw`."""
    try:
        with os.scandir(folder) as entries:
            wanted = (entry for entry in entries if is_wanted(entry.path, skipped))
            return sorted((entry for entry in wanted if not _is_drawn(entry, skipped)), key=lambda entry: entry.name)
    except OSError as error:
        raise _not_listed(folder, error) from None


def _not_listed(folder: str, error: OSError) -> DataError:
    return DataError(f"Expected to list the folder {folder}, but that failed: {error.strerror}")


def _is_drawn(entry: os.DirEntry[str], skipped: Skipped) -> bool:
    """Whether this is a folder of drawn pictures, which is counted."""
    drawn = _is_folder(entry) and os.path.lexists(os.path.join(entry.path, DRAWN))  # noqa: PTH118
    if drawn:
        skipped.add(Skip.DRAWN, entry.path)
    return drawn


def _is_in_drawn(path: str, pattern: str, skipped: Skipped) -> bool:
    """Whether a match of a pattern is, or lies in, a folder of drawn pictures that the pattern does not name."""
    named = set(pattern.split("/"))
    drawn = any(above.name not in named and (above / DRAWN).exists() for above in (Path(path), *Path(path).parents))
    if drawn:
        skipped.add(Skip.DRAWN, path)
    return drawn


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _read_head(path: str) -> bytes:
    with open_regular(Path(path)) as file:
        return file.read(HEAD)
