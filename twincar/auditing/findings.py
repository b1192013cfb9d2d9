"""The findings of a deep audit, and the action for each photo: the rows of `findings.csv`.

Shapes: N photos.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from twincar.auditing.duplicates import Group
from twincar.auditing.outliers import Outlier
from twincar.core.labels import ClassNames
from twincar.data.class_issues import ClassIssue
from twincar.data.dataset import SPLITS, Annotation
from twincar.data.exclusions import EXCLUDE, LOOK
from twincar.data.validate import AuditReport

if TYPE_CHECKING:
    from twincar.auditing.label_review import Judgement

FINDINGS, PAGE, SUMMARY = "findings.csv", "audit.html", "audit.json"
COLUMNS = ("file", "reason", "detail", "action", "suggested_class", "class_name", "split")
CONFLICT, LEAK, EXACT, NEAR, SUSPECT = (
    "class conflict", "leak", "exact duplicate", "near duplicate", "suspect label",
)  # fmt: skip
_MIRRORED = re.compile("flip|mirror", re.IGNORECASE)  # in file names of mirrored photos


@dataclass(frozen=True, kw_only=True)
class AuditedData:
    """The data set of an audit, from a source or prepared."""

    source: str
    """The source from which it can be prepared."""
    annotations: tuple[Annotation, ...]
    """The valid photos of the training, validation and test splits, N."""
    classes: ClassNames
    root: Path
    invalid: AuditReport
    class_lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Counts of skipped files and folders by reason."""
    cache: Path | None = None

    def class_of(self, place: int) -> str:
        """The class of the photo at `place`; empty where its label is kept back."""
        label = self.annotations[place].label
        return "" if label is None else self.classes[label]


@dataclass(frozen=True, kw_only=True)
class DeepAudit:
    """The result of a deep audit."""

    folder: Path
    data: AuditedData
    class_issues: list[ClassIssue]
    groups: list[Group]
    outliers: list[Outlier]
    judgement: Judgement | None

    @cached_property
    def rows(self) -> list[dict[str, str]]:
        """The rows of `findings.csv`: those to exclude first."""
        copies = [row for group in self.groups for row in rows_of_group(self.data, group)]
        return [*copies, *_suspect_rows(self.data, self.judgement), *_outlier_rows(self.data, self.outliers)]

    @property
    def page(self) -> Path:
        """The page for people."""
        return self.folder / PAGE

    @property
    def findings(self) -> Path:
        """The list for `prepare --exclude`."""
        return self.folder / FINDINGS

    @property
    def command(self) -> str:
        """The shell command that prepares the data set without the rows to exclude."""
        return shlex.join(["twincar", "prepare", self.data.source, "--exclude", str(self.findings), "--out", "FOLDER"])

    @property
    def is_sound(self) -> bool:
        """Whether no action is needed; photos that are only to be looked at do not count."""
        return not (self.data.invalid.findings or self.class_issues or self.groups)

    def counts(self) -> dict[str, int]:
        """Rows of `findings.csv` by reason."""
        return dict(Counter(row["reason"] for row in self.rows))

    def to_dict(self) -> dict[str, Any]:
        """For `audit.json` and `--json`."""
        return {
            "source": self.data.source,
            "folder": str(self.folder),
            "photos": len(self.data.annotations),
            "unsound": {str(defect): count for defect, count in self.data.invalid.counts().items()},
            "skipped": dict(self.data.skipped),
            "classes": [vars(issue) for issue in self.class_issues],
            "duplicate_groups": len(self.groups),
            "findings": self.counts(),
            "to_exclude": sum(row["action"] == EXCLUDE for row in self.rows),
            "judged": list(self.judgement.told) if self.judgement else [],
            "estimated_label_noise": self.judgement.errors.noise if self.judgement else None,
        }


def is_conflict(data: AuditedData, group: Group) -> bool:
    """Whether copies of a picture have different classes."""
    return len({data.class_of(place) for place in group.photos} - {""}) > 1


