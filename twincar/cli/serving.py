"""Verbs that let others use a model: serve, demo."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from twincar.cli.options import ConfidenceOption, FalseRejectionOption, ModelArgument, model_or_bundled
from twincar.core.options import CONFIDENCE, FALSE_REJECTION, EngineName


def serve(
    model: ModelArgument = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines ask.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="To listen on; 0 takes a free one.")] = 8000,
    engine: Annotated[EngineName, typer.Option(help="What computes; auto is the fastest there.")] = "auto",
    max_queue: Annotated[int, typer.Option(min=1, help="Photos that may wait; further ones get a 503.")] = 128,
    confidence: ConfidenceOption = CONFIDENCE,
    false_rejection: FalseRejectionOption = FALSE_REJECTION,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Ask for the key in FILE (else that in the variable TWINCAR_API_KEY) with every request but probes.  "
            "[default: no key]",
        ),
    ] = None,
    root_path: Annotated[
        str, typer.Option(metavar="PREFIX", help="Where a proxy publishes the server, such as /cars.")
    ] = "",
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN", help="A site whose pages may ask, such as https://cars.example; * for all; repeatable."
        ),
    ] = None,
    access_log: Annotated[bool, typer.Option(help="Log a line for each request to standard error.")] = True,
    grace_period: Annotated[
        int, typer.Option(min=0, metavar="SECONDS", help="To go on listening after SIGTERM, while /readyz says 503.")
    ] = 5,
) -> None:
    """Answer over HTTP, for programs and other machines; /docs tells how to ask."""
    from twincar.deploy.server import HttpSettings, read_api_key, serve
    from twincar.inference.classifier import Classifier

    settings = HttpSettings(
        root_path=root_path,
        allow_origins=tuple(allow_origin or ()),
        api_key=read_api_key(api_key_file, os.environ),
        access_log=access_log,
        grace_period=grace_period,
    )
    named = model_or_bundled(model)
    classifier = Classifier.load(named, engine=engine, min_confidence=confidence, false_rejection=false_rejection)
    serve(classifier, name=Path(named).name, host=host, port=port, queue=max_queue, settings=settings)


def demo(
    model: ModelArgument = None,
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
    named = model_or_bundled(model)
    if space:
        from twincar.deploy.space import write_space

        written = write_space(named, space, examples=examples)
        typer.echo(f"Space: {written}\nTry:   python {written / 'app.py'}")
        typer.echo(f"Next:  hf upload OWNER/NAME {written} . --type space")
        return
    from twincar.deploy.demo import demo

    demo(
        named,
        examples=examples,
        host=host,
        port=port,
        on_start=lambda address: typer.echo(f"Open {address} in a browser; Ctrl-C stops it."),
    )
