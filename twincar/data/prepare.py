"""The `prepare` verb: check every photo of a source, split them, and write the data set atomically.

Splits that are drawn depend only on the seed and on the bytes of the photos, not on their names, order or number.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twincar.core.errors import DataError, UsageError
from twincar.core.files import is_free, sha256_of, sha256_of_file, working_folder, write_csv
from twincar.core.labels import ClassNames
from twincar.core.options import CROP_MARGIN, Crop, Singletons
from twincar.core.portable import rename_folder
from twincar.core.progress import Progress
from twincar.core.version import __version__
from twincar.core.wording import list_counts
from twincar.data.boxes import BoxFault, describe_boxes
from twincar.data.class_issues import describe_few, describe_names, find_lacking
from twincar.data.contradictions import CONTRADICTIONS, describe_contradictions, find_contradictions
from twincar.data.cropping import digest_of_detector, open_cropper
from twincar.data.dataset import Annotation, PreparedData, count_splits, write_prepared
from twincar.data.exclusions import read_exclusions
from twincar.data.open_set_split import OpenSetSplit, hide_unseen, read_open_set
from twincar.data.selection import (
    Problems,
    check_exclusions,
    check_listing,
    check_rows,
    classes_with_photos,
    invalid_rows,
    no_validation,
    unwanted,
    without_singletons,
)
from twincar.data.sources import DEFAULT_SPLITS, Source, asked_splits, open_source
from twincar.data.sources.base import malformed_rows
from twincar.data.splits import singletons as singletons_of
from twincar.data.splits import with_test, with_validation
from twincar.data.validate import AuditReport, Inspect, audit_source

log = logging.getLogger(__name__)

LEFT_OUT = "left_out.csv"
"""Table of the rows that were left out, with file, defect and detail; it exists only if there are any."""
_PHOTOS = "photos"


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """What of a source becomes a data set, and how.

    Raises:
        UsageError: a value is out of range.
    """

    splits: Sequence[str] = DEFAULT_SPLITS
    """Splits of the source to read; the source's own validation split comes with 'train'. Without 'train', the data set
    is for evaluation only."""
    val_share: float = 0.1
    """Share of each class's training photos that are kept for validation, at least one photo; not used if the source
    has its own validation split."""
    test_share: float | None = None
    """Share of each class's training photos that are kept to test on, at least one where two others are left; for a
    source without a test split. By default no test photos are drawn."""
    seed: int = 0
    """Seed of the choice of validation and test photos."""
    strict: bool = False
    """Fail if a row is not valid, instead of leaving it out."""
    classes_file: str | Path | None = None
    """A class list for a CSV file whose labels are numbers."""
    labels_from: int | None = None
    """Whether these numbers count from 0 or from 1, if the file itself does not show it."""
    singletons: Singletons | None = None
    """What to do with classes that have no photo to spare for validation: 'keep' them, without validation, or 'drop'
    them with all their photos; by default they are an error."""
    open_set: str | Path | None = None
    """A split of the classes into known and unseen ones, see `read_open_set`."""
    exclude: str | Path | None = None
    """A CSV file that lists photos to leave out, see `read_exclusions`."""
    crop: Crop = "none"
    """Cut photos to the boxes of the source ('box'), or to the main car that a detector finds ('detect'); a photo
    without either is kept whole, and counted."""
    margin: float = CROP_MARGIN
    """Around the car that is cut out, a share of its width and height on each side."""
    detector: str | Path | None = None
    """A detector for 'detect'; the bundled one unless given."""

    def __post_init__(self) -> None:
        for what, share in (("validation", self.val_share), ("test", self.test_share)):
            if share is not None and not 0 < share < 1:
                raise UsageError(f"Expected a share of {what} photos between 0 and 1, but found {share}.")
        if self.test_share is not None and self.val_share + self.test_share >= 1:
            raise UsageError(
                f"Expected shares of validation and test photos that leave some to train on, but {self.val_share} and "
                f"{self.test_share} are all of them."
            )
        if not 0 <= self.margin <= 1:
            raise UsageError(f"Expected a margin of 0 to 1 times the car's side, but found {self.margin}.")
        if self.detector and self.crop != "detect":
            raise UsageError("Expected --crop detect with a detector; leave one of them out, or add the other.")


_DEFAULTS = PrepareOptions()


@dataclass(frozen=True)
class _Request:
    """An opened source, and what is to be made of it."""

    source: Source
    options: PrepareOptions
    excluded: Mapping[str, str]
    open_set: OpenSetSplit | None
    cropper: Inspect | None
    settings: Mapping[str, Any]
    """By which data sets differ, for the manifest."""


def prepare(
    spec: str | Path, out: str | Path, options: PrepareOptions = _DEFAULTS, *, on_photo: Progress | None = None
) -> PreparedData:
    """Prepare a data set from a source; if `out` was prepared with the same options already, open it.

    Everything is built in a hidden folder beside `out` that is renamed at the end, so `out` is complete or absent.

    Args:
        spec: the source, see `open_source`.
        out: the folder to write.
        options: what of the source becomes the data set, and how.
        on_photo: called with the number of photos done and their total.

    Returns:
        The data set, opened: its photos, classes and manifest.

    Raises:
        UsageError: `out` holds something else, or the options do not go together.
        DataError: the source cannot be used; if `options.strict`, also if a row is not valid.
        LabelError: its class names do not fit together.
        CheckpointError: the detector is damaged.
        StorageError: the disk is full, read-only, or not writable.
    """
    out = Path(out).expanduser().resolve()
    request = _read_request(str(spec), options)
    if not is_free(out):
        return _prepared_before(out, request)
    if request.open_set is None:  # the classes of which are fewer than those listed
        check_listing(
            request.source, request.excluded, request.settings["splits"], stop_at_singletons=options.singletons is None
        )
    with working_folder(out) as folder:
        _build(request, folder, on_photo)
        try:
            rename_folder(folder, out)
        except OSError:
            if is_free(out) or not out.is_dir():
                raise
            return _prepared_before(out, request)  # another process has prepared it meanwhile
    return PreparedData.open(out)


def _read_request(spec: str, options: PrepareOptions) -> _Request:
    splits = asked_splits(options.splits)
    paths = (options.classes_file, options.open_set, options.detector)
    classes_file, open_set, detector = (Path(path) if path else None for path in paths)
    cropper = open_cropper(options.crop, options.margin, detector)
    excluded = read_exclusions(Path(options.exclude)) if options.exclude else {}
    source = open_source(spec, splits=splits, classes_file=classes_file, labels_from=options.labels_from)
    if source.malformed_lines:
        raise malformed_rows(source.description, source.malformed_lines, source.total)
    known_and_unseen = None if open_set is None else read_open_set(open_set, source.classes)
    settings = {
        "source": source.description,
        "splits": list(splits),
        "seed": options.seed,
        "val_share": options.val_share,
        "test_share": options.test_share,
        "revision": source.revision,
        "fingerprint": source.fingerprint,
        "open_set": None if open_set is None else sha256_of_file(open_set),
        "exclude": _digest(excluded),
        "labels_from": options.labels_from,
        "singletons": options.singletons,
        "crop": options.crop,
        "margin": None if options.crop == "none" else options.margin,
        "detector": digest_of_detector(detector) if options.crop == "detect" else None,
    }
    return _Request(source, options, excluded, known_and_unseen, cropper, settings)


def _prepared_before(out: Path, request: _Request) -> PreparedData:
    """Open the data set at `out` if it was made from the same source with the same options; nothing is changed."""
    try:
        prepared = PreparedData.open(out)
    except UsageError:
        raise UsageError(f"Expected a new or empty folder to prepare into, but {out} holds something else.") from None
    was, settings = prepared.manifest, request.settings
    changeable = ("revision", "fingerprint")
    different = [name for name in settings if was.get(name) != settings[name] and name not in changeable]
    if different:
        changes = "; ".join(_describe_change(name, was.get(name), settings[name]) for name in different)
        raise UsageError(
            f"A prepared data set is never overwritten, but {out} was made {changes}. Choose another folder."
        )
    if any(was.get(name) != settings[name] for name in changeable):
        raise UsageError(
            f"{settings['source']} has changed since {out} was prepared from it, but nothing is overwritten. "
            f"Prepare it into another folder, or delete {out} first."
        )
    if request.options.strict and (invalid := unwanted(was["left_out"])):
        raise invalid_rows(invalid, f"see {out / LEFT_OUT}")
    log.info("%s was prepared from this source with these options before; nothing was changed.", out)
    return prepared


def _describe_change(name: str, was: Any, now: Any) -> str:
    """How a data set was made otherwise, in the words of the command line; of some settings only a hash is known."""
    option = {"source": "the source", "splits": "--split"}.get(name, f"--{name.replace('_', '-')}")
    before, after = (", ".join(value) if isinstance(value, list | tuple) else value for value in (was, now))
    if was is None:
        return f"without {option}"
    if name in ("exclude", "open_set", "detector"):
        return f"with {option}" if now is None else f"with another {option}"
    return f"with {option} {before}" + ("" if now is None else f", not {after}")


def _build(request: _Request, folder: Path, on_photo: Progress | None) -> None:
    source, options = request.source, request.options
    if source.make:
        source = source.make(folder, on_photo)
    report = audit_source(
        source,
        on_photo=on_photo,
        keep_in=folder / _PHOTOS,
        exclude=request.excluded,
        inspect=request.cropper,
    )
    problems = Problems()
    with problems.collected():
        check_exclusions(request.excluded, report)
    with problems.collected():
        if options.strict:
            check_rows(report, cut_to_boxes=options.crop == "box")
    if options.singletons == "drop":
        report = without_singletons(report, source.classes, request.open_set)
    left_out = report.counts()
    if report.findings:
        write_csv(folder / LEFT_OUT, report.rows())
    if request.open_set:
        report = hide_unseen(report, request.open_set)
    with problems.collected():
        classes, annotations = _split(report, source.classes, request)
    problems.raise_all()
    contradictions = find_contradictions(annotations, classes)
    if contradictions:
        write_csv(folder / CONTRADICTIONS, contradictions)
    root = source.photo_root or folder / _PHOTOS
    manifest = {
        "twincar": __version__,
        **request.settings,
        **_framing(report, annotations, options),
        "photo_root": (root.relative_to(folder) if root.is_relative_to(folder) else root).as_posix(),
        "photos": count_splits(annotations),
        "classes": len(classes.names),
        "classes_without_photos": [name for name in source.classes.names if classes.find(name) is None],
        "left_out": left_out,
        "notes": [
            *source.notes,
            *(f"{issue.detail}." for issue in find_lacking(annotations, classes)),
            *describe_few(annotations, classes),
            *describe_boxes(report.boxes),
            *describe_contradictions(contradictions),
            *describe_names(classes),
        ],
        "contradictions": len(contradictions),
        "skipped": dict(source.skipped),
    }
    write_prepared(folder, classes, annotations, manifest)


def _split(report: AuditReport, names: ClassNames, request: _Request) -> tuple[ClassNames, list[Annotation]]:
    """The classes of the data set, and its photos with their splits."""
    options, splits = request.options, request.settings["splits"]
    classes, photos = classes_with_photos(names, report, splits)
    if options.test_share is not None:
        photos = _with_test(photos, options)
    if options.singletons is None and (few := singletons_of(photos)):
        raise no_validation([classes[label] for label in few], len(classes))
    annotations = with_validation(photos, options.val_share, options.seed)
    if "train" in splits and not any(photo.split == "val" for photo in annotations):
        raise DataError("Expected a class with two different training photos, one for validation, but there is none.")
    return classes, annotations


def _with_test(photos: list[Annotation], options: PrepareOptions) -> list[Annotation]:
    own = [photo.split for photo in photos if photo.split != "train"]
    if "test" in own or "train" not in options.splits:
        found = f"it has {own.count('test')} test photos of its own" if own else "no training photos are read"
        raise UsageError(f"Expected a source without test photos for --test-share, but {found}. Leave it out.")
    assert options.test_share is not None
    return with_test(photos, options.test_share, options.seed)


def _framing(report: AuditReport, photos: Sequence[Annotation], options: PrepareOptions) -> dict[str, Any]:
    """What the manifest says of the crops: the framing, and the number of photos that are kept whole, by reason.

    Raises:
        DataError: no photo is cut although it was asked for.
    """
    if options.crop == "none":
        return {"framing": "photo", "kept_whole": {}, "filled": 0}
    faults = {found.file: str(found.fault) for found in report.boxes if found.fault is not BoxFault.BEYOND}
    other = str(BoxFault.NO_CAR) if options.crop == "detect" else "no box"
    whole = Counter(faults.get(photo.file, other) for photo in photos if photo.crop is None)
    if whole.total() == len(photos):
        advice = (
            "Add --crop detect to find the cars, or leave --crop out." if options.crop == "box" else "Leave it out."
        )
        raise DataError(
            f"Expected photos with a car to cut out for --crop {options.crop}, but found {list_counts(whole)}. {advice}"
        )
    filled = sum(photo.crop == (0, 0, photo.width, photo.height) for photo in photos)
    return {"framing": "car", "kept_whole": dict(whole.most_common()), "filled": filled}


def _digest(excluded: Mapping[str, str]) -> str | None:
    """Hash of the list of files to leave out, so that another list makes another data set."""
    return sha256_of("\n".join(sorted(excluded)).encode("utf-8", "surrogateescape"))[:16] if excluded else None
