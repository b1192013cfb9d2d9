"""The deep audit: duplicates, leaks between splits, contradicting labels, outliers and faulty classes.

    audit.html       the findings, with their photos side by side
    findings.csv     file,reason,detail,action,suggested_class,class_name,split; `prepare --exclude` leaves out the rows
                     whose action is 'exclude'
    audit.json       the counts, and the hashes of this findings.csv and of the previous one

By default, all copies of a picture except one are excluded; of copies in several splits, those in the split nearest to
training; of copies with different classes all, because it is not known which label is right. Outliers and suspect
labels are listed for review and not excluded.

Shapes: N photos.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twincar.auditing.duplicates import find_duplicates, group_numbers
from twincar.auditing.findings import COLUMNS, FINDINGS, SUMMARY, AuditedData, DeepAudit
from twincar.auditing.outliers import find_outliers
from twincar.auditing.page import audit_page
from twincar.auditing.signatures import CACHE_NAME, sign_photos
from twincar.core.errors import DataError, UsageError
from twincar.core.files import (
    read_json,
    sha256_of,
    sha256_of_file,
    to_csv,
    working_folder,
    write_bytes,
    write_json,
    write_text,
)
from twincar.core.progress import Progress
from twincar.data.boxes import describe_boxes
from twincar.data.class_issues import find_class_issues
from twincar.data.dataset import CACHE, MANIFEST, SPLITS, PreparedData
from twincar.data.prepare import PrepareOptions
from twincar.data.sources import asked_splits, open_source
from twincar.data.validate import AuditReport, audit_source

log = logging.getLogger(__name__)


def audit(
    spec: str | Path,
    out: str | Path | None = None,
    *,
    model: str | Path | None = None,
    folds: int = 0,
    classes_file: str | Path | None = None,
    labels_from: int | None = None,
    on_photo: Progress | None = None,
) -> DeepAudit:
    """Audit a source or a prepared data set, and write the findings.

    Args:
        spec: a source, see `open_source`, or the folder of a prepared data set.
        out: folder for the page and the list; by default `audits/<name of the source>`.
        model: a model of any kind that reviews the labels; a run reviews those of photos that it was not trained on.
        folds: with a run, its training photos are reviewed too, by this many networks trained in folds.
        classes_file: the meaning of the numbers in the label column of a CSV file.
        labels_from: the number of the first class in such a file, 0 or 1, if the file does not show it.
        on_photo: called with photos done and in all, for a progress bar.

    Returns:
        The findings, a row for each photo, and the folder of the page and the list.

    Raises:
        UsageError: there is no such source or model, or `out` holds a list that was edited.
        DataError: the source cannot be used.
        StorageError: the disk is full or cannot be written to.
    """
    if folds and model is None:
        raise UsageError("Expected --model RUN with --folds: the networks are trained with its configuration.")
    spec, classes_file = str(spec), Path(classes_file) if classes_file else None
    out = Path(out) if out else Path("audits") / _name_of(spec)
    _check_unedited(out)
    with working_folder(out / "photos") as scratch:
        data = _open(spec, classes_file, labels_from, scratch, on_photo)
        found = _examine(data, out, model, folds, on_photo)
        _write(found)
    return found


def _name_of(spec: str) -> str:
    kind, _, rest = spec.partition(":")
    if kind in ("hub", "toycars"):
        return (rest.partition("@")[0].rpartition("/")[2] or kind) if kind == "hub" else spec.replace(":", "-")
    path = Path(spec).expanduser().resolve()
    return path.parent.name if path.is_file() else path.name


def _check_unedited(out: Path) -> None:
    """Refuse to overwrite a list that somebody has edited."""
    findings = out / FINDINGS
    if not findings.exists():
        return
    summary = read_json(out / SUMMARY) if (out / SUMMARY).exists() else {}
    written = summary.get("findings_sha256") if isinstance(summary, dict) else None
    if not isinstance(written, list) or sha256_of_file(findings) not in written:
        raise UsageError(
            f"{findings} has been edited since it was written, but a new audit would replace it. "
            "Choose another --out, or delete it."
        )


def _open(
    spec: str, classes_file: Path | None, labels_from: int | None, scratch: Path, on_photo: Progress | None
) -> AuditedData:
    if (Path(spec).expanduser() / MANIFEST).is_file():
        return _open_prepared(Path(spec).expanduser())
    source = open_source(spec, classes_file=classes_file, labels_from=labels_from, allow_untrained=True)
    for note in source.notes:
        log.warning("%s", note)
    description = source.description
    if source.make:
        source = source.make(scratch, on_photo)
    report = audit_source(source, on_photo=on_photo, keep_in=scratch)
    for sentence in describe_boxes(report.boxes):
        log.warning("%s", sentence)
    if not report.valid:
        raise DataError(f"Expected valid photos in {description}, but none of its {source.total} rows is valid.")
    return AuditedData(
        source=description,
        annotations=report.valid,
        classes=source.classes,
        root=source.photo_root or scratch,
        invalid=report,
        class_lists=source.class_lists,
        skipped=source.skipped,
    )


def _open_prepared(folder: Path) -> AuditedData:
    data = PreparedData.open(folder)
    # The photos of other splits, such as the corrupted ones of the hub, are meant to be copies of these.
    chosen = tuple(annotation for annotation in data.annotations if annotation.split in SPLITS)
    return AuditedData(
        source=data.manifest.get("source", str(folder)),
        annotations=chosen,
        classes=data.classes,
        root=data.photo_root,
        invalid=AuditReport((), chosen),
        options=_options_of(data.manifest),
        cache=folder / CACHE / CACHE_NAME,
    )


def _options_of(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """The options of `prepare` that differ from its defaults; of a list or a detector only a hash is known."""
    usual = PrepareOptions()
    names = ("val_share", "test_share", "seed", "singletons", "labels_from", "crop")
    chosen = {name: manifest.get(name) for name in names}
    if manifest.get("crop") in ("box", "detect"):
        chosen["margin"] = manifest.get("margin")
    splits = manifest.get("splits") or asked_splits(usual.splits)
    words = [("--split", split) for split in splits if set(splits) != set(asked_splits(usual.splits))]
    words += [
        (f"--{name.replace('_', '-')}", str(value))
        for name, value in chosen.items()
        if value not in (None, getattr(usual, name))
    ]
    return tuple(word for pair in words for word in pair)


def _examine(
    data: AuditedData, out: Path, model: str | Path | None, folds: int, on_photo: Progress | None
) -> DeepAudit:
    signatures = sign_photos(data.annotations, data.root, cache=data.cache, on_photo=on_photo)
    groups = find_duplicates(signatures, [annotation.sha256 for annotation in data.annotations])
    review = None
    if model is not None:
        from twincar.auditing.label_review import Photos, review_labels  # deferred: torch takes seconds

        photos = Photos(data.annotations, data.classes, data.root, group_numbers(groups, len(data.annotations)))
        review = review_labels(model, photos, out / "folds", folds=folds, on_photo=on_photo)
    return DeepAudit(
        folder=out,
        data=data,
        class_issues=find_class_issues(data.annotations, data.classes, data.class_lists),
        groups=groups,
        outliers=find_outliers(data.annotations, signatures),
        review=review,
    )


def _write(audit: DeepAudit) -> None:
    write_text(audit.page, audit_page(audit))
    findings = to_csv(audit.rows, COLUMNS)
    # The summary is written first, with the hash of the previous list too: if the process is killed in between, that
    # list does not count as edited.
    before = [sha256_of_file(audit.findings)] if audit.findings.exists() else []
    write_json(audit.folder / SUMMARY, {**audit.to_dict(), "findings_sha256": [sha256_of(findings), *before]})
    write_bytes(audit.findings, findings)
