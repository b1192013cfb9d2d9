"""Open-set splits: classes a model never sees in training, to measure whether it rejects them.

A split is a JSON file: `known_classes`, a list, and `unknown_classes`, a list for each difficulty; a class is given by
its index in the source or by its name. This is the format of the Semantic Shift Benchmark (Vaze et al., 2022,
https://arxiv.org/abs/2110.06207), whose split of Stanford Cars has 98 known classes. The harder an unseen class, the
more it looks like a known one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from twincar.core.errors import DataError, LabelError
from twincar.core.files import read_json
from twincar.core.labels import ClassNames
from twincar.data.dataset import Annotation
from twincar.data.validate import AuditReport

UNSEEN = "unseen_"
"""Prefix of the splits of a prepared data set that hold test photos of unseen classes, such as `unseen_hard`."""


@dataclass(frozen=True)
class OpenSetSplit:
    """Known and unseen classes, by their indices in the source."""

    known: frozenset[int]
    unseen: Mapping[int, str]
    """The difficulty of each unseen class, in lower case."""


def read_open_set(path: Path, classes: ClassNames) -> OpenSetSplit:
    """Read a split of these classes.

    Raises:
        DataError: the file is missing or not such a split, or a class is both known and unseen.
        LabelError: a class does not exist.
    """
    content = read_json(path)
    try:
        known = frozenset(_index(entry, classes) for entry in content["known_classes"])
        unseen = {
            _index(entry, classes): _difficulty(difficulty)
            for difficulty, entries in content["unknown_classes"].items()
            for entry in entries
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"Expected known_classes, a list, and unknown_classes, a list by difficulty, in {path}, but found other "
            f"content: {error}."
        ) from None
    if both := known & unseen.keys():
        raise DataError(f"Expected each class either known or unseen in {path}, but {classes[min(both)]!r} is both.")
    return OpenSetSplit(known, unseen)


def hide_unseen(report: AuditReport, split: OpenSetSplit) -> AuditReport:
    """Keep the photos of known classes, and move test photos of unseen ones, without label, to splits of their own.

    Photos without a label, training photos of unseen classes, and classes that the split does not name are dropped.
    """
    known = tuple(finding for finding in report.findings if finding.label in split.known)
    return replace(report, findings=known, valid=tuple(_hide(report.valid, split)))


def _hide(photos: Iterable[Annotation], split: OpenSetSplit) -> Iterator[Annotation]:
    for photo in photos:
        if photo.label is None:
            continue
        if photo.label in split.known:
            yield photo
        elif photo.label in split.unseen and photo.split == "test":
            yield replace(photo, label=None, split=UNSEEN + split.unseen[photo.label])


def _difficulty(name: str) -> str:
    """Check that a difficulty is one word, because it becomes part of a split's name."""
    if not re.fullmatch(r"[\w-]{1,40}", name):
        raise TypeError(f"a difficulty {name[:40]!r}")
    return name.lower()


def _index(entry: Any, classes: ClassNames) -> int:
    if isinstance(entry, str):
        return classes.index(entry)
    if not isinstance(entry, int) or isinstance(entry, bool):
        raise TypeError(f"a class {entry!r}")
    if not 0 <= entry < len(classes):
        raise LabelError(f"Expected the index of one of {len(classes)} classes, from 0, but found {entry}.")
    return entry
