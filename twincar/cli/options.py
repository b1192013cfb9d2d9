"""Arguments and options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from twincar.core.errors import UsageError
from twincar.core.options import Detect, DetectOptions, LabelsFrom
from twincar.inference.cluster import LOCAL

ModelArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="Exported .onnx, run folder, .safetensors, or owner/name on the hub.  [default: the bundled model]",
    ),
]
SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="hub:OWNER/NAME, a folder of parquet files, of the original release (devkit), or of class folders, a CSV "
        "(filename,label[,split]), or toycars.",
    ),
]
DetectorFileOption = Annotated[
    Path | None,
    typer.Option("--detector", help="With --crop detect: a detector .onnx file.  [default: the bundled detector]"),
]
ClassesOption = Annotated[
    Path | None,
    typer.Option("--classes", help="Class names in order: one per line, classes.json, or the devkit's cars_meta.mat."),
]
LabelsFromOption = Annotated[
    LabelsFrom | None,
    typer.Option("--labels-from", help="Number of the first class in a CSV of class numbers without 0."),
]
AnyModelArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="Run folder, exported model, .safetensors, .pth, owner/name on the hub, or a folder of results.  "
        "[default: the bundled model]",
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Data set: a prepared folder, class folders, or a CSV.  [default: the data of the run]",
    ),
]
ResultsOption = Annotated[
    Path | None,
    typer.Option(
        "--out", help="Folder for the results.  [default: RUN/reports; results/ for a model that is not a run]"
    ),
]
ConfidenceOption = Annotated[
    float, typer.Option(min=0, max=1, help="Least probability of an answer; below it, a coarser answer is given.")
]
FalseRejectionOption = Annotated[
    float, typer.Option(min=0, max=1, help="Share of photos of known cars that may be rejected as unknown.")
]
DetectOption = Annotated[
    Detect,
    typer.Option(help="Find the cars in photos first and cut them out; auto: if the model was trained on such cuts."),
]
DetectorOption = Annotated[
    Path | None,
    typer.Option("--detector", metavar="FILE", help="Another detector, an .onnx file.  [default: the bundled one]"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
CsvOption = Annotated[bool, typer.Option("--csv", help="Print CSV, for machines.")]


class Command(TyperCommand):
    """A verb whose option `--cluster` may have no value, which typer does not support."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments of the verb."""
        return super().parse_args(ctx, _with_address(args))


def _with_address(arguments: list[str]) -> list[str]:
    following = [*arguments, "-"][1:]
    filled = []
    for argument, after in zip(arguments, following, strict=False):
        filled += [argument, LOCAL] if argument == "--cluster" and after.startswith("-") else [argument]
    return filled


def detect_options(detect: Detect, detector: Path | None) -> DetectOptions:
    """The two options as one value.

    Raises:
        UsageError: a detector is named that is never used.
    """
    if detector and detect == "never":
        raise UsageError("Expected --detector without --detect never, which uses none.")
    return DetectOptions(detect=detect, detector=str(detector) if detector else None)


def number_of(labels_from: LabelsFrom | None) -> int | None:
    """The number of the first class, if it is given."""
    return None if labels_from is None else int(labels_from)


def model_or_bundled(model: str | None, *, say_so: bool = True) -> str:
    """The named model, or the bundled one, which is reported if `say_so`."""
    if model is not None:
        return model
    from twincar.models.bundled import MODEL, WHAT

    if say_so:
        typer.echo(f"No model named: using {WHAT}.", err=True)
    return str(MODEL)
