"""The verb that names cars in photos: predict."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated

import typer

from twincar.cli.answers import Summary, how_to_predict, on_terminal, print_blocks
from twincar.cli.options import (
    ClassesOption,
    ConfidenceOption,
    CsvOption,
    DetectOption,
    DetectorOption,
    FalseRejectionOption,
    detect_options,
    model_or_bundled,
)
from twincar.cli.output import print_csv, print_json_lines, print_result, progress
from twincar.core.errors import MissingExtraError, UsageError
from twincar.core.extras import how_to_install_alone
from twincar.core.options import CONFIDENCE, FALSE_REJECTION, Cars, EngineName, PredictOptions
from twincar.core.wording import counted

if TYPE_CHECKING:
    from twincar.core.photos import Photo
    from twincar.inference.batch import BatchResult
    from twincar.inference.classifier import Classifier
    from twincar.inference.results import Failure, Prediction

log = logging.getLogger(__name__)

ImagesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="IMAGES",
        help="Photos, folders, patterns, or addresses of these, such as s3://bucket/cars; - for a photo or paths "
        "on stdin.",
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="Run folder, .safetensors, exported .onnx or OpenVINO folder, published .pth, or a model on the hub: "
        "OWNER/NAME[@REVISION].  [default: the bundled model]",
    ),
]
CarsOption = Annotated[
    Cars, typer.Option(help="Where cars are found: name each of them, or only the main car of a photo.")
]
DrawOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Also write the photos with boxes, numbers and names to a new or empty folder."),
]
TopKOption = Annotated[int, typer.Option(min=1, help="Candidates a car.")]
BackboneOption = Annotated[str, typer.Option(help="Of .pth weights.  [default: efficientnetv2_rw_s]")]
BatchFolderOption = Annotated[
    str | None,
    typer.Option(
        help="Folder or address to write Parquet to, for any number of photos; the same command goes on where it "
        "stopped."
    ),
]
ClusterOption = Annotated[
    str | None,
    typer.Option(
        metavar="[ADDRESS]",
        help="With --out: answer on the Ray cluster at HOST:PORT, or auto for the one that runs here; without an "
        "address on this machine, a process a core.",
    ),
]
_TABLE_SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".xlsx", ".parquet")
JsonLinesOption = Annotated[bool, typer.Option("--json", help="Print one JSON object a line; with --out one in all.")]


def predict(
    images: ImagesArgument = None,
    model: ModelOption = None,
    engine: Annotated[EngineName, typer.Option(help="What computes; auto is the fastest there.")] = "auto",
    detect: DetectOption = "auto",
    detector: DetectorOption = None,
    cars: CarsOption = "all",
    top_k: TopKOption = 3,
    tta: Annotated[bool, typer.Option("--tta", help="Average over mirrored and wider views.")] = False,
    confidence: ConfidenceOption = CONFIDENCE,
    false_rejection: FalseRejectionOption = FALSE_REJECTION,
    classes: ClassesOption = None,
    backbone: BackboneOption = "",
    draw: DrawOption = None,
    out: BatchFolderOption = None,
    cluster: ClusterOption = None,
    as_json: JsonLinesOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Name the cars in photos: a few lines for each on a terminal, CSV in a pipe or file.

    A photo that cannot be read gets an error in its place, and the exit code is 1.
    """
    if not images:
        typer.echo(how_to_predict(), err=True)
        raise typer.Exit(UsageError.exit_code)
    if out is not None:
        _check_batch(out, images, {"--csv": as_csv, "--draw": draw, "--classes": classes, "--backbone": backbone})
    if draw is not None and images == ["-"]:
        raise UsageError("Expected --draw with the names of photos or folders, but found - for standard input.")
    options = PredictOptions(
        **asdict(detect_options(detect, detector)),
        engine=engine,
        cars=cars,
        top_k=top_k,
        tta=tta,
        min_confidence=confidence,
        false_rejection=false_rejection,
    )
    if out is not None:
        failed = _predict_many(images, out, cluster, model_or_bundled(model), options, as_json)
    else:
        from twincar.core.listing import find_photos
        from twincar.core.skipped import Skipped

        skipped = Skipped()
        photos: Iterator[Photo] = _photos_from_stdin() if images == ["-"] else find_photos(images, skipped)
        named = model_or_bundled(model, say_so=not on_terminal())  # on a terminal answers come alone
        classifier = _classifier(named, options, classes, backbone)
        predictions = classifier.stream(photos, cars=cars, top_k=top_k, tta=tta)
        if draw is not None:
            from twincar.inference.drawing import draw_all

            predictions = draw_all(predictions, draw, images)
        summary = Summary(len(classifier.class_names))
        failed = _print_predictions(predictions, top_k, summary, as_json=as_json, as_csv=as_csv)
        skipped.log()
    if failed:
        raise typer.Exit(1)


