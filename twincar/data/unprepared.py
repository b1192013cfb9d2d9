"""A photo folder or CSV as a data set to judge a model on, without `prepare`: validated in memory, nothing written."""

from __future__ import annotations

import logging
from pathlib import Path

from twincar.core.errors import DataError, UsageError
from twincar.core.files import sha256_of
from twincar.core.labels import shorten
from twincar.core.wording import command, counted, list_counts
from twincar.data.dataset import ANNOTATIONS, CLASSES, MANIFEST, PreparedData, count_splits
from twincar.data.sources import Source, open_source
from twincar.data.sources.base import malformed_rows
from twincar.data.validate import AuditReport, audit_source

log = logging.getLogger(__name__)

UNNAMED_SPLIT = "test"
"""What photos are for in a folder or CSV that was not prepared, unless the caller names another split."""


def is_prepared(path: Path) -> bool:
    """Whether a path is to be opened as what `prepare` has made: also one that is gone, or that lost its manifest."""
    return not path.exists() or any((path / name).is_file() for name in (MANIFEST, CLASSES))


def open_unprepared(path: Path, split: str = UNNAMED_SPLIT) -> PreparedData:
    """The photos of one split of class folders or a CSV; photos of a source without splits are all of that split.

    How many photos were left out, and why, is logged, and stands in the manifest as `left_out`.

    Raises:
        UsageError: it is not such a source.
        DataError: the source cannot be used, or has no valid photo.
        LabelError: its class names do not fit together.
    """
    source = open_source(str(path), splits=(split,), allow_untrained=True)
    if source.photo_root is None or source.make is not None:
        raise UsageError(
            f"Expected a prepared data set, class folders, or a CSV file as --data, but {path} keeps its photos "
            f"within tables. Prepare it first: {command('prepare', path, '--out', 'FOLDER', '--split', split)}"
        )
    if source.malformed_lines:
        raise malformed_rows(source.description, source.malformed_lines, source.total)
    log.info("Checking %s of %s, which is not a prepared data set.", counted(source.total, "photo"), path)
    report = audit_source(source)
    photos = tuple(photo for photo in report.valid if photo.split == split)
    _log_left_out(path, source, report)
    if not photos:
        raise DataError(
            f"Expected valid {split} photos in {path}, but there are none. Look at it: {command('audit', path)}"
        )
    rows = "\n".join(f"{photo.file}\t{_name_of(photo.label, source)}\t{photo.sha256}" for photo in photos)
    manifest = {
        "photos": count_splits(photos),
        "left_out": report.counts(),
        "sha256": {ANNOTATIONS: sha256_of(rows.encode("utf-8", "surrogateescape"))},
    }
    return PreparedData(path, source.photo_root, source.classes, photos, manifest)


def _name_of(label: int | None, source: Source) -> str:
    return "" if label is None else source.classes[label]


def _log_left_out(path: Path, source: Source, report: AuditReport) -> None:
    for note in source.notes:
        log.info("%s", note)
    if report.findings:
        log.warning(
            "Left out of %s: %s (%s): %s. Which and why: %s",
            path,
            counted(len(report.findings), "photo"),
            list_counts(report.counts()),
            shorten(finding.file for finding in report.findings),
            command("audit", path),
        )
