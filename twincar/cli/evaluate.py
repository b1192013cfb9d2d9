"""Commands that evaluate a model: evaluate, report, calibrate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twincar.cli.evaluation import METRIC_NAMES, print_evaluation
from twincar.cli.options import (
    AnyModelArgument,
    ConfidenceOption,
    DataOption,
    DetectOption,
    DetectorOption,
    FalseRejectionOption,
    JsonOption,
    ResultsOption,
    detect_options,
    model_or_bundled,
)
from twincar.cli.output import print_result, print_table, progress
from twincar.core.errors import UsageError
from twincar.core.options import CONFIDENCE, FALSE_REJECTION, DetectOptions, Split, Thresholds
from twincar.core.wording import counted, percent

if TYPE_CHECKING:
    from twincar.evaluation.batch_results import BatchEvaluation
    from twincar.evaluation.calibrate import Calibrated
    from twincar.evaluation.results import OpenSetEvaluation, Robustness

SplitOption = Annotated[
    Split | None, typer.Option(help="Split to evaluate on.  [default: val, or test without validation photos]")
]
CorruptionsOption = Annotated[
    bool,
    typer.Option(
        "--corruptions", help="Instead, measure the accuracy on corrupted photos, such as noisy or blurred ones."
    ),
]
OpenSetOption = Annotated[
    bool,
    typer.Option(
        "--open-set", help="Instead, measure the rejection of unseen cars (prepare --open-set) and of non-cars."
    ),
]


def evaluate(
    model: AnyModelArgument = None,
    split: SplitOption = None,
    tta: Annotated[
        bool, typer.Option("--tta", help="Also evaluate with test-time augmentation: mirrored and wider views.")
    ] = False,
    data: DataOption = None,
    detect: DetectOption = "auto",
    detector: DetectorOption = None,
    out: ResultsOption = None,
    confidence: ConfidenceOption = CONFIDENCE,
    false_rejection: FalseRejectionOption = FALSE_REJECTION,
    corruptions: CorruptionsOption = False,
    open_set: OpenSetOption = False,
    as_json: JsonOption = False,
) -> None:
    """Evaluate a model: all metrics with 95% intervals, tables and figures.

    A training run is evaluated on its own data by default; any other model needs --data. MODEL may also be a folder
    that predict --out has written.
    """
    if corruptions + open_set + tta > 1:
        raise UsageError(
            "Expected at most one of --tta, --corruptions and --open-set, but found several. Run them one by one."
        )
    detection = detect_options(detect, detector)
    if detection != DetectOptions() and (corruptions or open_set):
        raise UsageError(
            "Expected --detect and --detector without --corruptions and --open-set, which take photos as they are."
        )
    from twincar.inference.result_store import is_result_folder

    if model is not None and is_result_folder(Path(model)):
        if corruptions or open_set or tta or out or data is None or detection != DetectOptions():
            raise UsageError(
                f"Expected --data, the prepared data set of the predictions in {model}, and no other option except "
                "--split and --json."
            )
        _evaluate_batch(Path(model), data, split or "val", as_json)
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
                detection=detection,
                tta=tta,
                thresholds=Thresholds(min_confidence=confidence, false_rejection=false_rejection),
                on_photo=on_photo,
            )
        print_result(evaluation, print_evaluation, as_json=as_json)
        if not as_json:
            typer.echo(f"Tables and figures: {evaluation.folder}")


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
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL",
            help="Run folder, a folder of results, or any other model with --data; several are shown side by side.  "
            "[default: the bundled model]",
        ),
    ] = None,
    split: Annotated[
        Split | None, typer.Option(help="Evaluated split.  [default: test if it was evaluated, otherwise val]")
    ] = None,
    data: DataOption = None,
    out: Annotated[Path | None, typer.Option(help="File to write.  [default: report.html beside the results]")] = None,
) -> None:
    """Write a report of one model, or of two or three side by side: one HTML page that opens anywhere.

    The models must have been evaluated before, several on the same photos; tests then say whether they differ by more
    than chance. To compare look-alike cars, see twincar compare.
    """
    from twincar.evaluation.report.page import report

    with progress("Explaining mistakes") as on_photo:
        chosen = models or [model_or_bundled(None)]
        page = report(*chosen, split=split, data_folder=data, out=out, on_photo=on_photo)
    for difference in page.differences:
        for sentence in difference.sentences:
            typer.echo(sentence)
    typer.echo(f"Report on the {page.split} photos: {page.path} ({page.bytes / 1e6:.1f} MB)")


def calibrate(
    out: Annotated[
        Path,
        typer.Option(help="Model to write: .safetensors for torch weights, .onnx for an exported file, else a folder."),
    ],
    model: AnyModelArgument = None,
    data: DataOption = None,
    split: Annotated[
        Split | None,
        typer.Option(
            help="Split that the model was not trained on.  [default: val, or test without validation photos]"
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fit temperature and rejection thresholds on photos the model was not trained on, and write the model with them.

    This is for weights without calibration, such as third-party ones: afterwards their probabilities are calibrated and
    unknown cars are rejected. A run needs it only with other photos: train has calibrated it already.
    """
    from twincar.evaluation.calibrate import calibrate

    with progress("Calibrating") as on_photo:
        found = calibrate(model_or_bundled(model), out=out, data_folder=data, split=split, on_photo=on_photo)
    print_result(found, print_calibrated, as_json=as_json)


