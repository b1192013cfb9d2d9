"""Photos with the same bytes in different classes: at most one of their labels is right, and nobody knows which."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from twincar.core.labels import ClassNames
from twincar.core.wording import counted, first_few
from twincar.data.dataset import Annotation
from twincar.data.exclusions import EXCLUDE

CONTRADICTIONS = "contradictions.csv"
"""The list of these photos in a prepared data set, for `prepare --exclude`; it exists only if there are any."""
REASON = "contradicting label"


def find_contradictions(photos: Sequence[Annotation], classes: ClassNames) -> list[dict[str, str]]:
    """A row for each photo whose bytes another class has too: file, reason, detail, action, class_name and split.

    Args:
        photos: valid photos of any splits; those without a label contradict nothing.
        classes: what their labels index.
    """
    copies: defaultdict[str, list[Annotation]] = defaultdict(list)
    for photo in photos:
        if photo.label is not None:
            copies[photo.sha256].append(photo)
    rows = []
    for group in copies.values():
        for photo in group:
            others = [other for other in group if other.label != photo.label]
            if others and photo.label is not None:
                named = (f"{other.file} ({classes[other.label or 0]}, {other.split})" for other in others)
                rows.append(
                    {
                        "file": photo.file,
                        "reason": REASON,
                        "detail": f"same bytes as {first_few(named)}",
                        "action": EXCLUDE,
                        "class_name": classes[photo.label],
                        "split": photo.split,
                    }
                )
    return rows


def describe_contradictions(rows: Sequence[dict[str, str]]) -> list[str]:
    """A sentence with the number of these photos and the first of them; none if there are none."""
    if not rows:
        return []
    first = rows[0]
    return [
        f"{counted(len(rows), 'photo')} with the same bytes in different classes, so that their labels contradict each "
        f"other, such as {first['file']} ({first['class_name']}): {first['detail']}."
    ]
