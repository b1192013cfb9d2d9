"""Commands that compare cars by how they look: index, similar."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twincar.cli.options import (
    CsvOption,
    DetectOption,
    DetectorOption,
    JsonOption,
    ModelArgument,
    detect_options,
    model_or_bundled,
)
from twincar.cli.output import print_csv, print_json, print_result, print_table, progress
from twincar.core.errors import MissingExtraError, UsageError
from twincar.core.extras import how_to_install_alone
from twincar.core.options import Cars
from twincar.core.user_files import text_name
from twincar.core.wording import command, counted

if TYPE_CHECKING:
    from twincar.inference.photo_index import IndexResult
    from twincar.inference.similar import SimilarCars

log = logging.getLogger(__name__)

_COLUMNS = ("photo", "similarity", "car", "car_count", "left", "top", "right", "bottom")


def index(
    photos: Annotated[
        list[str],
        typer.Argument(metavar="PHOTOS", help="Photos, folders, patterns, or addresses of these."),
    ],
    out: Annotated[Path, typer.Option(metavar="INDEX", help="Where to: a new Parquet file.")],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="The model that searches it later.  [default: the bundled model]"),
    ] = None,
    detect: DetectOption = "auto",
    detector: DetectorOption = None,
    cars: Annotated[Cars, typer.Option(help="A row for each car, or only for the main car of a photo.")] = "all",
    as_json: JsonOption = False,
) -> None:
    """Make an index of the cars in photos, for `similar`; the same command goes on where it stopped.

    Photos that cannot be read are listed beside the index, and give the exit code 1.
    """
    try:
        from twincar.inference.photo_index import index
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"Writing Parquet needs {error.name}: {how_to_install_alone('pyarrow')}") from None

    named, detection = model_or_bundled(model), detect_options(detect, detector)
    with progress("Indexing photos") as on_photo:
        made = index(photos, out, model=named, detection=detection, cars=cars, on_photo=on_photo)
    print_result(made, print_index, as_json=as_json)
    if made.failed:
        typer.echo(f"{counted(made.failed, 'photo')} could not be read, see {made.failures}.", err=True)
        raise typer.Exit(1)


def similar(
    model: ModelArgument = None,
    photo: Annotated[str | None, typer.Argument(metavar="PHOTO", help="The photo; its main car is compared.")] = None,
    among: Annotated[
        str | None, typer.Option(metavar="FOLDER|INDEX", help="Where to search: photos, or a file made by `index`.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Number of cars.")] = 12,
    detect: DetectOption = "auto",
    detector: DetectorOption = None,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a page of pictures, one HTML file.")
    ] = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Find the cars that look most like the one in a photo, among the photos of a folder or an index.

    Photos of a folder that cannot be read are named, and give the exit code 1.
    """
    if photo is None:  # no model is named, only a photo
        model, photo = None, model
    if photo is None or among is None:
        missing = "both are" if photo is among else "the photo is" if photo is None else "--among is"
        raise UsageError(f"Expected a photo and --among with a folder of photos or an index, but {missing} missing.")
    detection = detect_options(detect, detector)
    from twincar.inference.similar import similar

    if page is not None:  # before the search, which may take long, in case that a package is missing
        from twincar.core.files import write_text
        from twincar.inference.similar_page import similar_page

    found = similar(photo, among, model=model_or_bundled(model), count=count, detection=detection)
    if page is not None:
        write_text(page, similar_page(found))
    print_similar(found, as_json=as_json, as_csv=as_csv)
    if found.no_car:
        log.info("Left out, because no car was found: %s.", counted(found.no_car, "photo"))
    for failure in found.failures:
        typer.echo(f"twincar: {failure.error}", err=True)
    if found.failures:
        typer.echo(f"{counted(len(found.failures), 'photo')} could not be read.", err=True)
        raise typer.Exit(1)


def print_index(made: IndexResult) -> None:
    """How many cars and photos are in the index, and how it is searched."""
    typer.echo(f"{counted(made.cars, 'row')} from {counted(made.photos - made.failed, 'photo')}: {made.path}")
    if made.no_car:
        typer.echo(f"  no car found in {made.no_car:,} of them, which are taken whole, and left out of searches")
    for reason, number in made.skipped.items():
        typer.echo(f"  skipped: {number} {reason}")
    typer.echo(f"Next:  {command('similar', 'PHOTO', '--among', made.path)}")


def print_similar(found: SimilarCars, *, as_json: bool, as_csv: bool) -> None:
    """A row for each car, the most similar first."""
    if as_json:
        print_json(found.to_dict())
    elif as_csv:
        boxes = [car.box or (None,) * 4 for car in found.cars]
        rows = (
            {**car.to_dict(), **dict(zip(_COLUMNS[-4:], box, strict=True))}
            for car, box in zip(found.cars, boxes, strict=True)
        )
        print_csv(rows, _COLUMNS)
    else:
        print_table(
            ["similarity", "photo", "car"],
            ([f"{car.similarity:.3f}", text_name(car.photo), f"{car.car} of {car.car_count}"] for car in found.cars),
        )