def print_calibrated(found: Calibrated) -> None:
    """Print the fitted temperature, and the calibration before and after."""
    before, after = found.calibration.before, found.calibration.after
    typer.echo(
        f"Temperature {found.calibration.temperature:.3f}, fitted on {counted(found.photos, f'{found.split} photo')}; "
        f"on these, ECE changed from {before['ece']:.3f} to {after['ece']:.3f} and negative log-likelihood from "
        f"{before['nll']:.3f} to {after['nll']:.3f}. Evaluate the model on other photos.\nModel: {found.path}"
    )


def print_batch_evaluation(evaluation: BatchEvaluation) -> None:
    """Print the metrics of a batch of predictions."""
    unread = f"; {evaluation.failed} more could not be read" if evaluation.failed else ""
    typer.echo(f"{counted(evaluation.photos, f'{evaluation.split} photo')}, 95% interval in brackets{unread}")
    shown = {name: f"{value:.3f}" for name, value in evaluation.metrics.items()} | {"acc": str(evaluation.accuracy)}
    names = METRIC_NAMES | {"answered": "photos with an answer", "acc_answered": "accuracy where a class is named"}
    print_table(["score", "value"], [(names[name], value) for name, value in shown.items()])
    typer.echo(f"Tables: {evaluation.folder}")


def print_open_set(evaluation: OpenSetEvaluation) -> None:
    """Print how well unseen cars and images without cars are rejected."""
    typer.echo(
        f"{counted(evaluation.photos, f'{evaluation.split} photo')} of known cars: accuracy {evaluation.accuracy:.3f}, "
        f"{percent(evaluation.rejected)} rejected ({evaluation.false_rejection:.0%} requested)"
    )
    others = list(evaluation.groups[0].auroc_by_others)
    header = [
        "unknown",
        "photos",
        "AUROC",
        "FPR at 95% TPR",
        "OSCR",
        "rejected",
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
    typer.echo(
        "AUROC: how often a known car scores higher than the unknown photo; 0.5 is chance, 1 is best.\n"
        "FPR at 95% TPR: share of the unknown photos that pass where 95% of the known cars do; 0 is best.\n"
        "OSCR: share of the known cars that pass and are named right, averaged over all shares of unknown photos that "
        "pass; 1 is best."
    )
    if evaluation.gap:
        typer.echo(evaluation.gap)
    typer.echo(f"Tables and figures: {evaluation.folder}")


def print_robustness(robustness: Robustness) -> None:
    """Print the accuracy under each corruption at each severity, and the means."""
    clean = robustness.clean
    typer.echo(
        f"{counted(robustness.photos, f'{robustness.split} photo')}; accuracy {clean} without corruption, "
        f"{robustness.mean:.3f} averaged over the corruptions ({robustness.relative:.1%} of it)"
    )
    means, scores = robustness.means, robustness.by_corruption()
    severities = [f"severity {severity}" for severity in range(1, 6)] if robustness.generated else ["as given"]
    rows = [[name, *(f"{a.value:.3f}" for a in found), f"{means[name]:.3f}"] for name, found in scores.items()]
    print_table(["corruption", *severities, "mean"], rows)
    typer.echo(f"Table and figure: {robustness.folder / 'corruptions.png'}")
