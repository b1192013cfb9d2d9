"""Shorten local paths in everything that is given to others: reports, model files, cards, settings, spaces."""

from __future__ import annotations

from pathlib import Path, PurePath


def name_only(source: str) -> str:
    """The last part of a path; the name of a data set or model that is not a path is returned as it is.

    >>> [name_only(source) for source in ("/home/ana/cars", "../cars/", "hub:a/b", "toycars:0", "/", "")]
    ['cars', 'cars', 'hub:a/b', 'toycars:0', '', '']
    """
    return source if source.startswith(("hub:", "toycars:")) else PurePath(source).name


def shareable_path(path: str | Path) -> str:
    """A path for a command on a page: as it was given, or from the working folder, so that it can be copied there.

    An absolute path that leads elsewhere is shortened to its name, as the page may be given to others; what is no path
    is returned as it is.

    >>> [shareable_path(path) for path in ("runs/my cars", "../cars", "/home/ana/cars", "hub:a/b")]
    ['runs/my cars', '../cars', 'cars', 'hub:a/b']
    """
    if not PurePath(path).is_absolute():
        return str(path)
    here, there = Path.cwd().resolve(), Path(path).resolve()
    return there.relative_to(here).as_posix() if there.is_relative_to(here) else name_only(str(there))
