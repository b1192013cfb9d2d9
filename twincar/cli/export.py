"""The verb that makes a model predict without torch: export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twincar.cli.options import AnyModelArgument, DataOption, JsonOption, model_or_bundled
from twincar.cli.output import print_result, progress
from twincar.core.options import Arithmetic, ExportFormat
from twincar.core.wording import FEW_PHOTOS, command, counted, percent

if TYPE_CHECKING:
    from twincar.deploy.export import Exported


def export(
    model: AnyModelArgument = None,
    format: Annotated[ExportFormat, typer.Option(help="One ONNX file, or a folder for OpenVINO.")] = "onnx",
    precision: Annotated[Arithmetic, typer.Option(help="What is stored and computed in.")] = "fp32",
    out: Annotated[Path | None, typer.Option(help="Where to.  [default: beside the weights]")] = None,
    data: DataOption = None,
    force: Annotated[bool, typer.Option("--force", help="Write it even if its predictions differ.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Export a model for prediction without torch, compared with the network on validation photos.

    An exported .onnx file in fp32 can be exported again, in another form or precision.
    """
    from twincar.deploy.export import export

    with progress("Computing the network's predictions") as on_photo:
        exported = export(
            model_or_bundled(model),
            format=format,
            precision=precision,
            out=out,
            data_folder=data,
            force=force,
            on_photo=on_photo,
        )
    print_result(exported, print_export, as_json=as_json)


def print_export(exported: Exported) -> None:
    """The path of the model, and its comparison with the network."""
    comparison = exported.comparison
    typer.echo(
        f"Compared on {counted(comparison.photos, 'validation photo')}: {percent(comparison.equal_predictions)} equal "
        f"predictions, largest difference of a probability {comparison.largest_difference:.2g}, accuracy "
        f"{comparison.accuracy_before:.3f} before and {comparison.accuracy_after:.3f} after"
    )
    if comparison.photos < FEW_PHOTOS:
        typer.echo("On so few photos this comparison, and a calibration on them, say little.")
    if exported.kept_in_fp32:
        kept = counted(exported.kept_in_fp32, "sensitive layer")
        typer.echo(f"{kept} stayed in fp32, because int8 everywhere lost too much.")
    typer.echo(f"Model: {exported.path} ({exported.bytes / 1e6:.1f} MB)")
    typer.echo(f"Next:  {command('predict', '--model', exported.path, 'PHOTO...')}")
