"""Verbs for data sets: prepare, audit."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twincar.cli.options import (
    ClassesOption,
    CsvOption,
    DetectorFileOption,
    JsonOption,
    LabelsFromOption,
    SourceArgument,
    number_of,
)
from twincar.cli.output import print_csv, print_json, print_json_lines, print_table, progress
from twincar.core.errors import UsageError
from twincar.core.options import CROP_MARGIN, Crop, LabelsFrom, Singletons
from twincar.core.wording import command, counted, list_counts, percent

if TYPE_CHECKING:
    from twincar.auditing.findings import DeepAudit
    from twincar.auditing.rows import RowAudit

DeepOption = Annotated[
    bool,
    typer.Option(
        "--deep",
        help="Also find copies, leaks between splits, contradicting labels, outliers and problems with classes; "
        "SOURCE may be a prepared data set. Writes a page and findings.csv for prepare --exclude.",
    ),
]
ReviewerOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="With --deep: a model of any kind that reviews the labels; a run leaves out what it was trained on.",
    ),
]
FoldsOption = Annotated[
    int,
    typer.Option(
        min=0,
        help="With a run as --model: also review its training photos, with this many networks trained in folds.",
    ),
]
AuditFolderOption = Annotated[
    Path | None, typer.Option(help="Folder for the page and the list.  [default: audits/<source>]")
]

ExcludeOption = Annotated[
    Path | None,
    typer.Option(
        help="CSV of photos to leave out: findings.csv of audit --deep (its rows with the action 'exclude'), or "
        "any list with a column 'file'."
    ),
]
CropOption = Annotated[
    Crop,
    typer.Option(
        help="Cut photos to the car: to the box that the source has, or to what the detector finds; photos without "
        "either are kept whole. Nothing is copied: the crops stand in annotations.csv."
    ),
]
MarginOption = Annotated[
    float, typer.Option(min=0, max=1, help="With --crop: border around the car, a share of its width and height.")
]
TestShareOption = Annotated[
    float | None,
    typer.Option(
        min=0.01,
        max=0.5,
        help="Share of the training photos to test on, where the source has no test photos.  [default: none]",
    ),
]
DetectCarsOption = Annotated[
    bool, typer.Option("--detect", help="Also look for a car in every box, or photo without one, with the detector.")
]


def prepare(
    source: SourceArgument = "hub:tanganke/stanford_cars",
    out: Annotated[Path, typer.Option(help="Folder of the prepared data set.")] = Path("data/stanford_cars"),
    split: Annotated[
        list[str] | None,
        typer.Option(
            "--split",
            help="Split to read, repeatable; test alone for evaluation only.  [default: train, test]",
        ),
    ] = None,
    val_share: Annotated[
        float, typer.Option(min=0.01, max=0.5, help="Share of the training photos used for validation.")
    ] = 0.1,
    test_share: TestShareOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the choice of validation and test photos.")] = 0,
    classes: ClassesOption = None,
    labels_from: LabelsFromOption = None,
    singletons: Annotated[
        Singletons | None,
        typer.Option(
            help="Classes with a single training photo, which have none for validation: keep them for training, or "
            "drop them.  [default: stop]"
        ),
    ] = None,
    open_set: Annotated[
        Path | None,
        typer.Option(
            help="JSON file of known_classes and unknown_classes; the latter are not trained on, to measure whether "
            "the model rejects them."
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at invalid rows instead of leaving them out.")] = False,
    exclude: ExcludeOption = None,
    crop: CropOption = "none",
    margin: MarginOption = CROP_MARGIN,
    detector: DetectorFileOption = None,
) -> None:
    """Check photos and labels, split them, and write annotations.csv, classes.json and a manifest."""
    from twincar.data.prepare import PrepareOptions, prepare

    options = PrepareOptions(
        splits=tuple(split or ("train", "test")),
        val_share=val_share,
        test_share=test_share,
        seed=seed,
        strict=strict,
        classes_file=classes,
        labels_from=number_of(labels_from),
        singletons=singletons,
        open_set=open_set,
        exclude=exclude,
        crop=crop,
        margin=margin,
        detector=detector,
    )
    with progress("Checking photos") as on_photo:
        data = prepare(source, out, options, on_photo=on_photo)
    print_summary(data.manifest, out, len(data.classes))


def audit(
    source: SourceArgument,
    deep: DeepOption = False,
    model: ReviewerOption = None,
    folds: FoldsOption = 0,
    out: AuditFolderOption = None,
    detect: DetectCarsOption = False,
    classes: ClassesOption = None,
    labels_from: LabelsFromOption = None,
    as_csv: CsvOption = False,
    as_json: JsonOption = False,
) -> None:
    """Look for rows that are missing, damaged, odd, repeated or without a known label; exit code 1 if there are any.

    Photos with the same bytes in different classes are listed too, because their labels contradict each other.

    Boxes that are swapped, empty, in fractions, tiny, or beyond their photo are listed too.

    A split that lacks a class gives exit code 1 too; a note on standard error names the class.

    With --deep, findings.csv lists what to do: action 'exclude' for the copy of a leak that is nearer to training, for
    all but one of copies within a split, and for all copies of a picture whose classes contradict each other; action
    'look' for suspect labels and odd photos. Change the word where you decide otherwise.
    """
    if deep and detect:
        raise UsageError("Expected --deep or --detect, but found both; run them one after the other.")
    if deep:
        _audit_deeply(source, out, model, folds, classes, labels_from, as_csv, as_json)
        return
    if model or folds or out:
        raise UsageError("Expected --deep with --model, --folds and --out.")
    from twincar.auditing.rows import COLUMNS, audit_rows

    with progress("Auditing photos") as on_photo:
        found = audit_rows(
            source, classes_file=classes, labels_from=number_of(labels_from), detect=detect, on_photo=on_photo
        )
    for note in found.notes:
        typer.echo(f"Note: {note}", err=True)
    if as_json:
        print_json_lines(found.rows)
    elif as_csv:
        print_csv(found.rows, COLUMNS)
    else:
        print_row_audit(found)
    if not found.is_sound:
        raise typer.Exit(1)


def _audit_deeply(
    source: str,
    out: Path | None,
    model: str | None,
    folds: int,
    classes: Path | None,
    labels_from: LabelsFrom | None,
    as_csv: bool,
    as_json: bool,
) -> None:
    from twincar.auditing.audit import audit as audit_deeply
    from twincar.auditing.findings import COLUMNS

    with progress("Looking at photos") as on_photo:
        found = audit_deeply(
            source,
            out,
            model=model,
            folds=folds,
            classes_file=classes,
            labels_from=number_of(labels_from),
            on_photo=on_photo,
        )
    if as_json:
        print_json(found.to_dict())
    elif as_csv:
        print_csv(found.rows, COLUMNS)
    else:
        print_deep_audit(found)
    if not found.is_clean:
        raise typer.Exit(1)


def print_summary(manifest: Mapping[str, Any], folder: Path, classes: int) -> None:
    """Print photos by split, rows left out by reason, and the next command."""
    from twincar.data.contradictions import CONTRADICTIONS

    photos = list_counts(manifest["photos"])
    typer.echo(f"{folder}: {counted(classes, 'class', 'classes')}; photos: {photos}")
    for defect, count in manifest["left_out"].items():
        typer.echo(f"  left out: {count} {defect}")
    if manifest["left_out"]:
        typer.echo(f"  which and why: {folder / 'left_out.csv'}")
    if manifest["framing"] == "car":
        cars = sum(manifest["photos"].values()) - sum(manifest["kept_whole"].values())
        cut = counted(cars - manifest["filled"], "photo")
        typer.echo(f"  cut to the car: {cut}, with a margin of {percent(manifest['margin'], 0)}")
        if manifest["filled"]:
            typer.echo(f"  filled by the car already: {counted(manifest['filled'], 'photo')}")
    for reason, count in manifest["kept_whole"].items():
        typer.echo(f"  kept whole: {count} {reason}")
    for reason, count in manifest.get("skipped", {}).items():
        typer.echo(f"  skipped: {count} {reason}")
    for note in manifest["notes"]:
        typer.echo(f"  note: {note}")
    if manifest["contradictions"]:
        listed = shlex.quote(str(folder / CONTRADICTIONS))
        typer.echo(f"  to leave out contradicting labels, prepare into another folder with --exclude {listed}")
    if "train" in manifest["photos"] and "test" not in manifest["photos"]:
        typer.echo(
            "  note: no photos to test on. The validation photos choose the best epoch, so that a figure on them is a "
            "little too good; --test-share 0.1 keeps a tenth to test on."
        )
    follows = ("train", folder) if "train" in manifest["photos"] else ("evaluate", "RUN", "--data", folder)
    typer.echo(f"Next: {command(*follows)}")


def print_row_audit(audit: RowAudit) -> None:
    """Print the rows and boxes that are not valid, and the counts."""
    from twincar.auditing.rows import COLUMNS
    from twincar.data.boxes import describe_boxes
    from twincar.data.contradictions import describe_contradictions

    report = audit.report
    print_table(COLUMNS, ([row[column] for column in COLUMNS] for row in audit.rows))
    counts = list_counts(report.counts())
    typer.echo(f"{len(report.valid)} valid rows, {len(report.findings)} invalid{': ' + counts if counts else ''}.")
    for sentence in (*describe_boxes(report.boxes), *describe_contradictions(audit.contradictions)):
        typer.echo(sentence)


def print_deep_audit(audit: DeepAudit) -> None:
    """Print the findings by reason, and the next command."""
    summary = audit.to_dict()
    typer.echo(f"{counted(summary['photos'], 'valid photo')} in {summary['source']}")
    for defect, count in summary["invalid"].items():
        typer.echo(f"  unusable: {count} {defect}")
    for reason, count in summary["skipped"].items():
        typer.echo(f"  skipped: {count} {reason}")
    for issue in audit.class_issues:
        typer.echo(f"  {issue.reason}: {issue.detail}")
    for sentence in summary["label_review"]:
        typer.echo(f"  labels: {sentence}")
    print_table(["finding", "photos"], ([reason, str(count)] for reason, count in summary["findings"].items()))
    typer.echo(f"Page: {audit.page}\nList: {audit.findings}, {counted(summary['to_exclude'], 'photo')} to exclude")
    if summary["to_exclude"]:
        typer.echo(f"Next: {audit.prepare_command()}")
        if audit.data.options is None:
            typer.echo("  with your other options of prepare, such as --crop detect")
