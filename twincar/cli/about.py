"""Verbs about the program itself: info."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from twincar.cli.options import JsonOption
from twincar.cli.output import print_result
from twincar.core.wording import counted

if TYPE_CHECKING:
    from twincar.core.info import Info


def info(as_json: JsonOption = False) -> None:
    """Show what is installed and what is missing, the devices and engines, and the caches."""
    from twincar.core.info import info

    found = info()
    print_result(found, print_info, as_json=as_json)


def print_info(info: Info) -> None:
    """Print what is installed, and the commands that install what is missing."""
    cpu, gpus, cache = info.cpu, info.gpus, info.hub_cache
    typer.echo(f"TwinCar {info.version} in {info.folder}, Python {info.python}, {info.system}")
    typer.echo(
        f"CPU: {cpu.model}, {counted(cpu.cores, 'core')} to use; {' '.join(cpu.speedups) or 'no known speed-ups'}"
    )
    typer.echo(f"GPU: {', '.join(gpus.names) or 'none'} ({gpus.note})\n")
    for extra in info.extras:
        name = f"twincar[{extra.name}]" if extra.name else "twincar"
        there = [f"{package} {version}" for package, version in extra.packages.items() if version]
        typer.echo(f"{name}: {'complete' if not extra.missing else f'{len(extra.missing)} missing'}")
        if there:
            typer.echo(f"  {', '.join(there)}")
        if extra.missing:
            typer.echo(f"  missing: {', '.join(extra.missing)}; pip install '{name}'")
    typer.echo("\nEngines that --engine auto chooses:")
    for model, engine in info.engines.items():
        typer.echo(f"  {model}: {engine or 'none is installed'}")
    typer.echo(f"\nDownloads: {cache.folder} ({counted(cache.files, 'file')}, {cache.bytes / 1e6:.1f} MB)")
    typer.echo("Decoded photos (train --cache): in the folder of their data set")
    typer.echo(
        f"Environment: {' '.join(f'{name}={value}' for name, value in info.environment.items()) or 'nothing set'}"
    )
