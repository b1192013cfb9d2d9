"""Commands that show what a model looks at: explain, compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twincar.cli.options import (
    AnyModelArgument,
    DataOption,
    JsonOption,
    ResultsOption,
    Split,
    model_or_bundled,
)
from twincar.cli.output import print_result, print_table, progress
from twincar.core.errors import UsageError
from twincar.core.wording import counted

if TYPE_CHECKING:
    from twincar.explanation.compare import Comparison
    from twincar.explanation.scoring import ExplanationScores


def explain(
    model: AnyModelArgument = None,
    images: Annotated[
        list[str] | None, typer.Argument(metavar="IMAGES", help="Photos, folders or patterns; else of --split.")
    ] = None,
    split: Annotated[
        Split | None, typer.Option(help="Photos to choose from.  [default: val, or test where there are no val photos]")
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="How many of the split.  [default: 12; with --score 100]")
    ] = None,
    score: Annotated[bool, typer.Option("--score", help="Measure whether the maps are true; no pictures.")] = False,
    data: DataOption = None,
    out: ResultsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --score: print JSON, for machines.")] = False,
) -> None:
    """Show what a model looks at, Grad-CAM++ over photos one by one and in a grid, or --score whether that is true.

    The folder of a training run knows its photos; any other model needs --data, or photos of your own.
    """
    from twincar.core.listing import find_photos
    from twincar.explanation.explain import explain
    from twincar.explanation.scoring import score_explanations

    if model is not None and _is_photo(model):  # no model is named, only photos
        images = [model, *(images or [])]
        model = None
    model = model_or_bundled(model)
    if score:
        if images:
            raise UsageError("Expected --score without photos: it takes those of --split, as many as --count.")
        with progress("Testing the maps") as on_photo:
            scored = score_explanations(
                model, split=split, count=count or 100, data_folder=data, out=out, on_photo=on_photo
            )
        print_result(scored, print_explanation_scores, as_json=as_json)
        return
    if as_json:
        raise UsageError("Expected --json with --score only: without it, explain makes pictures.")
    with progress("Explaining photos") as on_photo:
        chosen = list(find_photos(images or []))
        result = explain(
            model, images=chosen, split=split, count=count or 12, data_folder=data, out=out, on_photo=on_photo
        )
    typer.echo(f"{counted(len(result.photos), 'photo')} explained in {result.grid.parent}\nGrid: {result.grid}")


def _is_photo(argument: str) -> bool:
    """Whether an argument that could be a model is a photo: another file than those that models are kept in."""
    from twincar.core.hub import MODEL_SUFFIXES

    return Path(argument).is_file() and Path(argument).suffix.casefold() not in MODEL_SUFFIXES


def compare(
    model: AnyModelArgument = None,
    classes: Annotated[
        list[str] | None, typer.Argument(metavar="FIRST SECOND", help="Two classes; else the pairs most confused.")
    ] = None,
    photo: Annotated[
        Path | None, typer.Option(help="Also this photo: between the two, or else its two likeliest classes.")
    ] = None,
    split: Annotated[
        Split | None, typer.Option(help="Photos to compare on.  [default: val, or test where there are no val photos]")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Pairs, where none is named.")] = 6,
    data: DataOption = None,
    out: ResultsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show why a model answers one car and not its twin: a page with photos, maps and numbers for each pair.

    To name two classes, name the model too.
    """
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
    """Every score of every map, with its interval and which way is better."""
    typer.echo(f"{counted(scored.photos, f'{scored.split} photo')}; 95% intervals in brackets")
    rows = [
        [item.score, item.map, f"{item.value:.3f} ({item.low:.3f} to {item.high:.3f})", item.better]
        for item in scored.scores
    ]
    print_table(["score", "map", "mean", "better"], rows)
    typer.echo(f"Table and picture: {scored.folder}/explanation_scores.json, .csv, .png")


def print_comparison(comparison: Comparison) -> None:
    """How often the two classes of each pair are taken for each other, and where the page is."""
    rows = [
        [
            *(pair.first, pair.second),
            f"{pair.first_as_second} of {pair.photos_first}",
            f"{pair.second_as_first} of {pair.photos_second}",
        ]
        for pair in comparison.pairs
    ]
    print_table(["first", "second", "first taken for second", "second taken for first"], rows)
    if not rows:
        typer.echo(f"No class was taken for another among {comparison.split} photos.")
    typer.echo(f"Page: {comparison.page}")
