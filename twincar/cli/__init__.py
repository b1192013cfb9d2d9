"""The command line: parsing, printing and exit codes, without other logic.

Results go to standard output, logs and progress to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage,
130 interrupted. Each verb imports what it needs when it runs, so that `--help` is quick.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

import twincar
from twincar.cli import (
    about,
    data,
    evaluate,
    explain,
    export,
    hub,
    options,
    predict,
    serving,
    similar,
    teach,
    training,
    weights,
)
from twincar.cli.output import CurrentStderr
from twincar.core.errors import MissingExtraError, TwinCarError, storage_errors
from twincar.core.extras import how_to_install

app = typer.Typer(
    cls=options.Program,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=options.HELP,
    rich_markup_mode=None,
    help="Names the cars in photos: make, model, body and year. Also trains, checks, explains and serves such models.",
    epilog="New here? 'twincar predict' says what to type to name cars. With twincar[train], 'twincar quickstart' "
    "draws cars, trains on them and shows every result, without network.",
)


def main() -> None:
    """Run the command line and exit with its code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # As for standard error: characters that it cannot show are escaped.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with _output_errors():
            app()
    except TwinCarError as error:
        _fail(error)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing.partition(".")[0] in ("", "twincar"):
            raise
        _fail(MissingExtraError(f"This needs {missing}, which is not installed: {how_to_install(missing, sys.argv)}"))


@contextmanager
def _output_errors() -> Iterator[None]:
    """Report that standard output cannot be written to; errors of other files have their own messages."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would try again at exit
        with storage_errors("to standard output"):
            raise


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(twincar.__version__)
        raise typer.Exit


@app.callback()
def _every_verb(
    version: Annotated[  # noqa: ARG001  # acted on by its callback
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress, no log; errors only. Also after the verb.")
    ] = False,
) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[CurrentStderr()])
    logging.getLogger("twincar").setLevel(logging.INFO)
    logging.getLogger("torch.utils.flop_counter").setLevel(logging.ERROR)  # it warns where triton is not installed
    warnings.filterwarnings("ignore", message="Image size .* exceeds limit")  # Pillow's, below that of TwinCar
    # The hub's library reads this at import. It warns about retries that then succeed, and about missing tokens.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    if quiet:
        options.be_quiet()
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def _fail(error: TwinCarError) -> None:
    typer.echo("\n".join([f"twincar: {error}", *getattr(error, "__notes__", [])]), err=True)
    sys.exit(error.exit_code)


# In the order in which users need them, which is that of --help.
for verb in (
    predict.predict,
    training.quickstart,
    data.prepare,
    data.audit,
    weights.import_weights,
    training.train,
    evaluate.evaluate,
    evaluate.calibrate,
    explain.explain,
    explain.compare,
    evaluate.report,
    export.export,
    similar.index,
    similar.similar,
    teach.teach,
    serving.serve,
    serving.demo,
    hub.push,
    hub.pull,
    about.info,
):
    app.command(cls=options.Command, context_settings=options.HELP)(verb)
