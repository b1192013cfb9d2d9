"""Commands that tell how good a model is: evaluate, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twincar.cli.options import (
    AnyModelArgument,
    ConfidenceOption,
    DataOption,
    FalseRejectionOption,
    JsonOption,
    ResultsOption,
    Split,
    model_or_bundled,
)
from twincar.cli.output import print_result, print_table, progress
from twincar.core.errors import UsageError
from twincar.core.labels import shorten
from twincar.core.options import CONFIDENCE, FALSE_REJECTION
from twincar.core.wording import counted, percent

if TYPE_CHECKING:
    from twincar.evaluation.batch_results import BatchEvaluation
    from twincar.evaluation.calibrate import Calibrated
    from twincar.evaluation.evaluate import Evaluation
    from twincar.evaluation.open_set import OpenSetEvaluation
    from twincar.evaluation.robustness import Robustness
    from twincar.metrics.classification import Interval

SplitOption = Annotated[
    Split | None, typer.Option(help="Photos to evaluate on.  [default: val, or test where there are no val photos]")
]
CorruptionsOption = Annotated[
    bool,
    typer.Option("--corruptions", help="In place of all that: how accurate is it on noisy, blurred, spoilt photos?"),
]
OpenSetOption = Annotated[
    bool,
    typer.Option(
        "--open-set", help="In place of all that: are unseen cars (see prepare --open-set) and no cars turned away?"
    ),
]


def evaluate(
    model: AnyModelArgument = None,
    split: SplitOption = None,
    tta: Annotated[
        bool, typer.Option("--tta", help="Also with test-time augmentation: mirrored and wider views.")
    ] = False,
    data: DataOption = None,
    out: ResultsOption = None,
    confidence: ConfidenceOption = CONFIDENCE,
    false_rejection: FalseRejectionOption = FALSE_REJECTION,
    corruptions: CorruptionsOption = False,
    open_set: OpenSetOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure a model: every metric with intervals, tables, and pictures.

    The folder of a training run knows its photos; any other model needs --data. MODEL may also be a folder of
    predictions that predict --out wrote.
    """
    if corruptions + open_set + tta > 1:
        raise UsageError("Expected one of --tta, --corruptions and --open-set at a time: each is a run of its own.")
    from twincar.inference.result_store import is_result_folder

    if model is not None and is_result_folder(Path(model)):
        if corruptions or open_set or tta or out or data is None:
            raise UsageError(f"Expected --data, the prepared photos that {model} answers for, and nothing more to do.")
        _evaluate_batch(Path(model), data, split or Split.VAL, as_json)
    elif corruptions:
        _evaluate_corruptions(model_or_bundled(model), split, data, out, as_json)
    elif open_set:
        _evaluate_open_set(model_or_bundled(model), split, data, out, false_rejection, as_json)
    else:
        from twincar.evaluation.evaluate import evaluate

        with progress("Evaluating photos") as on_photo:
            evaluation = evaluate(
                model_or_bundled(model),
                split=split,
                data_folder=data,
                out=out,
                tta=tta,
                confidence=confidence,
                false_rejection=false_rejection,
                on_photo=on_photo,
            )
        print_result(evaluation, print_evaluation, as_json=as_json)
        if not as_json:
            typer.echo(f"Tables and pictures: {evaluation.folder}")


def _evaluate_open_set(
    model: str, split: Split | None, data: Path | None, out: Path | None, false_rejection: float, as_json: bool
) -> None:
    from twincar.evaluation.open_set import evaluate_open_set

    with progress("Scoring photos") as on_photo:
        found = evaluate_open_set(
            model, split=split, data_folder=data, out=out, false_rejection=false_rejection, on_photo=on_photo
        )
    print_result(found, print_open_set, as_json=as_json)


def _evaluate_batch(results: Path, data: Path, split: str, as_json: bool) -> None:
    from twincar.data.dataset import PreparedData
    from twincar.evaluation.batch_results import evaluate_batch

    evaluation = evaluate_batch(results, PreparedData.open(data), split)
    print_result(evaluation, print_batch_evaluation, as_json=as_json)


