"""What `evaluate` prints of a model: how good it is, which classes are the worst, then all scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from twincar.cli.output import print_table
from twincar.core.labels import shorten
from twincar.core.wording import counted, list_counts

if TYPE_CHECKING:
    from twincar.evaluation.results import Evaluation

_WORST = 5  # classes
METRIC_NAMES = {
    "acc": "accuracy",
    "top3": "top-3 accuracy",
    "top5": "top-5 accuracy",
    "f1_macro": "F1, macro average",
    "precision_macro": "precision, macro average",
    "recall_macro": "recall, macro average",
    "f1_weighted": "F1, weighted average",
    "precision_weighted": "precision, weighted average",
    "recall_weighted": "recall, weighted average",
    "jaccard_macro": "Jaccard index, macro average",
    "cohen_kappa": "Cohen's kappa",
    "mcc": "Matthews correlation",
    "hamming": "Hamming loss, lower is better",
    "ece": "expected calibration error (ECE), lower is better",
    "brier": "Brier score, 0 to 2, lower is better",
    "loss": "negative log-likelihood, nats, lower is better",
}
"""The metrics in words, in the order in which they are printed."""


def print_evaluation(evaluation: Evaluation) -> None:
    """Print how good the model is, its worst classes, then all metrics, with intervals if they have any.

    All of them are numbers from 0 to 1 unless their name says otherwise.
    """
    photos = f"{evaluation.photos:,} {evaluation.described}"
    typer.echo(f"Accuracy {evaluation.accuracy}, macro-F1 {evaluation.macro_f1}, on {photos}")
    typer.echo(f"{evaluation.chance.describe(evaluation.accuracy)} Chance: {evaluation.chance}.")
    _print_answers(evaluation)
    _print_unmeasured(evaluation)
    _print_worst_classes(evaluation)
    _print_metrics(evaluation)
    _print_levels(evaluation)
    _print_calibration(evaluation)


def _print_answers(evaluation: Evaluation) -> None:
    """How many photos get an answer, and how many are rejected."""
    answers = sum(found.answered or 0 for found in evaluation.levels)
    rejection = evaluation.rejection
    others = f"accuracy of the others {rejection.accuracy_of_accepted:.3f}" if rejection.accepted else "no others"
    if rejection.accuracy_of_rejected is not None:
        others += f", of the rejected {rejection.accuracy_of_rejected:.3f}"
    rejected = f"rejected as unknown cars: {1 - rejection.accepted:.3f} ({others})"
    typer.echo(f"Share of photos with an answer: {answers:.3f}, {rejected}.")


def _print_unmeasured(evaluation: Evaluation) -> None:
    """Which photos and classes are not what they seem, or not in the figures."""
    if evaluation.no_car is not None:
        typer.echo(
            f"Cut to the main car; no car found in {counted(evaluation.no_car, 'photo')}, taken whole and rejected"
        )
    if evaluation.left_out:
        typer.echo(f"Photos left out: {sum(evaluation.left_out.values())} ({list_counts(evaluation.left_out)})")
    if absent := evaluation.absent:
        typer.echo(f"Classes without photos, which macro averages leave out: {len(absent)} ({shorten(absent)})")


def _print_worst_classes(evaluation: Evaluation) -> None:
    """The classes of which the smallest shares of photos are named right; the table of all is in the folder."""
    from twincar.evaluation.report.artifacts import read_classes

    wrong = [row for row in read_classes(evaluation.folder) if row.recall < 1]
    if not wrong:
        typer.echo("Every class that has photos is always named right.")
        return
    worst = sorted(wrong, key=lambda row: (row.recall, -row.photos, row.name))[:_WORST]
    typer.echo(f"\nClasses with mistakes: {len(wrong)}; the worst (all: classification_report.csv):")
    rows = [[row.name, str(row.photos), f"{row.recall:.3f}", row.most_confused_with] for row in worst]
    print_table(["class", "photos", "accuracy", "most often named"], rows)


def _print_metrics(evaluation: Evaluation) -> None:
    """All metrics, and the gain of test-time augmentation if requested."""
    typer.echo("\nAll scores, with 95% intervals in brackets:")
    header = ["score", "without TTA", "with TTA", "gain"] if evaluation.tta else ["score", "value"]
    rows = []
    for metric, name in METRIC_NAMES.items():
        value = evaluation.metrics[metric]
        row = [name, str(evaluation.intervals.get(metric, f"{value:.3f}"))]
        if evaluation.tta:
            row += [f"{evaluation.tta[metric]:.3f}", f"{evaluation.tta[metric] - value:+.3f}"]
        rows.append(row)
    print_table(header, rows)
    typer.echo(
        "The noise of few photos counts as calibration error; the interval of the ECE is that of the error without it, "
        "and may lie below."
    )


def _print_levels(evaluation: Evaluation) -> None:
    typer.echo(f"\nLevels; an answer is given at the first whose probability is at least {evaluation.confidence:g}:")
    header = ["level", "photos", "accuracy", "ECE", "answers at this level", "of these, right"]
    rows = [
        [
            found.level,
            str(found.photos),
            *(str(found.intervals.get(name, "–")) for name in ("accuracy", "ece", "answered", "precision")),
        ]
        for found in evaluation.levels
    ]
    print_table(header, rows)
    typer.echo("The accuracy of a level is that on the photos whose class name contains it.")


def _print_calibration(evaluation: Evaluation) -> None:
    calibration = evaluation.calibration
    typer.echo(f"\nCalibration, temperature {calibration.temperature:.3f}:")
    print_table(
        ["", "ECE", "negative log-likelihood", "Brier"],
        [
            [when, f"{figures['ece']:.3f}", f"{figures['nll']:.3f}", f"{figures['brier']:.3f}"]
            for when, figures in (("before", calibration.before), ("after", calibration.after))
        ],
    )
    if calibration.after["ece"] > calibration.before["ece"]:
        typer.echo("On these photos the ECE is worse after calibration, which was fitted on the validation photos.")
    typer.echo(f"Area under the risk-coverage curve, lower is better: {evaluation.risk_coverage.area:.4f}")
