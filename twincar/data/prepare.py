"""The `prepare` verb: check every photo of a source, draw a validation split, and write the data set atomically.

The validation split depends only on the seed and on the bytes of the photos, not on their names, order or number.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from twincar.core.errors import DataError, Defect, UsageError
from twincar.core.files import sha256_of, sha256_of_file, working_folder, write_csv
from twincar.core.labels import ClassNames, shorten
from twincar.core.progress import Progress
from twincar.core.version import __version__
from twincar.data.class_issues import find_lacking
from twincar.data.dataset import Annotation, PreparedData, count_splits, write_prepared
from twincar.data.exclusions import read_exclusions
from twincar.data.open_set_split import OpenSetSplit, hide_unseen, read_open_set
from twincar.data.sources import DEFAULT_SPLITS, Source, asked_splits, open_source
from twincar.data.sources.base import malformed_rows
from twincar.data.splits import singletons as singletons_of
from twincar.data.splits import with_validation
from twincar.data.validate import AuditReport, Finding, audit_source

log = logging.getLogger(__name__)

Singletons = Literal["keep", "drop"]
LEFT_OUT = "left_out.csv"
"""Table of the rows that were left out, with file, defect and detail; it exists only if there are any."""
_PHOTOS = "photos"


def prepare(
    spec: str | Path,
    out: str | Path,
    *,
    splits: Iterable[str] = DEFAULT_SPLITS,
    val_share: float = 0.1,
    seed: int = 0,
    strict: bool = False,
    classes_file: str | Path | None = None,
    labels_from: int | None = None,
    singletons: Singletons | None = None,
    open_set: str | Path | None = None,
    exclude: str | Path | None = None,
    on_photo: Progress | None = None,
) -> PreparedData:
    """Prepare a data set from a source; if `out` was prepared with the same settings already, open it.

    Everything is built in a hidden folder beside `out` that is renamed at the end, so `out` is complete or absent.

    Args:
        spec: The source, see `open_source`.
        out: The folder to write.
        splits: Splits of the source to read; the source's own validation split comes with 'train'. Without 'train',
            the data set is for evaluation only.
        val_share: Share of each class's training photos that are kept for validation, at least one photo; not used if
            the source has its own validation split.
        seed: Seed of the choice of validation photos.
        strict: Fail if a row is not valid, instead of leaving it out.
        classes_file: A class list for a CSV file whose labels are numbers.
        labels_from: Whether these numbers count from 0 or from 1, if the file itself does not show it.
        singletons: What to do with classes that have no photo to spare for validation: 'keep' them, without
            validation, or 'drop' them with all their photos; by default they are an error.
        open_set: A split of the classes into known and unseen ones, see `read_open_set`.
        exclude: A CSV file that lists photos to leave out, see `read_exclusions`.
        on_photo: Called with the number of photos done and their total.

    Returns:
        The data set, opened: its photos, classes and manifest.

    Raises:
        UsageError: `out` holds something else, or the arguments do not go together.
        DataError: the source cannot be used; with `strict`, also if a row is not valid.
        LabelError: its class names do not fit together.
        StorageError: the disk is full, read-only, or not writable.
    """
    if not 0 < val_share < 1:
        raise UsageError(f"Expected a share of validation photos between 0 and 1, but found {val_share}.")
    out = Path(out).expanduser().resolve()
    splits = asked_splits(splits)
    excluded = read_exclusions(Path(exclude)) if exclude else {}
    open_set, classes_file = (Path(path) if path else None for path in (open_set, classes_file))
    source = open_source(str(spec), splits=splits, classes_file=classes_file, labels_from=labels_from)
    if source.malformed_lines:
        raise malformed_rows(source.description, source.malformed_lines, source.total)
    known_and_unseen = None if open_set is None else read_open_set(open_set, source.classes)
    settings = {
        "source": source.description,
        "splits": list(splits),
        "seed": seed,
        "val_share": val_share,
        "revision": source.revision,
        "fingerprint": source.fingerprint,
        "open_set": None if open_set is None else sha256_of_file(open_set),
        "exclude": _digest(excluded),
        "labels_from": labels_from,
        "singletons": singletons,
    }
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        return _prepared_before(out, settings, strict)
    with working_folder(out) as folder:
        _build(source, folder, settings, excluded, strict, known_and_unseen, on_photo)
        try:
            folder.replace(out)
        except OSError:
            if not out.is_dir() or not any(out.iterdir()):
                raise
            return _prepared_before(out, settings, strict)  # another process has prepared it meanwhile
    return PreparedData.open(out)


def _prepared_before(out: Path, settings: Mapping[str, Any], strict: bool) -> PreparedData:
    """Open the data set at `out` if it was made from the same source with the same settings; nothing is changed."""
    try:
        prepared = PreparedData.open(out)
    except UsageError:
        raise UsageError(f"Expected a new or empty folder to prepare into, but {out} holds something else.") from None
    was = prepared.manifest
    compared = ("source", "splits", "seed", "val_share", "open_set", "exclude", "labels_from", "singletons")
    different = [name for name in compared if was.get(name) != settings[name]]
    if different:
        changes = ", ".join(f"{name} {was.get(name)!r}, not {settings[name]!r}" for name in different)
        raise UsageError(
            f"A prepared data set is never overwritten, but {out} was made with {changes}. Choose another folder."
        )
    if any(was.get(name) != settings[name] for name in ("revision", "fingerprint")):
        raise UsageError(
            f"{settings['source']} has changed since {out} was prepared from it, but nothing is overwritten. "
            f"Prepare it into another folder, or delete {out} first."
        )
    if strict and (invalid := _unwanted(was["left_out"])):
        raise _invalid_rows(invalid, f"see {out / LEFT_OUT}")
    return prepared


def _build(
    source: Source,
    folder: Path,
    settings: Mapping[str, Any],
    excluded: Mapping[str, str],
    strict: bool,
    open_set: OpenSetSplit | None,
    on_photo: Progress | None,
) -> None:
    if source.make:
        source = source.make(folder, on_photo)
    report = audit_source(source, on_photo=on_photo, keep=photo_writer(folder / _PHOTOS), exclude=excluded)
    counts = {str(defect): count for defect, count in report.counts().items()}
    _check_exclusions(excluded, counts.get(Defect.EXCLUDED, 0))
    if strict and (invalid := _unwanted(counts)):
        first = (found.file for found in report.findings if found.defect is not Defect.EXCLUDED)
        raise _invalid_rows(invalid, f"the first are {shorten(first)}")
    if settings["singletons"] == "drop":
        few = singletons_of(list((hide_unseen(report, open_set) if open_set else report).valid))
        report = _without(few, report, source.classes)
    left_out = {str(defect): count for defect, count in report.counts().items()}
    if report.findings:
        write_csv(folder / LEFT_OUT, report.rows())
    if open_set:
        report = hide_unseen(report, open_set)
    classes, photos = _classes_with_photos(source.classes, report, settings["splits"])
    if settings["singletons"] is None and (few := singletons_of(photos)):
        raise _no_validation([classes[label] for label in few], len(classes))
    annotations = with_validation(photos, settings["val_share"], settings["seed"])
    if "train" in settings["splits"] and not any(photo.split == "val" for photo in annotations):
        raise DataError("Expected a class with two different training photos, one for validation, but there is none.")
    root = source.photo_root or folder / _PHOTOS
    manifest = {
        "twincar": __version__,
        **settings,
        "photo_root": (root.relative_to(folder) if root.is_relative_to(folder) else root).as_posix(),
        "photos": count_splits(annotations),
        "classes": len(classes.names),
        "classes_without_photos": [name for name in source.classes.names if classes.find(name) is None],
        "left_out": left_out,
        "notes": [*source.notes, *(f"{issue.detail}." for issue in find_lacking(annotations, classes))],
        "skipped": dict(source.skipped),
    }
    write_prepared(folder, classes, annotations, manifest)


def photo_writer(root: Path) -> Callable[[Annotation, bytes], None]:
    """A callback for `audit_source` that writes photos below `root`, for sources that have them as bytes."""

    def write(annotation: Annotation, photo: bytes) -> None:
        path = root / annotation.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo)

    return write


def _digest(excluded: Mapping[str, str]) -> str | None:
    """Hash of the list of files to leave out, so that another list makes another data set."""
    return sha256_of("\n".join(sorted(excluded)).encode("utf-8", "surrogateescape"))[:16] if excluded else None


def _without(few: Sequence[int], report: AuditReport, classes: ClassNames) -> AuditReport:
    """Leave out, in every split, the photos of classes that have none to spare for validation."""
    detail = "Expected at least two different training photos of {!r}, but there are fewer."
    dropped = tuple(
        Finding(photo.file, Defect.SINGLETON, detail.format(classes[photo.label]))
        for photo in report.valid
        if photo.label is not None and photo.label in few
    )
    kept = tuple(photo for photo in report.valid if photo.label not in few)
    # Without its label, an invalid row does not count as a class whose photos are all invalid.
    found = tuple(replace(row, label=None) if row.label in few else row for row in report.findings)
    return AuditReport(findings=(*found, *dropped), valid=kept)


def _no_validation(few: Sequence[str], classes: int) -> DataError:
    return DataError(
        "Expected at least two different training photos of every class, one to train on and one to validate on, but "
        f"{len(few)} of {classes} classes have fewer: {shorten(few, 20)}. Add --singletons keep (to train on them "
        "without validation) or --singletons drop (to leave these classes out), or add photos."
    )


def _check_exclusions(excluded: Mapping[str, str], found: int) -> None:
    """Raise if none of the listed files is in the source, and warn if some are not."""
    if excluded and not found:
        raise DataError(
            f"Expected files of this source in the list of photos to leave out, but none of its {len(excluded)} is "
            f"in the source: {shorten(excluded)}. Give the list of this source's own audit."
        )
    if found < len(excluded):
        log.warning("%d of the %d photos to leave out are not in this source.", len(excluded) - found, len(excluded))


def _unwanted(left_out: Mapping[str, int]) -> dict[str, int]:
    """The counts of rows that were left out without the user's request."""
    return {defect: count for defect, count in left_out.items() if defect not in (Defect.EXCLUDED, Defect.SINGLETON)}


