"""Verbs for training: quickstart, train."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twincar.cli.answers import print_blocks
from twincar.cli.evaluation import print_evaluation
from twincar.core.errors import PhotoError, StorageError, UsageError
from twincar.core.wording import command

if TYPE_CHECKING:
    from twincar.training.train import TrainResult

DataArgument = Annotated[Path | None, typer.Argument(metavar="DATA", help="Folder of a prepared data set.")]
NameOption = Annotated[str | None, typer.Option(help="Name of the run.  [default: the data folder's]")]
RunsOption = Annotated[Path, typer.Option(help="Folder of all runs.")]
ResumeOption = Annotated[Path | None, typer.Option(help="Resume this run after its last finished epoch.")]
RecipeOption = Annotated[
    str | None, typer.Option(help="stanford, best, lite, scratch, published or toycars.  [default: stanford]")
]
ConfigOption = Annotated[Path | None, typer.Option(help="YAML file of settings; flags take precedence.")]
BackboneOption = Annotated[
    str | None, typer.Option(help="Any timm network with a feature map: EfficientNetV2, ResNet ...")
]
TeacherOption = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL[,MODEL...]", help="Learn to match the mean prediction of these models: paths, or 'bundled'."
    ),
]
ImageSizeOption = Annotated[int | None, typer.Option(help="Height and width of the network's input, pixels.")]
CompileOption = Annotated[
    bool | None,
    typer.Option("--compile", help="Compile the network: takes minutes at the start, then steps are faster."),
]
WorkersOption = Annotated[int | None, typer.Option(help="Data-loader processes; -1 chooses their number.")]
CacheOption = Annotated[
    bool | None,
    typer.Option("--cache", help="Keep the photos decoded in a file below DATA; its size is logged first."),
]
LimitOption = Annotated[int | None, typer.Option(help="Use only this many batches per epoch, to try everything out.")]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Any other setting of config.yaml, such as augment.flip=0; docs/settings.md lists all of them.",
    ),
]
DevicesOption = Annotated[
    int | None, typer.Option(min=1, help="Processes on each host, one per device.  [default: from torchrun, or 1]")
]
NodesOption = Annotated[
    int | None, typer.Option(min=1, help="Hosts, with torchrun or SLURM.  [default: from torchrun, or 1]")
]


def quickstart(
    out: Annotated[Path, typer.Option(help="Folder for everything it makes.")] = Path("quickstart"),
) -> None:
    """Draw cars, train on them, evaluate, explain, predict, report: everything in minutes, without network."""
    from twincar.quickstart import quickstart

    result = quickstart(out)
    run = result.trained.run.path
    print_training(result.trained)
    print_evaluation(result.evaluation)
    typer.echo(f"\n{result.street}:")
    print_blocks(result.cars)
    typer.echo(f"\nDone in {result.seconds:.0f} s. What it made:")
    for what, path in result.made.items():
        typer.echo(f"  {what:<21} {path}")
    next_command = command("predict", "--model", run, "--detect", "always", "--cars", "all", "PHOTO...")
    typer.echo(f"Next: {next_command}")
    typer.echo("On your own cars: twincar prepare --help")
    typer.echo(f"All of it on one page, to open in a browser:\n  {'the report':<21} {result.report.path}")


def train(
    data: DataArgument = None,
    name: NameOption = None,
    runs: RunsOption = Path("runs"),
    resume: ResumeOption = None,
    recipe: RecipeOption = None,
    config: ConfigOption = None,
    backbone: BackboneOption = None,
    pretrained: Annotated[str | None, typer.Option(help="Initial weights: hub, none, or a file.")] = None,
    teacher: TeacherOption = None,
    image_size: ImageSizeOption = None,
    epochs: Annotated[int | None, typer.Option(help="Largest number of epochs.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Photos per step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16 or fp16.")] = None,
    compile: CompileOption = None,
    workers: WorkersOption = None,
    cache: CacheOption = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    limit: LimitOption = None,
    settings: SettingsOption = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also log for TensorBoard.")] = False,
    devices: DevicesOption = None,
    num_nodes: NodesOption = None,
) -> None:
    """Train a network on a prepared data set, or resume a run; on several devices and hosts by DDP."""
    from twincar.core.config import FLAGS, TrainConfig, parse_settings

    given = {
        "backbone": backbone, "pretrained": pretrained, "image_size": image_size, "epochs": epochs,
        "batch_size": batch_size, "learning_rate": learning_rate, "precision": precision, "compile": compile,
        "workers": workers, "cache": cache, "seed": seed, "limit": limit,
        "teacher": teacher.split(",") if teacher else None,
    }  # fmt: skip
    flags = {setting: value for flag, value in given.items() for setting in FLAGS.get(flag, (flag,))}
    flags |= parse_settings(settings or [])
    if resume:
        if data or name or recipe or config or any(value is not None for value in flags.values()):
            raise _resumes_alone(resume)
        run, resolved = resume, None
    else:
        if data is None:
            raise UsageError("Expected the folder of a prepared data set: twincar train DATA (see twincar prepare).")
        run = runs / (name or data.resolve().name)
        resolved = TrainConfig.resolve(recipe=recipe, yaml_file=config, flags={**flags, "data": str(data.resolve())})
    # Imported after the flags are checked, because it takes seconds.
    from twincar.training import train as training
    from twincar.training.distributed import Processes, is_first_process

    if not is_first_process():  # only the first one prints
        logging.getLogger("twincar").setLevel(logging.ERROR)
    processes = Processes.started(devices, num_nodes)
    how: Any = {"tensorboard": tensorboard, "devices": processes.devices, "nodes": processes.nodes}
    with _resumable(run):
        result = training.train(resolved, run, **how) if resolved else training.resume(run, **how)
    if is_first_process():
        print_training(result)
        typer.echo(
            f"Model: {result.run.best}\nNext:  {command('evaluate', result.run.path, *_split_to_report(result))}"
        )


def _resumes_alone(run: Path) -> UsageError:
    from twincar.core.runs import RunFolder

    return UsageError(
        "Expected --resume RUN alone: a run goes on with the settings it was started with. To change some, start "
        f"another run from its weights: {RunFolder(run).continuation('DATA')}"
    )


def _split_to_report(result: TrainResult) -> tuple[str, ...]:
    """The test photos if there are any, because the others have chosen the epoch."""
    from twincar.data.dataset import PreparedData

    photos = PreparedData.open(Path(result.config.data)).manifest["photos"]
    return ("--split", "test") if photos.get("test") else ()


@contextmanager
def _resumable(run: Path) -> Iterator[None]:
    """Print how to resume if training is interrupted or stopped by an error that can be corrected."""
    from twincar.core.runs import RunFolder

    resume_with = f"Resume with: {command('train', '--resume', run)}"
    try:
        yield
    except KeyboardInterrupt:
        begun = RunFolder(run)
        what = f"Interrupted. {resume_with}" if begun.config.exists() else "Interrupted before anything was written."
        if begun.config.exists() and not begun.last.exists():
            what = f"Interrupted in the first epoch, which begins again. {resume_with}"
        typer.echo(f"\n{what}", err=True)
        raise
    except (StorageError, PhotoError) as error:
        if RunFolder(run).config.exists():
            error.add_note(resume_with)
        raise


def print_training(result: TrainResult) -> None:
    """Print the best epoch, whose weights were kept, and why training ended."""
    best = result.best
    typer.echo(
        f"Best epoch {best['epoch']:.0f} of {len(result.history)}: validation macro-F1 {best['val_f1_macro']:.3f}, "
        f"accuracy {best['val_acc']:.3f}, top-5 {best['val_top5']:.3f}"
    )
    if result.ending:
        typer.echo(result.ending)