def _evaluate_corruptions(model: str, split: Split | None, data: Path | None, out: Path | None, as_json: bool) -> None:
    from twincar.evaluation.robustness import measure_robustness

    with progress("Evaluating corrupted photos") as on_photo:
        robustness = measure_robustness(model, split=split, data_folder=data, out=out, on_photo=on_photo)
    print_result(robustness, print_robustness, as_json=as_json)


def report(
    model: AnyModelArgument = None,
    split: Annotated[
        Split | None, typer.Option(help="Evaluated photos to tell of.  [default: test if evaluated, else val]")
    ] = None,
    data: DataOption = None,
    out: Annotated[Path | None, typer.Option(help="The page.  [default: report.html beside the results]")] = None,
) -> None:
    """Write one HTML page that tells all of an evaluated model and opens anywhere: no server, no network."""
    from twincar.evaluation.report.page import report

    with progress("Explaining mistakes") as on_photo:
        page = report(model_or_bundled(model), split=split, data_folder=data, out=out, on_photo=on_photo)
    typer.echo(f"Page of the {page.split} photos: {page.path} ({page.bytes / 1e6:.1f} MB)")


def calibrate(
    model: AnyModelArgument = None,
    out: Annotated[
        Path | None, typer.Option(help="The model to write: .safetensors of torch weights, .onnx of an exported file.")
    ] = None,
    data: DataOption = None,
    split: Annotated[
        Split | None,
        typer.Option(
            help="Photos the model was not trained on.  [default: val, or test where there are no val photos]"
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fit a model's temperature and rejection to photos it was not trained on, and write the model with them.

    For weights that came without, such as published ones: their answers are then calibrated, and unknown cars rejected.
    """
    from twincar.evaluation.calibrate import calibrate

    if out is None:
        raise UsageError("Expected --out FILE, the model to write, but there is none.")
    with progress("Calibrating") as on_photo:
        found = calibrate(model_or_bundled(model), out=out, data_folder=data, split=split, on_photo=on_photo)
    print_result(found, print_calibrated, as_json=as_json)


def print_calibrated(found: Calibrated) -> None:
    """Print what was fitted, and how much better the probabilities are with it."""
    before, after = found.calibration.before, found.calibration.after
    typer.echo(
        f"Temperature {found.calibration.temperature:.3f}, fitted on {counted(found.photos, f'{found.split} photo')}; "
        f"on these, ECE {before['ece']:.3f} became {after['ece']:.3f}, negative log-likelihood {before['nll']:.3f} "
        f"became {after['nll']:.3f}. Evaluate it on other photos.\nModel: {found.path}"
    )


def print_evaluation(evaluation: Evaluation) -> None:
    """All metrics, with intervals where there are any, and the gain of test-time augmentation where asked for."""
    accuracy = evaluation.accuracy
    typer.echo(
        f"{evaluation.photos:,} {evaluation.described}; 95% intervals in brackets "
        f"(so many photos leave ±{(accuracy.high - accuracy.low) / 2:.1%} of accuracy open)"
    )
    if evaluation.left_out:
        reasons = ", ".join(f"{count} {reason}" for reason, count in evaluation.left_out.items())
        typer.echo(f"Photos left out: {sum(evaluation.left_out.values())} ({reasons})")
    if absent := evaluation.absent:
        typer.echo(f"Classes without a photo, which macro averages leave out: {len(absent)} ({shorten(absent)})")
    header = ["metric", "plain"] + (["with TTA", "gain"] if evaluation.tta else [])
    rows = []
    for metric, value in evaluation.metrics.items():
        row = [metric, str(evaluation.intervals.get(metric, f"{value:.3f}"))]
        if evaluation.tta:
            row += [f"{evaluation.tta[metric]:.3f}", f"{evaluation.tta[metric] - value:+.3f}"]
        rows.append(row)
    print_table(header, rows)
    typer.echo(f"Chance: {evaluation.chance}. {evaluation.chance.judge(accuracy)}")
    _print_sureness(evaluation)


def print_batch_evaluation(evaluation: BatchEvaluation) -> None:
    """What the rows of a folder of results allow to be measured."""
    unread = f"; {evaluation.failed} more could not be read" if evaluation.failed else ""
    typer.echo(f"{counted(evaluation.photos, f'{evaluation.split} photo')}, 95% interval in brackets{unread}")
    shown = {name: f"{value:.3f}" for name, value in evaluation.metrics.items()} | {"acc": str(evaluation.accuracy)}
    print_table(["metric", "value"], shown.items())
    typer.echo(f"Tables: {evaluation.folder}")


def _print_sureness(evaluation: Evaluation) -> None:
    """Calibration, levels and rejection."""
    before, after = evaluation.calibration.before, evaluation.calibration.after
    typer.echo(f"\nCalibration, temperature {evaluation.calibration.temperature:.3f}:")
    print_table(
        ["", "ECE", "negative log-likelihood", "Brier"],
        [
            [when, f"{figures['ece']:.3f}", f"{figures['nll']:.3f}", f"{figures['brier']:.3f}"]
            for when, figures in (("before", before), ("after", after))
        ],
    )
    typer.echo(
        f"\nWhat can be said; an answer is the first level that is at least {evaluation.confidence:.0%} probable:"
    )
    rows = []
    for found in evaluation.levels:
        answered, precision = (_with_limits(found.intervals.get(name)) for name in ("answered", "precision"))
        rows.append([found.level, *(str(found.intervals[name]) for name in ("accuracy", "ece")), answered, precision])
    print_table(["level", "accuracy", "ECE", "answers that end here", "right among these"], rows)
    rejection, rest = evaluation.rejection, ""
    if rejection.accuracy_of_rejected is not None:
        rest = f"; turned away: {percent(1 - rejection.accepted)}, accuracy {rejection.accuracy_of_rejected:.3f}"
    typer.echo(
        f"\nTaken for known cars: {percent(rejection.accepted)} of photos, accuracy "
        f"{rejection.accuracy_of_accepted:.3f}{rest}. Area under the risk-coverage curve: "
        f"{evaluation.risk_coverage.area:.4f}"
    )


def _with_limits(share: Interval | None) -> str:
    return "" if share is None else f"{percent(share.value)} ({percent(share.low)} to {percent(share.high)})"


def print_open_set(evaluation: OpenSetEvaluation) -> None:
    """How well known cars are told from unseen ones and from pictures that are none."""
    typer.echo(
        f"{counted(evaluation.photos, f'{evaluation.split} photo')} of known cars: accuracy {evaluation.accuracy:.3f}, "
        f"{percent(evaluation.rejected)} turned away ({evaluation.false_rejection:.0%} asked for)"
    )
    others = list(evaluation.groups[0].auroc_by_others)
    header = [
        "unknown",
        "photos",
        "AUROC",
        "FPR at 95% TPR",
        "OSCR",
        "turned away",
        *(f"AUROC, {s}" for s in others),
    ]
    rows = [
        [
            group.name,
            str(group.photos),
            *(f"{value:.3f}" for value in (group.auroc, group.fpr95, group.oscr)),
            percent(group.rejected),
            *(f"{group.auroc_by_others[score]:.3f}" for score in others),
        ]
        for group in evaluation.groups
    ]
    print_table(header, rows)
    typer.echo(f"Tables and pictures: {evaluation.folder}")


def print_robustness(robustness: Robustness) -> None:
    """Accuracy under each corruption at each severity, and the means."""
    clean = robustness.clean
    typer.echo(
        f"{counted(robustness.photos, f'{robustness.split} photo')}; accuracy on clean ones {clean}, on corrupted ones "
        f"{robustness.mean:.3f} in the mean, which is {robustness.relative:.1%} of it"
    )
    means, scores = robustness.means, robustness.by_corruption()
    severities = [f"severity {place}" for place in range(1, 6)] if robustness.generated else ["as given"]
    rows = [[name, *(f"{a.value:.3f}" for a in found), f"{means[name]:.3f}"] for name, found in scores.items()]
    print_table(["corruption", *severities, "mean"], rows)
    typer.echo(f"Table and picture: {robustness.folder / 'corruptions.png'}")
