"""The page with the findings of a deep audit, photos side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from twincar.auditing.duplicates import Group
from twincar.auditing.findings import FINDINGS, AuditedData, DeepAudit, is_conflict, is_leak, rows_of_group
from twincar.auditing.outliers import Outlier
from twincar.auditing.signatures import BITS
from twincar.core.html import picture_uri, render
from twincar.core.local_paths import name_only, shareable_path
from twincar.core.photos import read_photo
from twincar.data.class_issues import count_by_split
from twincar.data.exclusions import EXCLUDE

if TYPE_CHECKING:
    from twincar.auditing.label_review import LabelReview

_SHOWN = 60  # most groups or photos in a section; findings.csv has all
_PICTURE = 280  # longest side of a picture on the page, pixels


def audit_page(audit: DeepAudit) -> str:
    """The page as self-contained HTML."""
    data = audit.data
    conflicts = [group for group in audit.groups if is_conflict(data, group)]
    leaks = [group for group in audit.groups if is_leak(data, group) and group not in conflicts]
    copies = [group for group in audit.groups if group not in conflicts and group not in leaks]
    counts = count_by_split(data.annotations, len(data.classes))
    return render(
        "audit.html.jinja",
        title=f"Data audit: {name_only(data.source)}",
        audit=audit.to_dict(),
        splits={split: sum(numbers) for split, numbers in counts.items()},
        invalid=data.invalid.rows(),
        class_counts=[(name, [counts[s][index] for s in counts]) for index, name in enumerate(data.classes.names)],
        sections=[
            ("Copies with different classes", "All of them are excluded, because it is not known which label is right.",
             *_group_cards(data, conflicts)),
            ("Leaks between splits", "The copy nearer to training is excluded.", *_group_cards(data, leaks)),
            ("Copies within a split", "All but one are excluded.", *_group_cards(data, copies)),
        ],
        suspects=_suspect_cards(data, audit.review),
        outliers=_outlier_cards(data, audit.outliers),
        outliers_total=len(audit.outliers),
        command=audit.prepare_command(shareable_path),
        findings=FINDINGS,
        exclude=EXCLUDE,
    )  # fmt: skip


def _group_cards(data: AuditedData, groups: Sequence[Group]) -> tuple[int, list[dict[str, Any]]]:
    """The number of groups, and the cards of the first ones."""
    cards = []
    for group in groups[:_SHOWN]:
        excluded = {row["file"] for row in rows_of_group(data, group)}
        pairs = [
            "same bytes" if pair.exact
            else f"{pair.distance} of {BITS} bits, {pair.likeness:.1%} alike{', mirrored' if pair.mirrored else ''}"
            for pair in group.pairs
        ]  # fmt: skip
        photos = [
            {**_figure(data, index), "excluded": data.annotations[index].file in excluded} for index in group.photos[:6]
        ]
        cards.append({"photos": photos, "more": len(group.photos) - len(photos), "pairs": sorted(set(pairs))})
    return len(groups), cards


def _suspect_cards(data: AuditedData, review: LabelReview | None) -> list[dict[str, Any]]:
    """Each suspect beside the photos of highest probability in its class and in the suggested one."""
    if review is None:
        return []
    errors, surest = review.errors, _surest_photos(review)
    cards = []
    for row, suggested in list(zip(errors.photos.tolist(), errors.suggested.tolist(), strict=True))[:_SHOWN]:
        examples = [
            (words, _figure(data, surest[label]))
            for words, label in (
                ("most certain with this label", int(review.labels[row])),
                ("most certain of the suggested class", suggested),
            )
            if label in surest
        ]
        cards.append(
            {
                "photo": _figure(data, int(review.photos[row])),
                "suggested": review.classes[suggested],
                "probability": float(review.probabilities[row, suggested]),
                "probability_of_label": float(review.probabilities[row, review.labels[row]]),
                "examples": examples,
            }
        )
    return cards


def _surest_photos(review: LabelReview) -> dict[int, int]:
    """For each class, the index of the photo with that label and the highest probability for it."""
    of_label = review.probabilities[np.arange(len(review.labels)), review.labels]
    order = np.argsort(of_label, kind="stable")  # the highest last, which overwrites the others
    return dict(zip(review.labels[order].tolist(), review.photos[order].tolist(), strict=True))


def _outlier_cards(data: AuditedData, outliers: Sequence[Outlier]) -> list[dict[str, Any]]:
    return [
        {
            "photo": _figure(data, outlier.photo),
            "reason": outlier.reason,
            "detail": outlier.detail,
            "score": outlier.score,
        }
        for outlier in outliers[:_SHOWN]
    ]


def _figure(data: AuditedData, index: int) -> dict[str, Any]:
    photo = data.annotations[index]
    return {
        "picture": picture_uri(read_photo(data.root / photo.file), _PICTURE),
        "file": photo.file,
        "class_name": data.class_of(index) or "no label",
        "split": photo.split,
        "size": f"{photo.width}×{photo.height}",
    }
