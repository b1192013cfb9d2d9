"""Shorten local paths in everything that is given to others: reports, model files, cards, settings, spaces."""

from __future__ import annotations

from pathlib import PurePath


def name_only(source: str) -> str:
    """The last part of a path; the name of a data set or model that is not a path is returned as it is.

    >>> [name_only(source) for source in ("/home/ana/cars", "../cars/", "hub:a/b", "toycars:0", "/", "")]
    ['cars', 'cars', 'hub:a/b', 'toycars:0', '', '']
    """
    return source if source.startswith(("hub:", "toycars:")) else PurePath(source).name
