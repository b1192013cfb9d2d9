"""How results look: tables on a terminal, tab-separated lines elsewhere, JSON and CSV for machines, progress bars."""

from __future__ import annotations

import csv
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from twincar.deep_audit import DeepAudit
    from twincar.evaluate import Evaluation
    from twincar.export import Exported
    from twincar.predict import Failure, Prediction
    from twincar.train import TrainResult


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on standard error, where that is a terminal; gives the function to call with (done, total)."""
    if not sys.stderr.isatty() or not logging.getLogger("twincar").isEnabledFor(logging.INFO):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def print_summary(manifest: Mapping[str, Any], folder: Path, classes: int) -> None:
    """What a data set came to: photos by split, rows left out by reason, what to do next."""
    counts = ", ".join(f"{count} {split}" for split, count in manifest["photos"].items())
    typer.echo(f"{folder}: {classes} classes; photos: {counts}")
    for defect, count in manifest["left_out"].items():
        typer.echo(f"  left out: {count} {defect}")
    if manifest["left_out"]:
        typer.echo(f"  which and why: {folder / 'left_out.csv'}")
    typer.echo(f"Next: twincar train {folder}")


def print_training(result: TrainResult) -> None:
    """The best epoch, whose weights were kept."""
    best = result.best
    typer.echo(
        f"Best epoch {best['epoch']:.0f} of {len(result.history)}: validation macro-F1 {best['val_f1_macro']:.3f}, "
        f"accuracy {best['val_acc']:.3f}, top-5 {best['val_top5']:.3f}"
    )


def print_evaluation(evaluation: Evaluation) -> None:
    """All metrics, with intervals where there are any, and the gain of test-time augmentation where asked for."""
    accuracy = evaluation.accuracy
    typer.echo(
        f"{evaluation.photos} {evaluation.split} photos; 95% intervals in brackets "
        f"(so few photos leave ±{(accuracy.high - accuracy.low) / 2:.1%} of accuracy open)"
    )
    intervals = {"acc": accuracy, "f1_macro": evaluation.macro_f1}
    header = ["metric", "plain"] + (["with TTA", "gain"] if evaluation.tta else [])
    rows = []
    for metric, value in evaluation.metrics.items():
        row = [metric, str(intervals.get(metric, f"{value:.3f}"))]
        if evaluation.tta:
            row += [f"{evaluation.tta[metric]:.3f}", f"{evaluation.tta[metric] - value:+.3f}"]
        rows.append(row)
    print_table(header, rows)


def print_deep_audit(audit: DeepAudit) -> None:
    """What was found, by reason; what to do next."""
    summary = audit.to_dict()
    typer.echo(f"{summary['photos']} sound photos in {summary['source']}")
    for defect, count in summary["unsound"].items():
        typer.echo(f"  unusable: {count} {defect}")
    for issue in audit.class_issues:
        typer.echo(f"  {issue.reason}: {issue.detail}")
    for sentence in summary["judged"]:
        typer.echo(f"  labels: {sentence}")
    print_table(["finding", "photos"], ([reason, str(count)] for reason, count in summary["findings"].items()))
    typer.echo(f"Page: {audit.page}\nList: {audit.findings}, {summary['to_exclude']} photos to exclude")
    if summary["to_exclude"]:
        typer.echo(f"Next: {audit.command}")


def print_export(exported: Exported) -> None:
    """Where the model is, and how it compares with the network it came from."""
    comparison = exported.comparison
    typer.echo(
        f"Compared on {comparison.photos} validation photos: {comparison.equal_answers:.1%} equal answers, largest "
        f"difference of a probability {comparison.largest_difference:.2g}, accuracy {comparison.accuracy_before:.3f} "
        f"before and {comparison.accuracy_after:.3f} after"
    )
    if exported.kept_in_fp32:
        typer.echo(f"{exported.kept_in_fp32} sensitive layers stayed in fp32, because int8 everywhere lost too much.")
    typer.echo(f"Model: {exported.path} ({exported.bytes / 1e6:.1f} MB)")
    typer.echo(f"Next:  twincar predict --model {exported.path} PHOTO...")


def print_answers(answers: Iterable[Prediction | Failure]) -> None:
    """A table on a terminal, tab-separated lines elsewhere: a row a candidate, the photo named at its first."""
    from twincar.predict import Failure

    def rows() -> Iterator[list[str]]:
        for answer in answers:
            if isinstance(answer, Failure):
                yield [answer.photo, "", f"error: {answer.error}", "", "", "", ""]
                continue
            for place, candidate in enumerate(answer.topk):
                car = candidate.car
                where = answer.photo if place == 0 or not sys.stdout.isatty() else ""
                year = str(car.year or "")
                yield [where, f"{candidate.probability:.1%}", candidate.name, car.make, car.model, car.body, year]

    print_table(["photo", "sure", "class", "make", "model", "body", "year"], rows())


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on a terminal, tab-separated lines without a header elsewhere."""
    if not sys.stdout.isatty():
        for row in rows:
            typer.echo("\t".join(row))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*header, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def print_json_lines(rows: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object a line."""
    for row in rows:
        typer.echo(json.dumps(row, ensure_ascii=False))


def print_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """CSV with a header; cells a row lacks are empty."""
    writer = csv.DictWriter(sys.stdout, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def flat_row(answer: Prediction | Failure) -> dict[str, Any]:
    """One CSV row: the candidates after the first become numbered columns."""
    row = answer.to_dict()
    for place, candidate in enumerate(row.pop("topk", [])[1:], start=2):
        row |= {f"{name}{place}": value for name, value in candidate.items()}
    return row


class CurrentStderr(logging.StreamHandler[Any]):
    """Logs to what standard error is at that moment, so that a progress bar can keep lines above itself."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        """Where to write."""
        return sys.stderr

    @stream.setter
    def stream(self, value: Any) -> None:
        """Standard error is always the current one."""
