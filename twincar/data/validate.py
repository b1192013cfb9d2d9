"""Validate a source: every photo is read and decoded completely; each row is valid or has one `Defect`.

Grayscale, CMYK and palette images, photos rotated by EXIF, unusual file names and one photo under two names are all
valid: preprocessing handles the former, and the latter are not a defect of one row.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from PIL import Image

from twincar.core.errors import Defect, PhotoError, storage_errors
from twincar.core.files import sha256_of
from twincar.core.labels import ClassNames, shorten
from twincar.core.parallel import map_ahead
from twincar.core.photos import Box, decode_photo, read_photo_bytes
from twincar.core.progress import Progress
from twincar.data.boxes import MIN_SIDE, BoxFault, BoxFinding, fit_box
from twincar.data.dataset import Annotation
from twincar.data.sources import Source, SourceRow, file_key, is_outside

MAX_RATIO = 6
"""Largest ratio of the longer to the shorter side; a longer strip is not a photo of a car."""
_AHEAD = 4  # photos that each thread may read ahead

Inspect = Callable[[Image.Image, Box | None], Box | BoxFault | None]
"""Looks at a valid photo and at its box in pixels, if it has one that can be used. It returns the part of the photo
that is to be used, or what is wrong with the box; None is all of the photo."""


@dataclass(frozen=True)
class Finding:
    """One row that is not valid."""

    file: str
    """As the source lists it."""
    defect: Defect
    detail: str
    label: int | str | None = None
    """As in `SourceRow`."""


_Checked = tuple[Annotation | Finding, list[BoxFault]]


@dataclass(frozen=True)
class AuditReport:
    """The result of an audit, in the order of the source."""

    findings: tuple[Finding, ...]
    valid: tuple[Annotation, ...]
    """The valid rows, with the source's own splits."""
    boxes: tuple[BoxFinding, ...] = ()
    """What is wrong with the boxes of valid rows."""

    def counts(self) -> dict[str, int]:
        """The number of rows by `Defect`, the most frequent first."""
        return dict(Counter(str(finding.defect) for finding in self.findings).most_common())

    def rows(self) -> list[dict[str, str]]:
        """One row per finding, for a table or CSV: file, defect, detail."""
        return [{"file": found.file, "defect": str(found.defect), "detail": found.detail} for found in self.findings]

    def box_rows(self) -> list[dict[str, str]]:
        """The same for each box that something is wrong with."""
        return [{"file": found.file, "defect": str(found.fault), "detail": found.detail} for found in self.boxes]


def audit_source(
    source: Source,
    *,
    on_photo: Progress | None = None,
    keep_in: Path | None = None,
    exclude: Mapping[str, str] | None = None,
    inspect: Inspect | None = None,
    threads: int = 2,
) -> AuditReport:
    """Read and decode every photo of a source; an invalid one becomes a finding.

    Args:
        source: an opened source; one that draws its photos does so in a temporary folder.
        on_photo: called after each photo with the number of photos done and their total.
        keep_in: a folder to write the valid photos to that the source has as bytes only.
        exclude: files to leave out and why, see `read_exclusions`.
        inspect: called in the threads with each photo that can be decoded.
        threads: photos decoded at once; memory holds a few photos per thread.

    Raises:
        StorageError: the temporary folder, or that to keep photos in, is full, read-only, or not writable.
    """
    if source.make is not None:
        with storage_errors(gettempdir()), TemporaryDirectory() as folder:
            drawn = source.make(Path(folder), on_photo)
            return audit_source(
                drawn, on_photo=on_photo, keep_in=keep_in, exclude=exclude, inspect=inspect, threads=threads
            )

    def check(row: SourceRow) -> tuple[SourceRow, Annotation | Finding, list[BoxFault]]:
        return row, *_check(row, exclude=exclude or {}, inspect=inspect)

    rows: list[tuple[SourceRow, Annotation | Finding]] = []
    faults: list[list[BoxFault]] = []
    checked = map_ahead(check, source.rows(), threads=threads, ahead=threads * _AHEAD)
    for done, (row, result, found) in enumerate(checked, start=1):
        if keep_in and isinstance(row.photo, bytes) and isinstance(result, Annotation):
            path = keep_in / result.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(row.photo)
        rows.append((replace(row, photo=b""), result))
        faults.append(found)
        if on_photo:
            on_photo(done, source.total)
    results = list(_without_repeats(rows, source.classes))
    boxes = [
        BoxFinding(row.name, fault, row.box, row.line)
        for (row, _), result, found in zip(rows, results, faults, strict=True)
        for fault in found
        if isinstance(result, Annotation)
    ]
    return AuditReport(
        findings=tuple(result for result in results if isinstance(result, Finding)),
        valid=tuple(result for result in results if isinstance(result, Annotation)),
        boxes=tuple(boxes),
    )