def is_leak(data: AuditedData, group: Group) -> bool:
    """Whether copies of a picture are in different splits."""
    return len({data.annotations[place].split for place in group.photos}) > 1


def _mirror_images(data: AuditedData, group: Group) -> frozenset[int]:
    """The photos that are mirror images of the original, if that can be decided: more of the different files show the
    picture the other way round, or the names say so."""
    turned = group.turned()
    sides = turned, frozenset(group.photos) - turned
    sizes = [len({data.annotations[place].sha256 for place in side}) for side in sides]
    if turned and sizes[0] != sizes[1]:
        return sides[sizes.index(min(sizes))]
    named = {place for place in group.photos if _MIRRORED.search(PurePosixPath(data.annotations[place].file).stem)}
    return frozenset(named) if turned and named in sides else frozenset()


def _kept(data: AuditedData, group: Group) -> int:
    """The copy of a picture to keep: in the split that matters most for evaluation, then one that is not mirrored, then
    the largest, then the first."""
    mirrored = _mirror_images(data, group)

    def worth(place: int) -> tuple[int, bool, int, int]:
        photo = data.annotations[place]
        return SPLITS.index(photo.split), place not in mirrored, photo.width * photo.height, -place

    return max(group.photos, key=worth)


def rows_of_group(data: AuditedData, group: Group) -> Iterator[dict[str, str]]:
    """The copies of a picture to exclude, and why: all of a conflict, else all except the one to keep."""
    conflict, kept = is_conflict(data, group), _kept(data, group)
    for place in group.photos:
        if conflict:
            others = [other for other in group.photos if other != place]
            yield _row(data, place, CONFLICT, f"same picture as {_list_photos(data, others)}", EXCLUDE)
        elif place != kept:
            yield _row(data, place, *_why_copy(data, group, place, kept), EXCLUDE)


def _why_copy(data: AuditedData, group: Group, place: int, kept: int) -> tuple[str, str]:
    """Reason and detail of a copy to exclude. The same file as any photo before it is an exact duplicate, even if the
    kept copy is another file of the picture."""
    photo, turned = data.annotations[place], group.turned()
    before = [kept, *(other for other in group.photos if other < place)]
    same_file = [other for other in before if data.annotations[other].sha256 == photo.sha256]
    what = "mirror image of" if (place in turned) != (kept in turned) else "same picture as"
    detail = f"{'same file as' if kept in same_file else what} {_list_photos(data, [kept])}, which is kept"
    if same_file and kept not in same_file:
        detail = f"same file as {_list_photos(data, same_file[:1])}; {detail}"
    leak = photo.split != data.annotations[kept].split
    return LEAK if leak else EXACT if same_file else NEAR, detail


def _list_photos(data: AuditedData, places: Sequence[int]) -> str:
    named = [
        f"{data.annotations[p].file} ({data.class_of(p) or 'no label'}, {data.annotations[p].split})" for p in places
    ]
    return ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")


def _suspect_rows(data: AuditedData, judgement: Judgement | None) -> Iterator[dict[str, str]]:
    if judgement is None:
        return
    errors = judgement.errors
    for judged, suggested in zip(errors.photos.tolist(), errors.suggested.tolist(), strict=True):
        label = judgement.labels[judged]
        chances = judgement.probabilities[judged]
        name = judgement.classes[suggested]
        detail = f"{chances[suggested]:.1%} {name}, {chances[label]:.1%} {judgement.classes[label]}"
        yield _row(data, int(judgement.photos[judged]), SUSPECT, detail, LOOK, name)


def _outlier_rows(data: AuditedData, outliers: Sequence[Outlier]) -> Iterator[dict[str, str]]:
    for outlier in outliers:
        yield _row(data, outlier.photo, outlier.reason, outlier.detail, LOOK)


def _row(
    data: AuditedData, place: int, reason: str, detail: str, action: str, suggested_class: str = ""
) -> dict[str, str]:
    photo = data.annotations[place]
    values = (photo.file, reason, detail, action, suggested_class, data.class_of(place), photo.split)
    return dict(zip(COLUMNS, values, strict=True))
