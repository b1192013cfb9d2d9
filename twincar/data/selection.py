"""Which rows and classes of a source become a data set, and the errors for those that cannot."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from twincar.core.errors import DataError, Defect
from twincar.core.labels import ClassNames, shorten
from twincar.core.wording import list_counts
from twincar.data.boxes import BoxFault, describe_boxes
from twincar.data.dataset import Annotation
from twincar.data.open_set_split import OpenSetSplit, hide_unseen
from twincar.data.sources import Source, SourceRow, file_key, is_outside
from twincar.data.splits import singletons as singletons_of
from twincar.data.validate import AuditReport, Finding

log = logging.getLogger(__name__)


class Problems:
    """What is wrong with a source, raised as one error, so that it is mended at once and not one by one."""

    def __init__(self) -> None:
        self._found: list[DataError] = []

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Keep a `DataError` for `raise_all`."""
        try:
            yield
        except DataError as error:
            self._found.append(error)

    def raise_all(self) -> None:
        """Raise what was kept.

        Raises:
            DataError: with the messages of all errors, a line each.
        """
        if self._found:
            raise DataError("\n".join(str(error) for error in self._found))


def check_listing(
    source: Source, excluded: Mapping[str, str], splits: Sequence[str], *, stop_at_singletons: bool
) -> None:
    """Check the classes by the list of photos alone, because reading all of them takes long; a source without files is
    not checked, as its list holds the photos.

    Args:
        source: the opened source.
        excluded: see `read_exclusions`.
        splits: that are read.
        stop_at_singletons: whether a class without a photo to spare for validation is an error.

    Raises:
        DataError: classes have too few training photos, whatever is in the files.
    """
    if source.photo_root is None or source.make is not None or "train" not in splits:
        return
    photos: defaultdict[int, set[str]] = defaultdict(set)
    rows = [row for row in source.rows() if row.fault is None and file_key(row.name) not in excluded]
    for row in rows:
        if row.split == "train" and isinstance(row.label, int) and _holds_bytes(row):
            photos[row.label].add(file_key(row.name))
    listed = {row.label for row in rows if isinstance(row.label, int)}
    problems, names = Problems(), source.classes
    with problems.collected():
        if lost := sorted(listed - photos.keys()) if photos else []:
            raise _without_training([names[label] for label in lost], len(names))
    with problems.collected():
        if len(photos) == 1:
            raise _one_class()
    with problems.collected():
        few = sorted(label for label, files in photos.items() if len(files) == 1)
        if few and stop_at_singletons and not any(row.split == "val" for row in rows):
            raise no_validation([names[label] for label in few], len(names))
    problems.raise_all()


def _holds_bytes(row: SourceRow) -> bool:
    try:
        return not is_outside(row.name) and isinstance(row.photo, Path) and row.photo.stat().st_size > 0
    except (OSError, ValueError):
        return False


def without_singletons(report: AuditReport, classes: ClassNames, open_set: OpenSetSplit | None) -> AuditReport:
    """Leave out, in every split, the photos of classes that have none to spare for validation."""
    few = singletons_of(list((hide_unseen(report, open_set) if open_set else report).valid))
    detail = "Expected at least two different training photos of {!r}, but there are fewer."
    dropped = tuple(
        Finding(photo.file, Defect.SINGLETON, detail.format(classes[photo.label]))
        for photo in report.valid
        if photo.label is not None and photo.label in few
    )
    kept = tuple(photo for photo in report.valid if photo.label not in few)
    # Without its label, an invalid row does not count as a class whose photos are all invalid.
    found = tuple(replace(row, label=None) if row.label in few else row for row in report.findings)
    return replace(report, findings=(*found, *dropped), valid=kept)


def no_validation(few: Sequence[str], classes: int) -> DataError:
    """The error for classes of a single training photo."""
    return DataError(
        "Expected at least two different training photos of every class, one to train on and one to validate on, but "
        f"{len(few)} of {classes} classes have fewer: {shorten(few, 20)}. Add --singletons keep (to train on them "
        "without validation) or --singletons drop (to leave these classes out), or add photos."
    )


