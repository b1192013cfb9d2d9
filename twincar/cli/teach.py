"""The command that teaches a model further cars: teach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twincar.cli.options import DetectOption, DetectorOption, JsonOption, detect_options, model_or_bundled
from twincar.cli.output import print_json, print_result, print_table, progress
from twincar.core.errors import UsageError
from twincar.core.options import DetectOptions
from twincar.core.wording import command, counted, percent

if TYPE_CHECKING:
    from twincar.core.photos import Photo
    from twincar.inference.classifier import Classifier
    from twincar.inference.teach import Taught

ItemsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[MODEL] PHOTOS",
        help="An exported .onnx model or owner/name on the hub, by default the bundled model; and photos, folders or "
        "patterns, or without --name class folders or a CSV (filename,label).",
    ),
]


def teach(
    items: ItemsArgument = None,
    name: Annotated[str | None, typer.Option(help="The car in the photos, such as 'Seat Arona SUV 2018'.")] = None,
    out: Annotated[Path | None, typer.Option(help="Model file to write, .onnx.")] = None,
    add: Annotated[bool, typer.Option("--add", help="Add the photos to cars that were taught before.")] = False,
    list_taught: Annotated[bool, typer.Option("--list", help="List the cars that a model was taught.")] = False,
    forget: Annotated[
        str | None, typer.Option(metavar="NAME", help="Write the model without a car that it was taught.")
    ] = None,
    statistics_from: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA",
            help="Write an exported model that cannot be taught with the statistics that this needs, of the data it "
            "was trained on.",
        ),
    ] = None,
    detect: DetectOption = "auto",
    detector: DetectorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Teach an exported model cars that it does not know, by a few photos of each: in seconds, without training.

    The new model file names the cars that it knew and the new ones. Three to ten photos from several sides are best.
    """
    model, photos = _split(items or [])
    if sum((list_taught, forget is not None, statistics_from is not None)) > 1 or (
        (list_taught or forget is not None or statistics_from is not None) and (photos or name or add)
    ):
        raise UsageError("Expected photos, or one of --list, --forget and --statistics-from, but found several.")
    detection = detect_options(detect, detector)
    if list_taught:
        _list(_load(model, DetectOptions(detect="never")), as_json)
        return
    if out is None:
        raise UsageError("Expected --out FILE, the model to write, but it is missing.")
    if statistics_from is not None:
        _add_statistics(model, statistics_from, out)
    elif forget is not None:
        from twincar.inference import teach as teaching

        spec = teaching.forget(_load(model, DetectOptions(detect="never")), forget, out=out)
        typer.echo(f"Model without {forget}: {out} ({counted(len(spec.classes), 'class', 'classes')})")
    else:
        from twincar.inference import teach as teaching

        cars = _cars(photos, name)
        classifier = _load(model, detection)
        with progress("Looking at photos") as on_photo:
            taught = teaching.teach(classifier, cars, out=out, add=add, on_photo=on_photo)
        print_result(taught, print_taught, as_json=as_json)


def _split(items: Sequence[str]) -> tuple[str | None, list[str]]:
    """The model, if the first item is one, and the photos."""
    from twincar.core.hub import find_repository
    from twincar.models.engines.base import OPENVINO_MODEL

    if not items:
        return None, []
    first = Path(items[0])
    is_model = (
        first.suffix in (".onnx", ".safetensors", ".pth")
        or (first / OPENVINO_MODEL).is_file()
        or (first / "config.yaml").is_file()
        or (not first.exists() and find_repository(items[0]) is not None)
    )
    return (items[0], list(items[1:])) if is_model else (None, list(items))


def _cars(photos: Sequence[str], name: str | None) -> Mapping[str, Sequence[Photo]]:
    """Photos by the name of the car."""
    if not photos:
        raise UsageError("Expected photos of a car to teach, but there are none.")
    from twincar.core.listing import find_photos, refuse_models

    refuse_models(photos)
    if name is not None:
        return {name: list(find_photos(photos))}
    if len(photos) > 1 or not (Path(photos[0]).is_dir() or Path(photos[0]).suffix.casefold() in (".csv", ".tsv")):
        raise UsageError(
            "Expected --name with photos of one car, or without it one folder of class folders or one CSV file, but "
            f"found {counted(len(photos), 'argument')} and no --name."
        )
    from twincar.inference.new_photos import cars_of_source

    return cars_of_source(photos[0])


def _load(model: str | None, detection: DetectOptions) -> Classifier:
    from twincar.inference.classifier import Classifier

    return Classifier.load(model_or_bundled(model), detection=detection)


def _list(classifier: Classifier, as_json: bool) -> None:
    taught = classifier.spec.taught
    if as_json:
        rows = [asdict(car) for car in taught]
        print_json({"classes": len(classifier.spec.classes), "taught": rows})
        return
    print_table(["car", "photos", "taught"], ([car.name, str(car.photos), car.date] for car in taught))
    typer.echo(f"{counted(len(taught), 'car')} of {counted(len(classifier.spec.classes), 'class', 'classes')} taught")


def _add_statistics(model: str | None, data: Path, out: Path) -> None:
    from twincar.evaluation.feature_statistics import add_statistics
    from twincar.inference.teach import check_out

    check_out(out)
    with progress("Looking at training photos") as on_photo:
        statistics = add_statistics(model_or_bundled(model), data_folder=data, out=out, on_photo=on_photo)
    typer.echo(
        f"Statistics of {counted(len(statistics.known), 'class', 'classes')} from "
        f"{counted(int(statistics.counts.sum()), 'photo')}.\nModel: {out} ({out.stat().st_size / 1e6:.1f} MB)"
    )


def print_taught(taught: Taught) -> None:
    """A row for each car: its photos, how alike they are, and how many of them are named by the others."""
    rows = [
        [
            car.name,
            str(car.photos),
            str(car.repeated),
            "" if car.similarity is None else f"{car.similarity:.2f}",
            "" if car.named is None else percent(car.named),
        ]
        for car in taught.cars
    ]
    print_table(["car", "photos", "left out as repeated", "similarity", "named by the other photos"], rows)
    typer.echo(
        f"The similarity of photos of one car that the model was trained on is {taught.known_similarity:.2f}.\n"
        f"Model: {taught.path} ({counted(taught.classes, 'class', 'classes')})\n"
        f"Next:  {command('predict', '--model', taught.path, 'PHOTO...')}"
    )
