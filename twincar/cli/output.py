"""How results look: tables on a terminal, tab-separated lines elsewhere, JSON and CSV for machines, progress bars."""

from __future__ import annotations

import csv
import io
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from twincar.core.files import spreadsheet_cell
from twincar.core.labels import shorten
from twincar.core.user_files import text_name
from twincar.core.wording import counted, percent

if TYPE_CHECKING:
    from twincar.auditing.audit import DeepAudit
    from twincar.core.info import Info
    from twincar.deploy.export import Exported
    from twincar.deploy.publish import Pushed
    from twincar.deploy.pull import Pulled
    from twincar.evaluation.batch_results import AnswersEvaluation
    from twincar.evaluation.evaluate import Evaluation
    from twincar.evaluation.open_set import OpenSetEvaluation
    from twincar.evaluation.robustness import Robustness
    from twincar.explanation.compare import Comparison
    from twincar.explanation.explain import ExplanationScores
    from twincar.inference.batch import PredictedMany
    from twincar.inference.results import Failure, Prediction
    from twincar.training.train import TrainResult


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
    typer.echo(f"{folder}: {counted(classes, 'class', 'classes')}; photos: {counts}")
    for defect, count in manifest["left_out"].items():
        typer.echo(f"  left out: {count} {defect}")
    if manifest["left_out"]:
        typer.echo(f"  which and why: {folder / 'left_out.csv'}")
    for reason, count in manifest.get("skipped", {}).items():
        typer.echo(f"  skipped: {count} {reason}")
    for note in manifest["notes"]:
        typer.echo(f"  note: {note}")
    follows = f"train {folder}" if "train" in manifest["photos"] else f"evaluate RUN --data {folder}"
    typer.echo(f"Next: twincar {follows}")


def print_training(result: TrainResult) -> None:
    """The best epoch, whose weights were kept, and why there were no more."""
    best = result.best
    typer.echo(
        f"Best epoch {best['epoch']:.0f} of {len(result.history)}: validation macro-F1 {best['val_f1_macro']:.3f}, "
        f"accuracy {best['val_acc']:.3f}, top-5 {best['val_top5']:.3f}"
    )
    if result.ending:
        typer.echo(result.ending)


def print_evaluation(evaluation: Evaluation) -> None:
    """All metrics, with intervals where there are any, and the gain of test-time augmentation where asked for."""
    accuracy = evaluation.accuracy
    typer.echo(
        f"{evaluation.photos:,} {evaluation.described}; 95% intervals in brackets "
        f"(so many photos leave ±{(accuracy.high - accuracy.low) / 2:.1%} of accuracy open)"
    )
    if absent := evaluation.absent:
        typer.echo(f"Classes without a photo, which macro averages leave out: {len(absent)} ({shorten(absent)})")
    intervals = {"acc": accuracy, "f1_macro": evaluation.macro_f1}
    header = ["metric", "plain"] + (["with TTA", "gain"] if evaluation.tta else [])
    rows = []
    for metric, value in evaluation.metrics.items():
        row = [metric, str(intervals.get(metric, f"{value:.3f}"))]
        if evaluation.tta:
            row += [f"{evaluation.tta[metric]:.3f}", f"{evaluation.tta[metric] - value:+.3f}"]
        rows.append(row)
    print_table(header, rows)
    typer.echo(f"Chance: {evaluation.chance}. {evaluation.chance.judge(accuracy)}")
    _print_sureness(evaluation)


def print_answers_evaluation(evaluation: AnswersEvaluation) -> None:
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
        answered = "" if found.answered is None else percent(found.answered)
        precision = "" if found.precision is None else percent(found.precision)
        rows.append([found.level, f"{found.accuracy:.3f}", f"{found.ece:.3f}", answered, precision])
    print_table(["level", "accuracy", "ECE", "answers that end here", "right among these"], rows)
    rejection, rest = evaluation.rejection, ""
    if rejection.accuracy_of_rejected is not None:
        rest = f"; turned away: {percent(1 - rejection.accepted)}, accuracy {rejection.accuracy_of_rejected:.3f}"
    typer.echo(
        f"\nTaken for known cars: {percent(rejection.accepted)} of photos, accuracy "
        f"{rejection.accuracy_of_accepted:.3f}{rest}. Area under the risk-coverage curve: "
        f"{evaluation.risk_coverage.area:.4f}"
    )


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


