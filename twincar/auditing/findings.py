"""The findings of a deep audit, and the action for each photo: the rows of `findings.csv`.

Shapes: N photos.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from twincar.auditing.duplicates import Group
from twincar.auditing.outliers import Outlier
from twincar.core.labels import ClassNames
from twincar.core.wording import command, first_few
from twincar.data.class_issues import ClassIssue
from twincar.data.dataset import SPLITS, Annotation
from twincar.data.exclusions import EXCLUDE, LOOK
from twincar.data.validate import AuditReport

if TYPE_CHECKING:
    from twincar.auditing.label_review import LabelReview

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
    options: tuple[str, ...] | None = None
    """The options with which `prepare` has made it; None if it is not prepared, so that they are not known."""
    cache: Path | None = None

    def class_of(self, index: int) -> str:
        """The class of the photo at `index`; empty if it has no label."""
        label = self.annotations[index].label
        return "" if label is None else self.classes[label]


@dataclass(frozen=True, kw_only=True)
class DeepAudit:
    """The result of a deep audit."""

    folder: Path
    data: AuditedData
    class_issues: list[ClassIssue]
    groups: list[Group]
    outliers: list[Outlier]
    review: LabelReview | None

    @cached_property
    def rows(self) -> list[dict[str, str]]:
        """The rows of `findings.csv`: those to exclude first."""
        copies = [row for group in self.groups for row in rows_of_group(self.data, group)]
        return [*copies, *_suspect_rows(self.data, self.review), *_outlier_rows(self.data, self.outliers)]

    @property
    def page(self) -> Path:
        """The page for people."""
        return self.folder / PAGE

    @property
    def findings(self) -> Path:
        """The list for `prepare --exclude`."""
        return self.folder / FINDINGS

    def prepare_command(self, shown: Callable[[str | Path], str] = str) -> str:
        """The shell command that prepares the data set without the rows to exclude; `shown` writes a path."""
        source, findings = shown(self.data.source), shown(self.findings)
        return command("prepare", source, *(self.data.options or ()), "--exclude", findings, "--out", "FOLDER")

    @property
    def is_clean(self) -> bool:
        """Whether no action is needed; photos that are listed for review only do not count."""
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
            "invalid": self.data.invalid.counts(),
            "skipped": dict(self.data.skipped),
            "classes": [vars(issue) for issue in self.class_issues],
            "duplicate_groups": len(self.groups),
            "findings": self.counts(),
            "to_exclude": sum(row["action"] == EXCLUDE for row in self.rows),
            "label_review": list(self.review.notes) if self.review else [],
            "estimated_label_noise": self.review.errors.noise if self.review else None,
        }


def is_conflict(data: AuditedData, group: Group) -> bool:
    """Whether copies of a picture have different classes."""
    return len({data.class_of(index) for index in group.photos} - {""}) > 1


def is_leak(data: AuditedData, group: Group) -> bool:
    """Whether copies of a picture are in different splits."""
    return len({data.annotations[index].split for index in group.photos}) > 1


def _mirror_images(data: AuditedData, group: Group) -> frozenset[int]:
    """The photos that are mirror images of the original, if that can be decided: by the majority of the different
    files, or by file names."""
    mirrored = group.mirrored()
    sides = mirrored, frozenset(group.photos) - mirrored
    sizes = [len({data.annotations[index].sha256 for index in side}) for side in sides]
    if mirrored and sizes[0] != sizes[1]:
        return sides[sizes.index(min(sizes))]
    named = {index for index in group.photos if _MIRRORED.search(PurePosixPath(data.annotations[index].file).stem)}
    return frozenset(named) if mirrored and named in sides else frozenset()


def _kept(data: AuditedData, group: Group) -> int:
    """The copy of a picture to keep: in the split that matters most for evaluation, then one that is not mirrored, then
    the largest, then the first."""
    mirrored = _mirror_images(data, group)

    def priority(index: int) -> tuple[int, bool, int, int]:
        photo = data.annotations[index]
        return SPLITS.index(photo.split), index not in mirrored, photo.width * photo.height, -index

    return max(group.photos, key=priority)


def rows_of_group(data: AuditedData, group: Group) -> Iterator[dict[str, str]]:
    """The copies of a picture to exclude, and why: all of a conflict, else all except the one to keep."""
    conflict, kept = is_conflict(data, group), _kept(data, group)
    for index in group.photos:
        if conflict:
            others = [other for other in group.photos if other != index]
            yield _row(data, index, CONFLICT, f"same picture as {_list_photos(data, others)}", EXCLUDE)
        elif index != kept:
            yield _row(data, index, *_why_copy(data, group, index, kept), EXCLUDE)


def _why_copy(data: AuditedData, group: Group, index: int, kept: int) -> tuple[str, str]:
    """Reason and detail of a copy to exclude. It is an exact duplicate if its file equals that of any earlier photo,
    even if the kept copy is another file of the picture."""
    photo, mirrored = data.annotations[index], group.mirrored()
    before = [kept, *(other for other in group.photos if other < index)]
    same_file = [other for other in before if data.annotations[other].sha256 == photo.sha256]
    what = "mirror image of" if (index in mirrored) != (kept in mirrored) else "same picture as"
    detail = f"{'same file as' if kept in same_file else what} {_list_photos(data, [kept])}, which is kept"
    if same_file and kept not in same_file:
        detail = f"same file as {_list_photos(data, same_file[:1])}; {detail}"
    leak = photo.split != data.annotations[kept].split
    return LEAK if leak else EXACT if same_file else NEAR, detail


def _list_photos(data: AuditedData, indices: Sequence[int]) -> str:
    return first_few(
        f"{data.annotations[i].file} ({data.class_of(i) or 'no label'}, {data.annotations[i].split})" for i in indices
    )


def _suspect_rows(data: AuditedData, review: LabelReview | None) -> Iterator[dict[str, str]]:
    if review is None:
        return
    errors = review.errors
    for row, suggested in zip(errors.photos.tolist(), errors.suggested.tolist(), strict=True):
        label, probabilities = review.labels[row], review.probabilities[row]
        name = review.classes[suggested]
        detail = f"{probabilities[suggested]:.1%} {name}, {probabilities[label]:.1%} {review.classes[label]}"
        yield _row(data, int(review.photos[row]), SUSPECT, detail, LOOK, name)


def _outlier_rows(data: AuditedData, outliers: Sequence[Outlier]) -> Iterator[dict[str, str]]:
    for outlier in outliers:
        yield _row(data, outlier.photo, outlier.reason, outlier.detail, LOOK)


def _row(
    data: AuditedData, index: int, reason: str, detail: str, action: str, suggested_class: str = ""
) -> dict[str, str]:
    photo = data.annotations[index]
    values = (photo.file, reason, detail, action, suggested_class, data.class_of(index), photo.split)
    return dict(zip(COLUMNS, values, strict=True))
