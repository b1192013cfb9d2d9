"""Commands that explain predictions: explain, compare."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twincar.cli.options import (
    AnyModelArgument,
    DataOption,
    DetectOption,
    DetectorOption,
    JsonOption,
    ResultsOption,
    detect_options,
    model_or_bundled,
)
from twincar.cli.output import print_result, print_table, progress
from twincar.core.errors import MissingExtraError, UsageError
from twincar.core.options import DetectOptions, Split
from twincar.core.wording import command, counted

if TYPE_CHECKING:
    from twincar.evaluation.results import ExplanationScores
    from twincar.explanation.compare import Comparison


def explain(
    model: AnyModelArgument = None,
    images: Annotated[
        list[str] | None,
        typer.Argument(metavar="IMAGES", help="Photos, folders or patterns; default: photos of --split."),
    ] = None,
    split: Annotated[
        Split | None,
        typer.Option(help="Split to choose photos from.  [default: val, or test without validation photos]"),
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="Number of photos of the split.  [default: 12; with --score 100]")
    ] = None,
    score: Annotated[bool, typer.Option("--score", help="Measure the faithfulness of the maps instead.")] = False,
    data: DataOption = None,
    detect: DetectOption = "auto",
    detector: DetectorOption = None,
    out: ResultsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --score: print JSON, for machines.")] = False,
) -> None:
    """Explain predictions by Grad-CAM++ heat maps over photos, or measure with --score how faithful the maps are.

    Writes an image for each photo and a grid of all. The photos of a training run are those of its own data by default;
    any other model needs --data or IMAGES.
    """
    with _without_extra():
        from twincar.core.listing import find_photos
        from twincar.explanation.explain import explain
        from twincar.explanation.scoring import score_explanations

    if model is not None and _is_photo(model):  # no model is named, only photos
        images, model = [model, *(images or [])], None
    model = model_or_bundled(model)
    detection = detect_options(detect, detector)
    if score:
        _check_scoring(images, detection)
        with progress("Scoring heat maps") as on_photo:
            scored = score_explanations(
                model, split=split, count=count or 100, data_folder=data, out=out, on_photo=on_photo
            )
        print_result(scored, print_explanation_scores, as_json=as_json)
        return
    if as_json:
        raise UsageError("Expected --json only with --score, but found it alone. Add --score, or leave it out.")
    with progress("Explaining photos") as on_photo:
        chosen = list(find_photos(images or []))
        result = explain(
            model,
            images=chosen,
            split=split,
            count=count or 12,
            data_folder=data,
            out=out,
            detection=detection,
            on_photo=on_photo,
        )
    typer.echo(f"{counted(len(result.photos), 'photo')} explained in {result.grid.parent}")
    if result.choice:
        typer.echo(result.choice)
    typer.echo(f"Grid: {result.grid}")


@contextmanager
def _without_extra() -> Iterator[None]:
    """Say how a photo is explained without the packages of the command.

    Raises:
        MissingExtraError: one of them is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"This needs {error.name}, which is not installed: pip install 'twincar[train]'. Python needs no more than "
            "is installed: twincar.load().explain('car.jpg').overlay('car.jpg').save('explained.jpg')"
        ) from None


def _check_scoring(images: list[str] | None, detection: DetectOptions) -> None:
    if detection != DetectOptions():
        raise UsageError("Expected --score without --detect and --detector: it takes photos as they are.")
    if images:
        raise UsageError(
            "Expected no photos with --score, which uses those of --split, but found some. Leave them out."
        )


def _is_photo(argument: str) -> bool:
    """Whether an argument in the position of the model is a photo: a file with another suffix than those of models."""
    from twincar.core.hub import MODEL_SUFFIXES

    return Path(argument).is_file() and Path(argument).suffix.casefold() not in MODEL_SUFFIXES


def compare(
    model: AnyModelArgument = None,
    classes: Annotated[
        list[str] | None,
        typer.Argument(metavar="FIRST SECOND", help="Two classes; default: the pairs most often confused."),
    ] = None,
    photo: Annotated[
        Path | None, typer.Option(help="Photo to add; without two classes, its two most likely ones are compared.")
    ] = None,
    split: Annotated[
        Split | None, typer.Option(help="Split to compare on.  [default: val, or test without validation photos]")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Number of pairs, if no classes are named.")] = 6,
    data: DataOption = None,
    out: ResultsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare look-alike cars: a page with photos, contrast maps and numbers for each pair of classes.

    If two classes are named, the model must be named too. To compare models, see twincar report.
    """
    models = [model, *(classes or ())]
    if len(models) > 1 and all(name and Path(name).exists() for name in models):
        raise UsageError(
            f"Expected one model, and the names of two classes to compare, but found {len(models)} files or folders. "
            f"To compare models: {command('report', *models)}"
        )
    from twincar.explanation.compare import compare

    with progress("Comparing classes") as on_photo:
        comparison = compare(
            model_or_bundled(model),
            classes or (),
            photo=photo,
            split=split,
            count=count,
            data_folder=data,
            out=out,
            on_photo=on_photo,
        )
    print_result(comparison, print_comparison, as_json=as_json)


def print_explanation_scores(scored: ExplanationScores) -> None:
    """Print every score of every map, with its interval and whether higher or lower is better."""
    typer.echo(f"{counted(scored.photos, f'{scored.split} photo')}; 95% intervals in brackets")
    rows = [
        [item.score, item.map, f"{item.value:.3f} ({item.low:.3f} to {item.high:.3f})", item.better]
        for item in scored.scores
    ]
    print_table(["score", "map", "mean", "better"], rows)
    typer.echo(f"Table and figure: {scored.folder}/explanation_scores.json, .csv, .png")


def print_comparison(comparison: Comparison) -> None:
    """Print how often the two classes of each pair are confused, and the path of the page."""
    rows = [
        [
            *(pair.first, pair.second),
            f"{pair.first_as_second} of {pair.photos_first}",
            f"{pair.second_as_first} of {pair.photos_second}",
        ]
        for pair in comparison.pairs
    ]
    print_table(["first", "second", "first predicted as second", "second predicted as first"], rows)
    if not rows:
        typer.echo(f"No class was confused with another on the {comparison.split} photos.")
    typer.echo(f"Page: {comparison.page}")