def print_deep_audit(audit: DeepAudit) -> None:
    """What was found, by reason; what to do next."""
    summary = audit.to_dict()
    typer.echo(f"{counted(summary['photos'], 'sound photo')} in {summary['source']}")
    for defect, count in summary["unsound"].items():
        typer.echo(f"  unusable: {count} {defect}")
    for reason, count in summary["skipped"].items():
        typer.echo(f"  skipped: {count} {reason}")
    for issue in audit.class_issues:
        typer.echo(f"  {issue.reason}: {issue.detail}")
    for sentence in summary["judged"]:
        typer.echo(f"  labels: {sentence}")
    print_table(["finding", "photos"], ([reason, str(count)] for reason, count in summary["findings"].items()))
    typer.echo(f"Page: {audit.page}\nList: {audit.findings}, {counted(summary['to_exclude'], 'photo')} to exclude")
    if summary["to_exclude"]:
        typer.echo(f"Next: {audit.command}")


def print_export(exported: Exported) -> None:
    """Where the model is, and how it compares with the network it came from."""
    comparison = exported.comparison
    typer.echo(
        f"Compared on {counted(comparison.photos, 'validation photo')}: {percent(comparison.equal_answers)} equal "
        f"answers, largest difference of a probability {comparison.largest_difference:.2g}, accuracy "
        f"{comparison.accuracy_before:.3f} before and {comparison.accuracy_after:.3f} after"
    )
    if exported.kept_in_fp32:
        kept = counted(exported.kept_in_fp32, "sensitive layer")
        typer.echo(f"{kept} stayed in fp32, because int8 everywhere lost too much.")
    typer.echo(f"Model: {exported.path} ({exported.bytes / 1e6:.1f} MB)")
    typer.echo(f"Next:  twincar predict --model {exported.path} PHOTO...")


def print_pushed(pushed: Pushed) -> None:
    """What was published and where, or where it can be looked at."""
    typer.echo(f"Card: accuracy {pushed.accuracy:.3f} on the {pushed.split} photos")
    if not pushed.loads_in_timm:
        typer.echo("Plain timm cannot load it, because its head is not linear; the card says so.")
    size = f"{counted(len(pushed.files), 'file')}, {sum(pushed.files.values()) / 1e6:.1f} MB"
    if pushed.commit is None:
        typer.echo(f"Written, not published: {pushed.folder} ({size})")
        return
    typer.echo(f"Published: {pushed.page} ({size}), commit {pushed.commit}")
    typer.echo(f"Next:  twincar predict --model {pushed.repository}@{pushed.commit} PHOTO...")


def print_pulled(pulled: Pulled) -> None:
    """Where a model lies, and what it is."""
    spec = pulled.spec
    what = "weights of somebody else's, which tell nothing of themselves"
    if spec:
        size = f"{spec.preprocessing.height}×{spec.preprocessing.width} pixels"
        what = f"{spec.backbone}, {counted(len(spec.classes), 'class', 'classes')}, {size}"
    typer.echo(f"{pulled.repository} at {pulled.commit}: {what}")
    print_table(["file", "bytes"], ([name, f"{size:,}"] for name, size in pulled.files.items()))
    typer.echo(f"Folder: {pulled.folder}\nModel: {pulled.model}")
    typer.echo(f"Next:  twincar predict --model {pulled.repository}@{pulled.commit} PHOTO...")


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


def print_info(info: Info) -> None:
    """What is there, and the command that brings what is missing."""
    cpu, gpus, cache = info.cpu, info.gpus, info.hub_cache
    typer.echo(f"TwinCar {info.version} in {info.folder}, Python {info.python}, {info.system}")
    typer.echo(
        f"CPU: {cpu.model}, {counted(cpu.cores, 'core')} to use; {' '.join(cpu.speedups) or 'no known speed-ups'}"
    )
    typer.echo(f"GPU: {', '.join(gpus.names) or 'none'} ({gpus.note})\n")
    for extra in info.extras:
        name = f"twincar[{extra.name}]" if extra.name else "twincar"
        there = [f"{package} {version}" for package, version in extra.packages.items() if version]
        typer.echo(f"{name}: {'complete' if not extra.missing else f'{len(extra.missing)} missing'}")
        if there:
            typer.echo(f"  {', '.join(there)}")
        if extra.missing:
            typer.echo(f"  missing: {', '.join(extra.missing)}; pip install '{name}'")
    typer.echo("\nWhat answers, unless --engine says otherwise:")
    for model, engine in info.engines.items():
        typer.echo(f"  {model}: {engine or 'nothing that is installed'}")
    typer.echo(f"\nDownloads: {cache.folder} ({counted(cache.files, 'file')}, {cache.bytes / 1e6:.1f} MB)")
    typer.echo("Decoded photos (train --cache): in the folder of their data set")
    typer.echo(
        f"Environment: {' '.join(f'{name}={value}' for name, value in info.environment.items()) or 'nothing set'}"
    )