def check_exclusions(excluded: Mapping[str, str], report: AuditReport) -> None:
    """Check a list of photos to leave out; a warning is logged if some are not in the source.

    Raises:
        DataError: none of them is.
    """
    found = report.counts().get(Defect.EXCLUDED, 0)
    if excluded and not found:
        raise DataError(
            f"Expected files of this source in the list of photos to leave out, but none of its {len(excluded)} is "
            f"in the source: {shorten(excluded)}. Give the list of this source's own audit."
        )
    if found < len(excluded):
        log.warning("%d of the %d photos to leave out are not in this source.", len(excluded) - found, len(excluded))


def check_rows(report: AuditReport, *, cut_to_boxes: bool) -> None:
    """Check that no row was left out without the user's request, and that all boxes can be used, if they are.

    Raises:
        DataError: some rows or boxes are not valid.
    """
    bad = [found for found in report.boxes if found.fault is not BoxFault.BEYOND]
    if cut_to_boxes and bad:
        raise DataError(
            f"{' '.join(describe_boxes(bad))} Repair them, or prepare without --strict, which keeps them whole."
        )
    if invalid := unwanted(report.counts()):
        first = (found.file for found in report.findings if found.defect is not Defect.EXCLUDED)
        raise invalid_rows(invalid, f"the first are {shorten(first)}")


def unwanted(left_out: Mapping[str, int]) -> dict[str, int]:
    """The counts of rows that were left out without the user's request."""
    return {defect: count for defect, count in left_out.items() if defect not in (Defect.EXCLUDED, Defect.SINGLETON)}


def invalid_rows(left_out: Mapping[str, int], where: str) -> DataError:
    """The error for rows that are not valid, by reason, with `--strict`."""
    return DataError(
        f"Expected every row to be valid, but {sum(left_out.values())} are not ({list_counts(left_out)}); {where}. "
        "Repair them, or prepare without --strict, which leaves them out."
    )


def classes_with_photos(
    classes: ClassNames, report: AuditReport, splits: Sequence[str]
) -> tuple[ClassNames, list[Annotation]]:
    """The classes of the data set, and the valid photos with labels that index these classes.

    A class that the source names but never uses is dropped. If no training photos are requested, the classes are those
    of the photos to evaluate on.
    """
    to_train = "train" in splits
    trained = {photo.label for photo in report.valid if photo.split == "train" or not to_train} - {None}
    listed = {photo.label for photo in report.valid} | {finding.label for finding in report.findings}
    untrained = listed - trained if to_train else set()
    lost = [name for index, name in enumerate(classes.names) if index in untrained]
    if not trained:
        raise _nothing_valid(report, "training photos with labels" if to_train else "photos with labels")
    if lost:
        raise _without_training(lost, len(classes.names))
    if to_train and len(trained) == 1:
        raise _one_class()
    kept = [index for index in range(len(classes.names)) if index in trained]
    new = {old: index for index, old in enumerate(kept)}
    photos = [replace(photo, label=None if photo.label is None else new[photo.label]) for photo in report.valid]
    return ClassNames(tuple(classes.names[index] for index in kept)), photos


def _without_training(lost: Sequence[str], classes: int) -> DataError:
    return DataError(
        f"Expected valid training photos of every class, but {len(lost)} of {classes} have none: {shorten(lost)}. Add "
        "some, or take these classes out of the other splits."
    )


def _one_class() -> DataError:
    return DataError(
        "Expected at least two classes with training photos, but found one; there is nothing to distinguish."
    )


def _nothing_valid(report: AuditReport, what: str) -> DataError:
    if not report.findings:
        return DataError(f"Expected valid {what}, but found none. Audit the source first.")
    return DataError(
        f"Expected valid {what}, but found none; {len(report.findings)} rows are not valid "
        f"({list_counts(report.counts())}). The first: {report.findings[0].detail}"
    )