def _check(row: SourceRow, exclude: Mapping[str, str], inspect: Inspect | None) -> _Checked:
    if (why := exclude.get(_key(row))) is not None:
        return Finding(row.name, Defect.EXCLUDED, why, row.label), []
    if row.fault is not None:
        return Finding(row.name, row.fault.defect, str(row.fault), row.label), []
    try:
        return _annotate(row, inspect)
    except PhotoError as error:
        return Finding(row.name, error.defect, str(error), row.label), []


def _annotate(row: SourceRow, inspect: Inspect | None) -> tuple[Annotation, list[BoxFault]]:
    if isinstance(row.label, str) or (row.label is None and row.split in ("train", "val")):
        found = f"but found {row.label!r}" if row.label else "but found none"
        raise PhotoError(Defect.UNKNOWN_LABEL, f"Expected the name of a class as the label, {found}.")
    data = _bytes_of(row)
    photo = decode_photo(data, row.name)
    _check_shape(photo.width, photo.height, row.name)
    box, fault = (None, row.box_fault) if row.box is None else fit_box(row.box, photo.width, photo.height)
    seen = inspect(photo, None if fault is BoxFault.TINY else box) if inspect else None
    annotation = Annotation(
        file=row.name,
        label=row.label,
        split=row.split,
        width=photo.width,
        height=photo.height,
        box=box,
        crop=None if isinstance(seen, BoxFault) else seen,
        sha256=sha256_of(data),
    )
    return annotation, [found for found in (fault, seen) if isinstance(found, BoxFault)]


def _bytes_of(row: SourceRow) -> bytes:
    if isinstance(row.photo, bytes):
        return row.photo
    if not row.name:
        raise PhotoError(Defect.MISSING, "Expected a file name, but found none.")
    if is_outside(row.name):
        raise PhotoError(Defect.OUTSIDE, f"Expected a file below the photo folder, but {row.name} leads out of it.")
    return read_photo_bytes(row.photo)


def _check_shape(width: int, height: int, name: str) -> None:
    short, long = sorted((width, height))
    if short < MIN_SIDE:
        raise PhotoError(
            Defect.TOO_SMALL, f"Expected at least {MIN_SIDE} pixels a side in {name}, but found {width}×{height}."
        )
    if long > MAX_RATIO * short:
        raise PhotoError(
            Defect.ODD_SHAPE, f"Expected sides of at most {MAX_RATIO}:1 in {name}, but found {width}×{height}."
        )


def _without_repeats(
    rows: list[tuple[SourceRow, Annotation | Finding]], classes: ClassNames
) -> Iterator[Annotation | Finding]:
    """Keep the first row of a file that is listed more than once, or none if its labels contradict each other."""
    labels: defaultdict[str, set[str]] = defaultdict(set)
    for row, _ in rows:
        labels[_key(row)].add(classes[row.label] if isinstance(row.label, int) else row.label or "")
    seen: set[str] = set()
    for row, result in rows:
        key = _key(row)
        names = sorted(labels[key] - {""})
        if row.name and len(names) > 1:
            detail = f"Expected one label for {row.name}, but it is listed as {shorten(names)}."
            yield Finding(row.name, Defect.REPEATED, detail, row.label)
        elif row.name and key in seen:
            detail = f"Expected each file once, but {row.name} is already listed."
            yield Finding(row.name, Defect.REPEATED, detail, row.label)
        else:
            yield result
        seen.add(key)


def _key(row: SourceRow) -> str:
    return file_key(row.name)