def print_answers(answers: Iterable[Prediction | Failure]) -> None:
    """On a terminal a row a photo, in which each car is named once; elsewhere a row a candidate, in columns."""
    if sys.stdout.isatty():
        print_table(["photo", "answer", "sure", "other candidates"], map(_answer_row, answers))
    else:
        rows = (row for answer in answers for row in _candidate_rows(answer))
        print_table(["photo", "answer", "probability", "class", "make", "model", "body", "year"], rows)


def _answer_row(answer: Prediction | Failure) -> list[str]:
    """Photo, answer, how sure, and the candidates that the answer has not named."""
    from twincar.inference.results import Failure

    if isinstance(answer, Failure):
        return [text_name(answer.photo), f"error: {answer.error}", "", ""]
    given = answer.answer
    others = answer.topk[1:] if given and given.level == "class" else answer.topk
    listed = "\n".join(f"{percent(candidate.probability)} {candidate.name}" for candidate in others)
    if given is None:
        return [text_name(answer.photo), answer.reason, "", listed]
    level = "" if given.level == "class" else f" ({given.level})"
    return [text_name(answer.photo), f"{given.name}{level}", percent(given.probability), listed]


def _candidate_rows(answer: Prediction | Failure) -> Iterator[list[str]]:
    from twincar.inference.results import Failure

    if isinstance(answer, Failure):
        yield [text_name(answer.photo), "", "", f"error: {answer.error}", "", "", "", ""]
        return
    said = answer_text(answer)
    for candidate in answer.topk:
        car = candidate.car
        yield [
            *(text_name(answer.photo), said, percent(candidate.probability), candidate.name),
            *(car.make, car.model, car.body, str(car.year or "")),
        ]


def print_predicted_many(done: PredictedMany) -> None:
    """How many photos were answered, and how the answers are read."""
    typer.echo(f"{counted(done.photos, 'photo')}, {done.photos - done.failed:,} of them answered: {done.folder}")
    for reason, count in done.skipped.items():
        typer.echo(f"  skipped: {count} {reason}")
    typer.echo(f"Next:  pandas.read_parquet({done.folder!r})")


def answer_text(prediction: Prediction) -> str:
    """The answer in words: a class, a coarser level and what is open, or why there is none."""
    answer = prediction.answer
    if answer is None:
        return prediction.reason
    text = f"{answer.name} ({percent(answer.probability)})"
    return f"{text}; open: {' or '.join(answer.open)}" if len(answer.open) > 1 else text


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on a terminal, tab-separated lines elsewhere; the first row names the columns."""
    if not sys.stdout.isatty():
        rows = iter(rows)
        first = list(islice(rows, 1))  # before anything is printed: it may not come to be
        for row in chain([header], first, rows):
            typer.echo("\t".join(row))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    table = Table(*(Column(name, overflow="fold") for name in header), box=box.SIMPLE_HEAD)  # nothing is cut off
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object, to be read by people too."""
    _write_utf8()
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_json_lines(rows: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object a line."""
    _write_utf8()
    for row in rows:
        typer.echo(json.dumps(row, ensure_ascii=False))


def print_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """CSV with a header; cells a row lacks are empty, and what a spreadsheet would run as a formula is quoted."""
    _write_utf8()
    writer = csv.DictWriter(sys.stdout, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({column: spreadsheet_cell(value) for column, value in row.items()} for row in rows)
    sys.stdout.flush()  # while a full disk can still be told


def _write_utf8() -> None:
    """What machines read is UTF-8 wherever it goes; bytes of a name that are not become escapes."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


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
