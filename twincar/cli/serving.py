"""Verbs that let others use a model: demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Exported .onnx, run folder, .safetensors, or owner/name on the hub.")
    ],
    examples: Annotated[Path | None, typer.Option(help="Folder of photos to click.")] = None,
    space: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Serve nothing; write what a Hugging Face space needs to DIR.")
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen at.  [default: 127.0.0.1, this computer only]")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port.  [default: the first free one from 7860 on]")
    ] = None,
) -> None:
    """Try a model in the browser: photo in, answer, how sure, what it looked at."""
    if space:
        from twincar.space import write_space

        written = write_space(model, space, examples=examples)
        typer.echo(f"Space: {written}\nTry:   python {written / 'app.py'}")
        typer.echo(f"Next:  hf upload OWNER/NAME {written} . --type space")
        return
    from twincar.demo import demo

    demo(
        model,
        examples=examples,
        host=host,
        port=port,
        on_start=lambda address: typer.echo(f"Open {address} in a browser; Ctrl-C stops it."),
    )
