"""Verbs that share a model: push, pull."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twincar.cli.options import JsonOption, RunArgument
from twincar.cli.output import print_json, print_pulled, print_pushed, progress


def push(
    run: RunArgument,
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Where on the hub; made if it is not there.")],
    private: Annotated[bool, typer.Option("--private", help="Open to its owner only.")] = False,
    licence: Annotated[
        str | None,
        typer.Option("--license", help="Of the weights, as the hub spells it.  [default: by the data, where known]"),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Where the data set of the run lies now, if it has moved.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the files into this new folder, to look at, and publish nothing.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Publish a run on the hub: model file, weights, classes, calibration, and a card with what was measured."""
    from twincar.deploy.publish import push

    with progress("Evaluating and exporting") as on_photo:
        pushed = push(run, repository, private=private, licence=licence, data_folder=data, out=out, on_photo=on_photo)
    if as_json:
        print_json(pushed.to_dict())
    else:
        print_pushed(pushed)


def pull(
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME[@REVISION]", help="Which model on the hub.")],
    as_json: JsonOption = False,
) -> None:
    """Fetch a model from the hub, whole and checked, and tell where it lies and what it is."""
    from twincar.deploy.pull import pull

    pulled = pull(repository)
    if as_json:
        print_json(pulled.to_dict())
    else:
        print_pulled(pulled)