def _invalid_rows(left_out: Mapping[str, int], where: str) -> DataError:
    reasons = ", ".join(f"{count} {defect}" for defect, count in left_out.items())
    return DataError(
        f"Expected every row to be valid, but {sum(left_out.values())} are not ({reasons}); {where}. "
        "Repair them, or prepare without --strict, which leaves them out."
    )


def _classes_with_photos(
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
        raise DataError(
            f"Expected valid training photos of every class, but {len(lost)} of {len(classes.names)} have none: "
            f"{shorten(lost)}. Add some, or take these classes out of the other splits."
        )
    if to_train and len(trained) == 1:
        raise DataError(
            "Expected at least two classes with training photos, but found one; there is nothing to distinguish."
        )
    kept = [index for index in range(len(classes.names)) if index in trained]
    new = {old: index for index, old in enumerate(kept)}
    photos = [replace(photo, label=None if photo.label is None else new[photo.label]) for photo in report.valid]
    return ClassNames(tuple(classes.names[index] for index in kept)), photos


def _nothing_valid(report: AuditReport, what: str) -> DataError:
    if not report.findings:
        return DataError(f"Expected valid {what}, but found none. Audit the source first.")
    counts = ", ".join(f"{count} {defect}" for defect, count in report.counts().items())
    return DataError(
        f"Expected valid {what}, but found none; {len(report.findings)} rows are not valid ({counts}). "
        f"The first: {report.findings[0].detail}"
    )
