"""Commands for the hub: push, pull."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twincar.cli.options import JsonOption
from twincar.cli.output import print_result, print_table, progress
from twincar.core.wording import counted

if TYPE_CHECKING:
    from twincar.deploy.publish import Pushed
    from twincar.deploy.pull import Pulled


def push(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="Run folder, exported .onnx, .safetensors, owner/name on the hub, or 'bundled' for the bundled model.",
        ),
    ],
    repository: Annotated[
        str, typer.Argument(metavar="OWNER/NAME", help="The repository on the hub; it is created if it does not exist.")
    ],
    private: Annotated[bool, typer.Option("--private", help="Visible to its owner only.")] = False,
    license: Annotated[
        str | None,
        typer.Option(
            "--license",
            help="Licence of the weights, by its identifier on the hub.  [default: the model's, or by its data]",
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Folder of the run's data set, if it was moved.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the files to this new folder, and publish nothing.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Publish a model on the hub, with a model card.

    Of a run: exported model, weights, settings, classes, calibration and results. Of any other model: the file itself,
    classes and calibration; its card has no results.
    """
    from twincar.deploy.publish import push
    from twincar.models.bundled import BUNDLED

    named = None if model == BUNDLED and not Path(model).exists() else model
    with progress("Evaluating and exporting") as on_photo:
        pushed = push(named, repository, private=private, license=license, data_folder=data, out=out, on_photo=on_photo)
    print_result(pushed, print_pushed, as_json=as_json)


def pull(
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME[@REVISION]", help="Which model on the hub.")],
    as_json: JsonOption = False,
) -> None:
    """Download a model from the hub, check it, and print its path and what it is."""
    from twincar.deploy.pull import pull

    pulled = pull(repository)
    print_result(pulled, print_pulled, as_json=as_json)


def print_pushed(pushed: Pushed) -> None:
    """The address of the model, or the folder with its files."""
    if pushed.accuracy is None:
        typer.echo("Card: no results, because the model was published without its run")
    else:
        typer.echo(f"Card: accuracy {pushed.accuracy:.3f} on the {pushed.split} photos")
    if not pushed.loads_in_timm:
        typer.echo("timm alone cannot load it; the card says why.")
    size = f"{counted(len(pushed.files), 'file')}, {sum(pushed.files.values()) / 1e6:.1f} MB"
    if pushed.commit is None:
        typer.echo(f"Written, not published: {pushed.folder} ({size})")
        return
    typer.echo(f"Published: {pushed.page} ({size}), commit {pushed.commit}")
    typer.echo(f"Next:  twincar predict --model {pushed.repository}@{pushed.commit} PHOTO...")


def print_pulled(pulled: Pulled) -> None:
    """The files of a model, and what it is."""
    spec = pulled.spec
    what = "third-party weights without metadata"
    if spec:
        size = f"{spec.preprocessing.height}×{spec.preprocessing.width} pixels"
        what = f"{spec.backbone}, {counted(len(spec.classes), 'class', 'classes')}, {size}"
    typer.echo(f"{pulled.repository} at {pulled.commit}: {what}")
    print_table(["file", "bytes"], ([name, f"{size:,}"] for name, size in pulled.files.items()))
    typer.echo(f"Folder: {pulled.folder}\nModel: {pulled.model}")
    typer.echo(f"Next:  twincar predict --model {pulled.repository}@{pulled.commit} PHOTO...")
