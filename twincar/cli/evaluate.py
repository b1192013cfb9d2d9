"""Verbs that tell how good a run is, and why it answers as it does: evaluate, explain, compare, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twincar.cli.options import (
    ConfidenceOption,
    DataOption,
    FalseRejectionOption,
    JsonOption,
    RunArgument,
    Split,
)
from twincar.cli.output import (
    print_answers_evaluation,
    print_comparison,
    print_evaluation,
    print_explanation_scores,
    print_json,
    print_open_set,
    print_robustness,
    progress,
)
from twincar.core.errors import UsageError
from twincar.core.options import CONFIDENCE, FALSE_REJECTION
from twincar.core.wording import counted


def evaluate(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="Folder of a training run; or, with --data, of answers that predict --out wrote."
        ),
    ],
    split: Annotated[Split, typer.Option(help="Photos to evaluate on.")] = Split.VAL,
    tta: Annotated[
        bool, typer.Option("--tta", help="Also with test-time augmentation: mirrored and wider views.")
    ] = False,
    data: DataOption = None,
    confidence: ConfidenceOption = CONFIDENCE,
    false_rejection: FalseRejectionOption = FALSE_REJECTION,
    corruptions: Annotated[
        bool,
        typer.Option(
            "--corruptions", help="In place of all that: how accurate is it on noisy, blurred, spoilt photos?"
        ),
    ] = False,
    open_set: Annotated[
        bool,
        typer.Option(
            "--open-set", help="In place of all that: are unseen cars (see prepare --open-set) and no cars turned away?"
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure a run: every metric with intervals, tables, and pictures in RUN/reports."""
    if corruptions + open_set + tta > 1:
        raise UsageError("Expected one of --tta, --corruptions and --open-set at a time: each is a run of its own.")
    from twincar.inference.result_store import is_result_folder

    if is_result_folder(run):
        if corruptions or open_set or tta or data is None:
            raise UsageError(f"Expected --data, the prepared photos that {run} answers for, and nothing more to do.")
        _evaluate_answers(run, data, split, as_json)
        return
    if corruptions:
        _evaluate_corruptions(run, split, data, as_json)
        return
    if open_set:
        _evaluate_open_set(run, split, data, false_rejection, as_json)
        return
    from twincar.evaluation.evaluate import evaluate

    with progress(f"Evaluating {split} photos") as on_photo:
        evaluation = evaluate(
            run,
            split=split,
            data_folder=data,
            tta=tta,
            confidence=confidence,
            false_rejection=false_rejection,
            on_photo=on_photo,
        )
    if as_json:
        print_json(evaluation.to_dict())
    else:
        print_evaluation(evaluation)
        typer.echo(f"Tables and pictures: {evaluation.folder}")


def _evaluate_open_set(run: Path, split: Split, data: Path | None, false_rejection: float, as_json: bool) -> None:
    from twincar.evaluation.open_set import evaluate_open_set

    with progress(f"Scoring {split} photos") as on_photo:
        found = evaluate_open_set(
            run, split=split, data_folder=data, false_rejection=false_rejection, on_photo=on_photo
        )
    if as_json:
        print_json(found.to_dict())
    else:
        print_open_set(found)


def _evaluate_answers(results: Path, data: Path, split: str, as_json: bool) -> None:
    from twincar.data.dataset import PreparedData
    from twincar.evaluation.batch_results import evaluate_answers

    evaluation = evaluate_answers(results, PreparedData.open(data), split)
    if as_json:
        print_json(evaluation.to_dict())
    else:
        print_answers_evaluation(evaluation)


def _evaluate_corruptions(run: Path, split: Split, data: Path | None, as_json: bool) -> None:
    from twincar.evaluation.robustness import measure_robustness

    with progress(f"Evaluating corrupted {split} photos") as on_photo:
        robustness = measure_robustness(run, split=split, data_folder=data, on_photo=on_photo)
    if as_json:
        print_json(robustness.to_dict())
    else:
        print_robustness(robustness)
        typer.echo(f"Table and picture: {robustness.folder / 'corruptions.png'}")


def explain(
    run: RunArgument,
    images: Annotated[
        list[str] | None, typer.Argument(metavar="[IMAGES]...", help="Photos, folders or patterns; else of --split.")
    ] = None,
    split: Annotated[Split, typer.Option(help="Photos to choose from.")] = Split.VAL,
    count: Annotated[
        int | None, typer.Option(min=1, help="How many of the split.  [default: 12; with --score 100]")
    ] = None,
    score: Annotated[bool, typer.Option("--score", help="Measure whether the maps are true; no pictures.")] = False,
    data: DataOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --score: print JSON, for machines.")] = False,
) -> None:
    """Show what a run looks at, Grad-CAM++ over photos one by one and in a grid, or --score whether that is true."""
    from twincar.core.listing import find_photos
    from twincar.explanation.explain import explain, score_explanations

    if score:
        if images:
            raise UsageError("Expected --score without photos: it takes those of --split, as many as --count.")
        with progress(f"Testing the maps of {split} photos") as on_photo:
            scored = score_explanations(run, split=split, count=count or 100, data_folder=data, on_photo=on_photo)
        if as_json:
            print_json(scored.to_dict())
        else:
            print_explanation_scores(scored)
        return
    if as_json:
        raise UsageError("Expected --json with --score only: without it, explain makes pictures.")
    with progress("Explaining photos") as on_photo:
        chosen = list(find_photos(images or []))
        result = explain(run, images=chosen, split=split, count=count or 12, data_folder=data, on_photo=on_photo)
    typer.echo(f"{counted(len(result.photos), 'photo')} explained in {result.grid.parent}\nGrid: {result.grid}")


def compare(
    run: RunArgument,
    classes: Annotated[
        list[str] | None, typer.Argument(metavar="[FIRST SECOND]", help="Two classes; else the pairs most confused.")
    ] = None,
    photo: Annotated[
        Path | None, typer.Option(help="Also this photo: between the two, or else its two likeliest classes.")
    ] = None,
    split: Annotated[Split, typer.Option(help="Photos to compare on.")] = Split.VAL,
    count: Annotated[int, typer.Option(min=1, help="Pairs, where none is named.")] = 6,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show why a run answers one car and not its twin: a page with photos, maps and numbers for each pair."""
    from twincar.explanation.compare import compare

    with progress("Comparing classes") as on_photo:
        comparison = compare(
            run, classes or (), photo=photo, split=split, count=count, data_folder=data, on_photo=on_photo
        )
    if as_json:
        print_json(comparison.to_dict())
    else:
        print_comparison(comparison)


def report(
    run: RunArgument,
    split: Annotated[
        Split | None, typer.Option(help="Evaluated photos to tell of.  [default: test if evaluated, else val]")
    ] = None,
    data: DataOption = None,
    out: Annotated[Path | None, typer.Option(help="The page.  [default: RUN/reports/report.html]")] = None,
) -> None:
    """Write one HTML page that tells all of a run and opens anywhere: no server, no network."""
    from twincar.evaluation.report.page import report

    with progress("Explaining mistakes") as on_photo:
        page = report(run, split=split, data_folder=data, out=out, on_photo=on_photo)
    typer.echo(f"Page of the {page.split} photos: {page.path} ({page.bytes / 1e6:.1f} MB)")
