"""The command line: parses, prints, maps errors to exit codes; holds no logic.

Results go to standard output, logs and progress to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage,
130 interrupted. Each verb imports what it needs when it runs, so that `--help` is quick.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import twincar
from twincar.choices import CONFIDENCE, FALSE_REJECTION, Arithmetic, EngineName, ExportFormat
from twincar.console import (
    CurrentStderr,
    flat_row,
    print_answers,
    print_comparison,
    print_csv,
    print_deep_audit,
    print_evaluation,
    print_explanation_scores,
    print_export,
    print_json,
    print_json_lines,
    print_open_set,
    print_robustness,
    print_summary,
    print_table,
    print_training,
    progress,
)
from twincar.errors import MissingExtraError, TwinCarError, UsageError

if TYPE_CHECKING:
    from twincar.predict import Failure, Prediction

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Tells look-alike cars apart: from a photo to make, model, body and year.",
    epilog="New here? 'twincar quickstart' draws cars, trains on them and shows every result, without network.",
)


class Split(StrEnum):
    """Parts of a data set."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a training run, such as runs/cars.")]
SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="hub:OWNER/NAME, a folder of parquet files, of the original release (devkit), or of class folders, a CSV "
        "(filename,label[,split]), or toycars.",
    ),
]
ClassesOption = Annotated[
    Path | None,
    typer.Option("--classes", help="Class names in order: one a line, classes.json, or the devkit's cars_meta.mat."),
]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="Another prepared data set than the one the run was trained on.")
]
ConfidenceOption = Annotated[
    float, typer.Option(min=0, max=1, help="How probable an answer has to be to be given; else a coarser one is.")
]
FalseRejectionOption = Annotated[
    float, typer.Option(min=0, max=1, help="Share of photos of known cars that may be turned away as unknown.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
CsvOption = Annotated[bool, typer.Option("--csv", help="Print CSV, for machines.")]


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        app()
    except TwinCarError as error:
        _fail(error)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "twincar":
            raise
        _fail(MissingExtraError(f"This needs {error.name}, which is not installed: pip install 'twincar[train]'"))


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(twincar.__version__)
        raise typer.Exit


@app.callback()
def _every_verb(
    version: Annotated[  # noqa: ARG001  # acted on by its callback
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no log; errors only.")] = False,
) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[CurrentStderr()])
    logging.getLogger("twincar").setLevel(logging.ERROR if quiet else logging.INFO)


@app.command(name="quickstart")
def _quickstart(
    out: Annotated[Path, typer.Option(help="Folder for everything it makes.")] = Path("quickstart"),
) -> None:
    """Draw cars, train on them, evaluate, explain, predict, report: the whole road in minutes, without network."""
    from twincar.quickstart import quickstart

    result = quickstart(out)
    run = result.trained.run
    print_training(result.trained)
    print_evaluation(result.evaluation)
    typer.echo(f"\n{result.photo}:")
    print_answers([result.prediction])
    typer.echo(f"\nDone in {result.seconds:.0f} s. Look at:")
    for what, path in [
        ("the drawn cars", result.data / "photos"),
        ("the trained model", run.best),
        ("its learning curves", run.reports / "curve_accuracy_f1.png"),
        ("its confusion matrix", result.evaluation.folder / "confusion_matrix.png"),
        ("what it looked at", result.explanation.grid),
        ("every answer", result.evaluation.folder / "predictions.csv"),
        ("the whole report", result.report.path),
    ]:
        typer.echo(f"  {what:<21} {path}")
    typer.echo(f"Next: twincar predict --model {run.path} PHOTO...    or on your own cars: twincar prepare --help")


@app.command(name="prepare")
def _prepare(
    source: SourceArgument = "hub:tanganke/stanford_cars",
    out: Annotated[Path, typer.Option(help="Folder of the prepared data set.")] = Path("data/stanford_cars"),
    split: Annotated[
        list[str] | None, typer.Option("--split", help="Split to fetch; may be repeated.  [default: train, test]")
    ] = None,
    val_share: Annotated[
        float, typer.Option(min=0.01, max=0.5, help="Share of the training photos to validate on.")
    ] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="Of the split.")] = 0,
    classes: ClassesOption = None,
    open_set: Annotated[
        Path | None,
        typer.Option(
            help="JSON file of known_classes and unknown_classes: the latter are never trained on, to find out whether "
            "the model turns them away."
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at bad rows in place of leaving them out.")] = False,
    exclude: Annotated[
        Path | None,
        typer.Option(
            help="CSV of photos to leave out: findings.csv of audit --deep, of which the rows count whose action is "
            "'exclude', or any list with a column 'file'."
        ),
    ] = None,
) -> None:
    """Check photos and labels, split them, and write annotations.csv, classes.json and a manifest."""
    from twincar.data.prepare import prepare

    with progress("Checking photos") as on_photo:
        data = prepare(
            source,
            out,
            splits=tuple(split or ("train", "test")),
            val_share=val_share,
            seed=seed,
            strict=strict,
            classes_file=classes,
            open_set=open_set,
            exclude=exclude,
            on_photo=on_photo,
        )
    print_summary(data.manifest, data.folder, len(data.classes))


@app.command(name="audit")
def _audit(
    source: SourceArgument,
    deep: Annotated[
        bool,
        typer.Option(
            "--deep",
            help="Also copies, leaks between splits, contradicting labels, odd photos and classes; SOURCE may be a "
            "prepared data set. Writes a page and findings.csv for prepare --exclude.",
        ),
    ] = False,
    run: Annotated[
        Path | None, typer.Option(help="With --deep: a run that judges the labels of photos it was not trained on.")
    ] = None,
    folds: Annotated[
        int, typer.Option(min=0, help="Judge its training photos too, by so many networks trained anew.")
    ] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for page and list.  [default: audits/<source>]")] = None,
    classes: ClassesOption = None,
    as_csv: CsvOption = False,
    as_json: JsonOption = False,
) -> None:
    """Look for rows that are missing, damaged, odd, repeated or without a known label; exit code 1 if there are any.

    With --deep, findings.csv lists what to do: action 'exclude' for the copy of a leak that is nearer to training, for
    all but one of copies within a split, and for all copies of a picture whose classes contradict each other; action
    'look' for suspect labels and odd photos. Change the word where you decide otherwise.
    """
    if deep:
        _audit_deeply(source, out, run, folds, classes, as_csv, as_json)
        return
    if run or folds or out:
        raise UsageError("Expected --deep with --run, --folds and --out.")
    from twincar.data.audit import audit_source
    from twincar.data.sources import open_source

    with progress("Auditing photos") as on_photo:
        report = audit_source(open_source(source, classes_file=classes), on_photo=on_photo)
    rows = report.rows()
    if as_json:
        print_json_lines(rows)
    elif as_csv:
        print_csv(rows, ["file", "defect", "detail"])
    else:
        print_table(["file", "defect", "detail"], ([row[c] for c in ("file", "defect", "detail")] for row in rows))
        counts = ", ".join(f"{count} {defect}" for defect, count in report.counts().items())
        typer.echo(f"{len(report.sound)} sound rows, {len(rows)} bad{': ' + counts if counts else ''}.")
    if rows:
        raise typer.Exit(1)


def _audit_deeply(
    source: str, out: Path | None, run: Path | None, folds: int, classes: Path | None, as_csv: bool, as_json: bool
) -> None:
    from twincar.deep_audit import COLUMNS, deep_audit

    with progress("Looking at photos") as on_photo:
        audit = deep_audit(source, out, run=run, folds=folds, classes_file=classes, on_photo=on_photo)
    if as_json:
        print_json(audit.to_dict())
    elif as_csv:
        print_csv(audit.rows, COLUMNS)
    else:
        print_deep_audit(audit)
    if not audit.is_sound:
        raise typer.Exit(1)


@app.command(name="train")
def _train(
    data: Annotated[Path | None, typer.Argument(metavar="DATA", help="Folder of a prepared data set.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run.  [default: the data folder's]")] = None,
    runs: Annotated[Path, typer.Option(help="Folder of all runs.")] = Path("runs"),
    resume: Annotated[Path | None, typer.Option(help="Go on with this run after its last whole epoch.")] = None,
    recipe: Annotated[str | None, typer.Option(help="stanford, published or toycars.  [default: stanford]")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings; flags win over it.")] = None,
    backbone: Annotated[str | None, typer.Option(help="Any timm EfficientNetV2.")] = None,
    pretrained: Annotated[str | None, typer.Option(help="First weights: hub, none, or a file.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Height and width of the network's input, pixels.")] = None,
    epochs: Annotated[int | None, typer.Option(help="At most this many passes over the data.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Photos a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16 or fp16.")] = None,
    compile: Annotated[
        bool | None, typer.Option("--compile", help="Compile the network: minutes at first, then quicker steps.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that load photos; -1 chooses.")] = None,
    cache: Annotated[
        bool | None,
        typer.Option("--cache", help="Keep the photos decoded in a file below DATA; its size is told first."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only this many batches a pass, to try everything out.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any other setting of config.yaml, such as augment.flip=0."),
    ] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also log for TensorBoard.")] = False,
) -> None:
    """Train a network on a prepared data set, or go on with a run."""
    from twincar.config import TrainConfig, parse_settings
    from twincar.train import resume as resume_run
    from twincar.train import train

    flags = {
        "backbone": backbone,
        "pretrained": pretrained,
        "image_height": image_size,
        "image_width": image_size,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "precision": precision,
        "compile": compile,
        "workers": workers,
        "cache": cache,
        "seed": seed,
        "limit": limit,
        **parse_settings(settings or []),
    }
    if resume:
        if data or name or recipe or config or any(value is not None for value in flags.values()):
            raise UsageError("Expected --resume RUN alone: a run goes on with the settings it was started with.")
        run = resume
        with _resumable(run):
            result = resume_run(run, tensorboard=tensorboard)
    else:
        if data is None:
            raise UsageError("Expected the folder of a prepared data set: twincar train DATA (see twincar prepare).")
        run = runs / (name or data.resolve().name)
        resolved = TrainConfig.resolve(recipe=recipe, yaml_file=config, flags={**flags, "data": str(data.resolve())})
        with _resumable(run):
            result = train(resolved, run, tensorboard=tensorboard)
    print_training(result)
    typer.echo(f"Model: {result.run.best}\nNext:  twincar evaluate {result.run.path}")


@app.command(name="evaluate")
def _evaluate(
    run: RunArgument,
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
    if corruptions:
        _evaluate_corruptions(run, split, data, as_json)
        return
    if open_set:
        _evaluate_open_set(run, split, data, false_rejection, as_json)
        return
    from twincar.evaluate import evaluate

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
    from twincar.open_set import evaluate_open_set

    with progress(f"Scoring {split} photos") as on_photo:
        found = evaluate_open_set(
            run, split=split, data_folder=data, false_rejection=false_rejection, on_photo=on_photo
        )
    if as_json:
        print_json(found.to_dict())
    else:
        print_open_set(found)


def _evaluate_corruptions(run: Path, split: Split, data: Path | None, as_json: bool) -> None:
    from twincar.robustness import measure_robustness

    with progress(f"Evaluating corrupted {split} photos") as on_photo:
        robustness = measure_robustness(run, split=split, data_folder=data, on_photo=on_photo)
    if as_json:
        print_json(robustness.to_dict())
    else:
        print_robustness(robustness)
        typer.echo(f"Table and picture: {robustness.folder / 'corruptions.png'}")


@app.command(name="explain")
def _explain(
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
    from twincar.explain import explain, score_explanations
    from twincar.predict import find_photos

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
    typer.echo(f"{len(result.photos)} photos explained in {result.grid.parent}\nGrid: {result.grid}")


@app.command(name="compare")
def _compare(
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
    from twincar.compare import compare

    with progress("Comparing classes") as on_photo:
        comparison = compare(
            run, classes or (), photo=photo, split=split, count=count, data_folder=data, on_photo=on_photo
        )
    if as_json:
        print_json(comparison.to_dict())
    else:
        print_comparison(comparison)


@app.command(name="report")
def _report(
    run: RunArgument,
    split: Annotated[
        Split | None, typer.Option(help="Evaluated photos to tell of.  [default: test if evaluated, else val]")
    ] = None,
    data: DataOption = None,
    out: Annotated[Path | None, typer.Option(help="The page.  [default: RUN/reports/report.html]")] = None,
) -> None:
    """Write one HTML page that tells all of a run and opens anywhere: no server, no network."""
    from twincar.report import report

    with progress("Explaining mistakes") as on_photo:
        page = report(run, split=split, data_folder=data, out=out, on_photo=on_photo)
    typer.echo(f"Page of the {page.split} photos: {page.path} ({page.bytes / 1e6:.1f} MB)")


@app.command(name="export")
def _export(
    model: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder, .safetensors file, or published .pth.")],
    format: Annotated[ExportFormat, typer.Option(help="One ONNX file, or a folder for OpenVINO.")] = "onnx",
    precision: Annotated[Arithmetic, typer.Option(help="What is stored and computed in.")] = "fp32",
    out: Annotated[Path | None, typer.Option(help="Where to.  [default: beside the weights]")] = None,
    data: DataOption = None,
    force: Annotated[bool, typer.Option("--force", help="Write it even if it answers differently.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Export a model for answering without torch, checked against the network on validation photos."""
    from twincar.export import export

    with progress("Computing the network's answers") as on_photo:
        exported = export(
            model,
            format=format,
            precision=precision,
            out=out,
            data_folder=data,
            force=force,
            on_photo=on_photo,
        )
    if as_json:
        print_json(exported.to_dict())
    else:
        print_export(exported)


@app.command(name="predict")
def _predict(
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGES...", help="Photos, folders, patterns, or - for a photo or paths on stdin."),
    ],
    model: Annotated[
        Path,
        typer.Option(
            "--model", "-m", help="Run folder, .safetensors, exported .onnx or OpenVINO folder, or published .pth."
        ),
    ],
    engine: Annotated[EngineName, typer.Option(help="What computes; auto is the fastest there.")] = "auto",
    top_k: Annotated[int, typer.Option(min=1, help="Candidates a photo.")] = 3,
    tta: Annotated[bool, typer.Option("--tta", help="Average over mirrored and wider views.")] = False,
    confidence: ConfidenceOption = CONFIDENCE,
    false_rejection: FalseRejectionOption = FALSE_REJECTION,
    classes: ClassesOption = None,
    backbone: Annotated[str, typer.Option(help="Of .pth weights.  [default: efficientnetv2_rw_s]")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    as_csv: CsvOption = False,
) -> None:
    """Name the cars in photos; a photo that cannot be read gets an error row and the exit code becomes 1."""
    from twincar.predict import Classifier, Failure, find_photos

    photos = _photos_from_stdin() if images == ["-"] else find_photos(images)
    names = None
    if classes:
        from twincar.data.sources import read_class_file  # it knows .mat files, which takes a while to import

        names = read_class_file(classes)
    classifier = Classifier.load(
        model,
        engine=engine,
        classes=names,
        backbone=backbone,
        confidence=confidence,
        false_rejection=false_rejection,
    )
    failed = 0

    def counted() -> Iterator[Prediction | Failure]:
        nonlocal failed
        for answer in classifier.stream(photos, top_k=top_k, tta=tta):
            failed += isinstance(answer, Failure)
            yield answer

    if as_json:
        print_json_lines(answer.to_dict() for answer in counted())
    elif as_csv:
        columns = ["photo", "answer", "level", "reason", "class_name", "confidence", "make", "model", "body", "year"]
        columns += [f"{what}{place}" for place in range(2, top_k + 1) for what in ("class_name", "probability")]
        print_csv((flat_row(answer) for answer in counted()), [*columns, "error"])
    else:
        print_answers(counted())
    if failed:
        typer.echo(f"{failed} photos could not be read.", err=True)
        raise typer.Exit(1)


@contextmanager
def _resumable(run: Path) -> Iterator[None]:
    """Tell how to go on when training is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"\nInterrupted. Go on with: twincar train --resume {run}", err=True)
        raise


def _photos_from_stdin() -> Iterator[str | bytes]:
    """Standard input holds one photo, or paths, one a line."""
    data = sys.stdin.buffer.read()
    if not data.strip():
        raise UsageError("Expected a photo or paths of photos on standard input, and it is empty.")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return iter([data])
    return iter([data] if "\0" in text else [line for line in text.splitlines() if line.strip()])


def _fail(error: TwinCarError) -> None:
    typer.echo(f"twincar: {error}", err=True)
    sys.exit(error.exit_code)
