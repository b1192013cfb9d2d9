"""Is the data sound? Copies, leaks between splits, contradicting labels, odd photos, classes; one page and one list.

    audit.html       what was found, photos side by side
    findings.csv     file,reason,detail,action,suggested_class,class_name,split; `prepare --exclude` leaves out the rows
                     whose action is 'exclude'
    audit.json       the counts, and the hash of findings.csv as it was written

What is excluded unless the user says otherwise: of copies of a picture all but one; of copies in several splits those
in the split nearest to training; of copies with different classes all, as nobody knows which is right. Odd photos and
suspect labels are there to be looked at.

Shapes: N photos.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from twincar.data.annotations import CACHE, MANIFEST, SPLITS, Annotation, PreparedData
from twincar.data.audit import AuditReport, audit_source
from twincar.data.class_sets import ClassIssue, count_by_split, find_class_issues
from twincar.data.duplicates import Group, find_duplicates, group_numbers
from twincar.data.exclusions import EXCLUDE, LOOK
from twincar.data.outliers import Outlier, find_outliers
from twincar.data.prepare import photo_writer
from twincar.data.signatures import BITS, CACHE_NAME, sign_photos
from twincar.data.sources import open_source
from twincar.errors import DataError, UsageError, storage_errors
from twincar.files import read_json, sha256_of_file, write_csv, write_json, write_text
from twincar.labels import ClassNames
from twincar.pages import picture_uri, render
from twincar.preprocess import read_photo

if TYPE_CHECKING:
    from twincar.label_audit import Judgement

FINDINGS, PAGE, SUMMARY = "findings.csv", "audit.html", "audit.json"
COLUMNS = ("file", "reason", "detail", "action", "suggested_class", "class_name", "split")
CONFLICT, LEAK, EXACT, NEAR, SUSPECT = (
    "class conflict", "leak", "exact duplicate", "near duplicate", "suspect label",
)  # fmt: skip
_SHOWN = 60  # groups or photos of a kind on the page; findings.csv has all
_PICTURE = 280  # longest side of a picture on the page, pixels
OnPhoto = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class AuditedData:
    """A data set as it is audited, wherever it comes from."""

    source: str
    """What to prepare it from."""
    annotations: tuple[Annotation, ...]
    """The sound photos of training, validation and test split, N."""
    classes: ClassNames
    root: Path
    unsound: AuditReport
    class_lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    cache: Path | None = None

    def class_of(self, place: int) -> str:
        """The class of the photo at `place`; empty where its label is kept back."""
        label = self.annotations[place].label
        return "" if label is None else self.classes[label]


@dataclass(frozen=True, kw_only=True)
class DeepAudit:
    """What was found."""

    folder: Path
    data: AuditedData
    class_issues: list[ClassIssue]
    groups: list[Group]
    outliers: list[Outlier]
    judgement: Judgement | None

    @cached_property
    def rows(self) -> list[dict[str, str]]:
        """The rows of `findings.csv`: those to exclude first."""
        copies = [row for group in self.groups for row in _rows_of_group(self.data, group)]
        return [*copies, *_suspect_rows(self.data, self.judgement), *_outlier_rows(self.data, self.outliers)]

    @property
    def page(self) -> Path:
        """What people look at."""
        return self.folder / PAGE

    @property
    def findings(self) -> Path:
        """What `prepare --exclude` reads."""
        return self.folder / FINDINGS

    @property
    def command(self) -> str:
        """What leaves out the rows to exclude, as typed into a shell."""
        return shlex.join(["twincar", "prepare", self.data.source, "--exclude", str(self.findings), "--out", "FOLDER"])

    @property
    def is_sound(self) -> bool:
        """Nothing was found that must be acted upon; photos that are only to be looked at do not count."""
        return not (self.data.unsound.findings or self.class_issues or self.groups)

    def counts(self) -> dict[str, int]:
        """Rows of `findings.csv` by reason."""
        return dict(Counter(row["reason"] for row in self.rows))

    def to_dict(self) -> dict[str, Any]:
        """For `audit.json` and `--json`."""
        return {
            "source": self.data.source,
            "folder": str(self.folder),
            "photos": len(self.data.annotations),
            "unsound": {str(defect): count for defect, count in self.data.unsound.counts().items()},
            "classes": [vars(issue) for issue in self.class_issues],
            "duplicate_groups": len(self.groups),
            "findings": self.counts(),
            "to_exclude": sum(row["action"] == EXCLUDE for row in self.rows),
            "judged": list(self.judgement.told) if self.judgement else [],
            "estimated_label_noise": self.judgement.errors.noise if self.judgement else None,
        }


def deep_audit(
    spec: str,
    out: Path | None = None,
    *,
    run: Path | None = None,
    folds: int = 0,
    classes_file: Path | None = None,
    on_photo: OnPhoto | None = None,
) -> DeepAudit:
    """Audit a source, or a prepared data set, and write what was found.

    Args:
        spec: a source, see `open_source`, or the folder of a prepared data set.
        out: folder for page and list; `audits/<name of the source>` unless given.
        run: a trained run that judges the labels of photos it was not trained on.
        folds: judge its training photos too, with so many networks trained anew.
        classes_file: what numbers in the label column of a CSV file mean.
        on_photo: called with photos done and in all, for a progress bar.

    Raises:
        UsageError: no such source or run, or `out` holds a list that was edited.
        DataError: the source cannot be used.
        StorageError: the disk is full, read-only, or not writable.
    """
    if folds and run is None:
        raise UsageError("Expected --run RUN with --folds: its configuration is what the networks are trained with.")
    out = out or Path("audits") / _name_of(spec)
    _check_unedited(out)
    with storage_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=out, prefix=".photos-") as scratch:
            data = _open(spec, classes_file, Path(scratch), on_photo)
            audit = _examine(data, out, run, folds, on_photo)
            _write(audit)
    return audit


def _name_of(spec: str) -> str:
    kind, _, rest = spec.partition(":")
    if kind in ("hub", "toycars"):
        return (rest.partition("@")[0].rpartition("/")[2] or kind) if kind == "hub" else spec.replace(":", "-")
    path = Path(spec).expanduser().resolve()
    return path.parent.name if path.is_file() else path.name


def _check_unedited(out: Path) -> None:
    """A list that somebody has worked on is not written over."""
    findings = out / FINDINGS
    if not findings.exists():
        return
    summary = read_json(out / SUMMARY) if (out / SUMMARY).exists() else {}
    if summary.get("findings_sha256") != sha256_of_file(findings):
        raise UsageError(
            f"{findings} has been edited since it was written, and a new audit would replace it. "
            "Choose another --out, or delete it."
        )


def _open(spec: str, classes_file: Path | None, scratch: Path, on_photo: OnPhoto | None) -> AuditedData:
    if (Path(spec).expanduser() / MANIFEST).is_file():
        return _open_prepared(Path(spec).expanduser())
    source = open_source(spec, classes_file=classes_file, allow_untrained=True)
    description = source.description
    if source.make:
        source = source.make(scratch, on_photo)
    report = audit_source(source, on_photo=on_photo, keep=photo_writer(scratch))
    if not report.sound:
        raise DataError(f"Expected sound photos in {description}, and none of its {source.total} rows is sound.")
    return AuditedData(
        source=description,
        annotations=report.sound,
        classes=source.classes,
        root=source.photo_root or scratch,
        unsound=report,
        class_lists=source.class_lists,
    )


def _open_prepared(folder: Path) -> AuditedData:
    data = PreparedData.open(folder)
    # Other splits, such as the hub's corrupted ones, are copies of these on purpose.
    chosen = tuple(annotation for annotation in data.annotations if annotation.split in SPLITS)
    return AuditedData(
        source=data.manifest.get("source", str(folder)),
        annotations=chosen,
        classes=data.classes,
        root=data.photo_root,
        unsound=AuditReport((), chosen),
        cache=folder / CACHE / CACHE_NAME,
    )


def _examine(data: AuditedData, out: Path, run: Path | None, folds: int, on_photo: OnPhoto | None) -> DeepAudit:
    signatures = sign_photos(data.annotations, data.root, cache=data.cache, on_photo=on_photo)
    groups = find_duplicates(signatures, [annotation.sha256 for annotation in data.annotations])
    judgement = None
    if run is not None:
        from twincar.label_audit import Photos, judge_labels  # deferred: torch takes seconds

        photos = Photos(data.annotations, data.classes, data.root, group_numbers(groups, len(data.annotations)))
        judgement = judge_labels(run, photos, out / "folds", folds=folds, on_photo=on_photo)
    return DeepAudit(
        folder=out,
        data=data,
        class_issues=find_class_issues(data.annotations, data.classes, data.class_lists),
        groups=groups,
        outliers=find_outliers(data.annotations, signatures),
        judgement=judgement,
    )


def _write(audit: DeepAudit) -> None:
    write_text(audit.page, _page(audit))
    write_csv(audit.findings, audit.rows, COLUMNS)
    summary = {**audit.to_dict(), "findings_sha256": sha256_of_file(audit.findings)}
    write_json(audit.folder / SUMMARY, summary)


def _is_conflict(data: AuditedData, group: Group) -> bool:
    return len({data.class_of(place) for place in group.photos} - {""}) > 1


def _is_leak(data: AuditedData, group: Group) -> bool:
    return len({data.annotations[place].split for place in group.photos}) > 1


def _kept(data: AuditedData, group: Group) -> int:
    """Of copies of a picture the one to keep: in the split that measures most, then the largest, then the first."""

    def worth(place: int) -> tuple[int, int, int]:
        photo = data.annotations[place]
        return SPLITS.index(photo.split), photo.width * photo.height, -place

    return max(group.photos, key=worth)


def _rows_of_group(data: AuditedData, group: Group) -> Iterator[dict[str, str]]:
    conflict, kept = _is_conflict(data, group), _kept(data, group)
    for place in group.photos:
        if conflict:
            others = [other for other in group.photos if other != place]
            yield _row(data, place, CONFLICT, f"same picture as {_told(data, others)}", EXCLUDE)
        elif place != kept:
            exact = all(pair.exact for pair in group.pairs)
            leak = data.annotations[place].split != data.annotations[kept].split
            reason = LEAK if leak else EXACT if exact else NEAR
            yield _row(data, place, reason, f"same picture as {_told(data, [kept])}, which is kept", EXCLUDE)


def _told(data: AuditedData, places: Sequence[int]) -> str:
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


def _page(audit: DeepAudit) -> str:
    data = audit.data
    conflicts = [group for group in audit.groups if _is_conflict(data, group)]
    leaks = [group for group in audit.groups if _is_leak(data, group) and group not in conflicts]
    copies = [group for group in audit.groups if group not in conflicts and group not in leaks]
    counts = count_by_split(data.annotations, len(data.classes))
    return render(
        "audit.html.jinja",
        title=f"Is the data sound? {data.source}",
        audit=audit.to_dict(),
        splits={split: sum(numbers) for split, numbers in counts.items()},
        unsound=data.unsound.rows(),
        class_counts=[(name, [counts[s][index] for s in counts]) for index, name in enumerate(data.classes.names)],
        sections=[
            ("Copies with different classes", "All of them are excluded: nobody knows which label is right.",
             *_group_cards(data, conflicts)),
            ("Leaks between splits", "The copy nearer to training is excluded.", *_group_cards(data, leaks)),
            ("Copies within a split", "All but one are excluded.", *_group_cards(data, copies)),
        ],
        suspects=_suspect_cards(data, audit.judgement),
        outliers=_outlier_cards(data, audit.outliers),
        outliers_total=len(audit.outliers),
        command=audit.command,
        findings=FINDINGS,
        exclude=EXCLUDE,
    )  # fmt: skip


def _group_cards(data: AuditedData, groups: Sequence[Group]) -> tuple[int, list[dict[str, Any]]]:
    """How many there are, and what is shown of the first of them."""
    cards = []
    for group in groups[:_SHOWN]:
        out = {row["file"] for row in _rows_of_group(data, group)}
        pairs = [
            "same bytes" if pair.exact
            else f"{pair.distance} of {BITS} bits, {pair.likeness:.1%} alike{', mirrored' if pair.mirrored else ''}"
            for pair in group.pairs
        ]  # fmt: skip
        photos = [{**_figure(data, place), "out": data.annotations[place].file in out} for place in group.photos[:6]]
        cards.append({"photos": photos, "more": len(group.photos) - len(photos), "pairs": sorted(set(pairs))})
    return len(groups), cards


def _suspect_cards(data: AuditedData, judgement: Judgement | None) -> list[dict[str, Any]]:
    """Each suspect beside the photos that the networks are surest of in its class and in the suggested one."""
    if judgement is None:
        return []
    errors, surest = judgement.errors, _surest_photos(judgement)
    cards = []
    for judged, suggested in list(zip(errors.photos.tolist(), errors.suggested.tolist(), strict=True))[:_SHOWN]:
        examples = [
            (words, _figure(data, surest[index]))
            for words, index in (
                ("labelled so, surely", int(judgement.labels[judged])),
                ("suggested, surely", suggested),
            )
            if index in surest
        ]
        cards.append(
            {
                "photo": _figure(data, int(judgement.photos[judged])),
                "suggested": judgement.classes[suggested],
                "chance": float(judgement.probabilities[judged, suggested]),
                "chance_of_label": float(judgement.probabilities[judged, judgement.labels[judged]]),
                "examples": examples,
            }
        )
    return cards


def _surest_photos(judgement: Judgement) -> dict[int, int]:
    """For each class the place of the photo labelled so that is given the highest probability for it."""
    of_label = judgement.probabilities[np.arange(len(judgement.labels)), judgement.labels]
    order = np.argsort(of_label, kind="stable")  # the surest last, which overwrites the others
    return dict(zip(judgement.labels[order].tolist(), judgement.photos[order].tolist(), strict=True))


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


def _figure(data: AuditedData, place: int) -> dict[str, Any]:
    photo = data.annotations[place]
    return {
        "picture": picture_uri(read_photo(data.root / photo.file), _PICTURE),
        "file": photo.file,
        "class_name": data.class_of(place) or "no label",
        "split": photo.split,
        "size": f"{photo.width}×{photo.height}",
    }
