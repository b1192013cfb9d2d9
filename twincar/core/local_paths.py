"""What is told of a place on this computer in whatever leaves it: reports, model files, cards, settings, spaces."""

from __future__ import annotations

from pathlib import PurePath


def name_only(place: str) -> str:
    """The last part of a path; what a data set or a model has for a name is left as it is.

    >>> [name_only(place) for place in ("/home/ana/cars", "../cars/", "hub:a/b", "toycars:0", "/", "")]
    ['cars', 'cars', 'hub:a/b', 'toycars:0', '', '']
    """
    return place if place.startswith(("hub:", "toycars:")) else PurePath(place).name
