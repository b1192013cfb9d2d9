"""Verbs about the program itself: info."""

from __future__ import annotations

from twincar.cli.options import JsonOption
from twincar.cli.output import print_info, print_json


def info(as_json: JsonOption = False) -> None:
    """Tell what is installed and what is missing, which devices and engines there are, and where the caches are."""
    from twincar.core.info import info

    found = info()
    if as_json:
        print_json(found.to_dict())
    else:
        print_info(found)