def _classifier(model: str, options: PredictOptions, class_file: Path | None, backbone: str) -> Classifier:
    from twincar.inference.classifier import Classifier

    classes = None
    if class_file:
        from twincar.data.sources import read_class_file  # it knows .mat files, which takes a while to import

        classes = read_class_file(class_file)
    return Classifier.load(
        model,
        engine=options.engine,
        classes=classes,
        backbone=backbone,
        detection=options,
        min_confidence=options.min_confidence,
        false_rejection=options.false_rejection,
    )


def _check_batch(out: str, images: list[str], others: Mapping[str, object]) -> None:
    """Check what is asked for together with --out.

    Raises:
        UsageError: it names a file, or an option that it does not go with.
    """
    if PurePath(out).suffix.casefold() in _TABLE_SUFFIXES:
        raise UsageError(
            f"Expected a folder with --out, which is written as Parquet, but found the name of a file, {out}. CSV and "
            f"JSON go to standard output: twincar predict PHOTOS --csv > {shlex.quote(out)}"
        )
    if others["--csv"]:
        raise UsageError(
            "Expected --out or --csv, but found both: --out writes Parquet to a folder, and --csv prints to standard "
            "output. For one CSV file: twincar predict PHOTOS --csv > cars.csv"
        )
    for option, value in others.items():
        if value:
            raise UsageError(f"Expected --out without {option}, but found both; leave one out.")
    if images == ["-"]:
        raise UsageError("Expected --out with the names of photos or folders, but found - for standard input.")


def _print_predictions(
    predictions: Iterable[Prediction | Failure], top_k: int, summary: Summary, *, as_json: bool, as_csv: bool
) -> int:
    """Print predictions as they are made, and what came of them; returns the number of photos that cannot be read."""
    from twincar.inference.results import Failure, by_photo, photo_dict, table_columns, table_row

    with nullcontext() if on_terminal() else progress("Naming cars") as on_photo:
        answers = summary.counting(predictions, on_photo)
        if as_json:
            print_json_lines(
                row.to_dict() if isinstance(row, Failure) else photo_dict(row) for row in by_photo(answers)
            )
        elif as_csv or not on_terminal():
            print_csv(map(table_row, answers), table_columns(top_k))
        else:
            print_blocks(answers)
    if summary.photos > 1 or summary.failed:
        log.log(logging.ERROR if summary.failed else logging.INFO, "%s%s", "\n" if on_terminal() else "", summary)
    return summary.failed


def _predict_many(
    images: list[str], out: str, cluster: str | None, model: str, options: PredictOptions, as_json: bool
) -> int:
    """Write the predictions to a folder; returns the number of photos that could not be read."""
    try:
        from twincar.inference.batch import predict_many
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"Writing Parquet needs {error.name}: {how_to_install_alone('pyarrow')}") from None

    with progress("Answering for photos") as on_photo:
        done = predict_many(images, out, model=model, options=options, cluster=cluster, on_photo=on_photo)
    print_result(done, print_batch_result, as_json=as_json)
    if done.failed:
        typer.echo(f"{counted(done.failed, 'photo')} could not be read.", err=True)
    return done.failed


def _photos_from_stdin() -> Iterator[Photo]:
    """Standard input holds one photo, or paths, one a line."""
    from twincar.core.photo_formats import HEAD, is_photo_data
    from twincar.core.photos import MAX_BYTES, NamedPhoto

    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise UsageError(f"Expected at most {MAX_BYTES >> 20} MiB on standard input, but there is more.")
    if not data.strip():
        raise UsageError("Expected a photo or paths of photos on standard input, and it is empty.")
    if is_photo_data(data[:HEAD]) or b"\0" in data:
        return iter([NamedPhoto("standard input", data)])
    return (name for name in os.fsdecode(data).replace("\r\n", "\n").split("\n") if name.strip())


def print_batch_result(done: BatchResult) -> None:
    """How many photos were answered, and how the answers are read."""
    typer.echo(f"{counted(done.photos, 'photo')}, {done.photos - done.failed:,} of them answered: {done.folder}")
    for reason, count in done.skipped.items():
        typer.echo(f"  skipped: {count} {reason}")
    typer.echo(f"Next:  pandas.read_parquet({done.folder!r})")
