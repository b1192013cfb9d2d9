"""Verbs that share a model: push, pull."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twincar.cli.options import JsonOption, RunArgument
from twincar.cli.output import print_result, print_table, progress
from twincar.core.wording import counted

if TYPE_CHECKING:
    from twincar.deploy.publish import Pushed
    from twincar.deploy.pull import Pulled


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
    print_result(pushed, print_pushed, as_json=as_json)


def pull(
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME[@REVISION]", help="Which model on the hub.")],
    as_json: JsonOption = False,
) -> None:
    """Fetch a model from the hub, whole and checked, and tell where it lies and what it is."""
    from twincar.deploy.pull import pull

    pulled = pull(repository)
    print_result(pulled, print_pulled, as_json=as_json)


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
