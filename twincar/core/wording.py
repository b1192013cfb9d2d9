"""Formatting of shares, numbers, counts, lists and long names in tables, figures, pages and messages."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping

FEW_PHOTOS = 100
"""An accuracy on fewer photos is uncertain by ten points and more, which is said beside it."""
_DASH = "–"


def command(*words: object) -> str:
    """A command line of twincar, quoted for the shell.

    >>> print(command("train", "data/my cars"))
    twincar train 'data/my cars'
    """
    return shlex.join(["twincar", *map(str, words)])


def percent(share: float | None, digits: int = 1) -> str:
    """Format a share as a percentage; None becomes a dash.

    A share above 0 is never rounded to 0%, and one below 1 never to 100%.

    >>> percent(0.9312), percent(0.0), percent(0.0001), percent(0.9999), percent(0.996, 0)
    ('93.1%', '0.0%', '<0.1%', '>99.9%', '>99%')
    """
    if share is None:
        return _DASH
    step = 10.0 ** -(digits + 2)
    text = f"{share:.{digits}%}"
    if share > 0 and text == f"{0:.{digits}%}":
        return f"<{step:.{digits}%}"
    if share < 1 and text == f"{1:.{digits}%}":
        return f">{1 - step:.{digits}%}"
    return text


def number(value: float | None, digits: int = 3) -> str:
    """Format a number with thousands separators; None becomes a dash.

    >>> number(1896, 0)
    '1,896'
    """
    return _DASH if value is None else f"{value:,.{digits}f}"


def duration(seconds: float) -> str:
    """Format a duration in the two largest units that it has.

    >>> duration(0.4), duration(75), duration(7500)
    ('0.4 s', '1 min 15 s', '2 h 5 min')
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    hours, minutes = divmod(round(whole / 60), 60)
    if whole >= 3600:
        return f"{hours} h {minutes} min"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"


def counted(count: int, noun: str, plural: str = "") -> str:
    """Format a count with its noun, in singular or plural.

    >>> counted(1, "photo"), counted(2000, "photo"), counted(2, "class", "classes")
    ('1 photo', '2,000 photos', '2 classes')
    """
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def list_counts(counts: Mapping[str, int]) -> str:
    """Format counts by name.

    >>> list_counts({"train": 2000, "val": 100})
    '2000 train, 100 val'
    """
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def first_few(texts: Iterable[str], show: int = 3) -> str:
    """The first few of some texts, and the number of the others.

    >>> first_few(["Falcon", "Meteor", "Comet"], 2)
    'Falcon, Meteor and 1 more'
    """
    listed = list(texts)
    head = ", ".join(listed[:show])
    return head if len(listed) <= show else f"{head} and {len(listed) - show} more"


def cut_middle(name: str, width: int) -> str:
    """Shorten a name to at most `width` characters in the middle, because names of cars differ at their ends.

    >>> cut_middle("Aurora Falcon Convertible 2012", 20)
    'Aurora Fal…ible 2012'
    """
    if len(name) <= width:
        return name
    head = width // 2
    return f"{name[:head]}…{name[len(name) - (width - 1 - head) :]}"
