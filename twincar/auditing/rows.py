"""The quick audit: each row of a source by itself, and the classes that a split lacks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from twincar.core.progress import Progress
from twincar.data.class_issues import ClassIssue, find_lacking
from twincar.data.contradictions import find_contradictions
from twincar.data.cropping import open_car_checker
from twincar.data.sources import open_source
from twincar.data.validate import AuditReport, audit_source

COLUMNS = ("file", "defect", "detail")
"""The columns of `AuditReport.rows`."""


@dataclass(frozen=True)
class RowAudit:
    """The result of the quick audit."""

    report: AuditReport
    lacking: tuple[ClassIssue, ...]
    """The splits that lack a class of another split."""
    source_notes: tuple[str, ...]
    """Sentences on how the source was read."""
    contradictions: tuple[dict[str, str], ...] = ()
    """The photos whose bytes another class has too; see `find_contradictions`."""

    @property
    def notes(self) -> list[str]:
        """Sentences on the source as a whole."""
        return [*self.source_notes, *(f"{issue.detail}." for issue in self.lacking)]

    @property
    def rows(self) -> list[dict[str, str]]:
        """A row for each invalid row of the source, for each box that something is wrong with, and for each photo whose
        bytes another class has too."""
        contradicting = [
            {"file": row["file"], "defect": row["reason"], "detail": f"labelled {row['class_name']}, {row['detail']}"}
            for row in self.contradictions
        ]
        return [*self.report.rows(), *self.report.box_rows(), *contradicting]

    @property
    def is_sound(self) -> bool:
        """Whether every row and box is valid, no label contradicts another, and no split lacks a class."""
        return not self.rows and not self.lacking


def audit_rows(
    spec: str,
    *,
    classes_file: Path | None = None,
    labels_from: int | None = None,
    detect: bool = False,
    on_photo: Progress | None = None,
) -> RowAudit:
    """Read and decode every photo of a source.

    Args:
        spec: the source; see `open_source`, also for the next two.
        classes_file: class names in order.
        labels_from: number of the first class in a CSV of class numbers.
        detect: also look for a car in every box, or photo without one.
        on_photo: called after each photo.

    Raises:
        UsageError: there is no such source.
        DataError, LabelError, HubError: the source cannot be used.
        StorageError: there is no space for the photos of a source that draws them.
    """
    source = open_source(spec, classes_file=classes_file, labels_from=labels_from, allow_untrained=True)
    report = audit_source(source, on_photo=on_photo, inspect=open_car_checker() if detect else None)
    lacking = tuple(find_lacking(report.valid, source.classes))
    contradictions = tuple(find_contradictions(report.valid, source.classes))
    return RowAudit(report, lacking, tuple(source.notes), contradictions)
