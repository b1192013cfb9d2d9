"""Arguments and options that several verbs share."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Sequence
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from twincar.core.errors import UsageError
from twincar.core.options import Detect, DetectOptions, LabelsFrom
from twincar.inference.cluster import LOCAL

log = logging.getLogger(__name__)

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


def _share(text: str | float) -> float:
    """A share as it is typed; typer calls it for the default too."""
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 1:
        raise typer.BadParameter(f"expected a share from 0 to 1, such as 0.8 for 80%, but found {text}.")
    return value


ConfidenceOption = Annotated[
    float,
    typer.Option(
        parser=_share,
        metavar="SHARE",
        help="Least probability of an answer, 0 to 1; below it, a coarser answer is given.",
    ),
]
FalseRejectionOption = Annotated[
    float,
    typer.Option(
        parser=_share, metavar="SHARE", help="Share of photos of known cars that may be rejected as unknown, 0 to 1."
    ),
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
CsvOption = Annotated[bool, typer.Option("--csv", help="Print CSV, for spreadsheets: --csv > cars.csv")]


HELP = {"help_option_names": ["-h", "--help"]}
_QUIET = ("--quiet", "-q")


def be_quiet() -> None:
    """Leave progress, log and the hub's progress bars out."""
    logging.getLogger("twincar").setLevel(logging.ERROR)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # the hub's library reads this at import


class Program(TyperGroup):
    """The program, which says what to type where a photo stands in the place of a verb."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the verb.

        Raises:
            UsageError: it is a file or a folder.
        """
        if args[0] not in self.commands and Path(args[0]).exists():
            raise UsageError(
                f"Expected a verb, but found {args[0]!r}. To name the cars in it: twincar predict {shlex.join(args)}"
            )
        return super().resolve_command(ctx, args)


class Command(TyperCommand):
    """A verb, with what typer does not support: options that need a value refuse another option as their value.

    The value of `--cluster` may be left out, of `--json` and `--csv` only one is taken, and `--quiet` may stand after
    the verb too.
    """

    def get_short_help_str(self, limit: int = 45) -> str:  # noqa: ARG002
        """The first paragraph of its help for the list of verbs, which wraps it; click would cut it off in a line."""
        return " ".join((self.help or "").split("\n\n")[0].split())

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments of the verb.

        Raises:
            UsageError: an option lacks its value, or options exclude each other.
        """
        args = _with_address(args)
        self._check_values(args)
        options = list(takewhile(lambda argument: argument != "--", args))
        if any(argument in _QUIET for argument in options):
            be_quiet()
        args = [argument for argument in options if argument not in _QUIET] + args[len(options) :]
        rest = super().parse_args(ctx, args)
        if ctx.params.get("as_json") and ctx.params.get("as_csv"):
            raise UsageError("Expected --json or --csv, but found both; leave one out.")
        return rest

    def _check_values(self, arguments: Sequence[str]) -> None:
        """Refuse '--draw --csv', which would draw into a folder called '--csv'."""
        options = {name for option in self.params for name in (*option.opts, *option.secondary_opts) if name[0] == "-"}
        options.update(_QUIET)
        valued = {name for option in self.params if not getattr(option, "is_flag", True) for name in option.opts}
        for name, value in pairwise(takewhile(lambda argument: argument != "--", arguments)):
            if name.startswith("-") and name in valued and (value.startswith("--") or value in options):
                raise UsageError(
                    f"Expected a value after {name}, but found the option {value}. If it is the name of a file, write "
                    f"./{value}"
                )


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
        log.info("No model named: using %s.", WHAT)
    return str(MODEL)
