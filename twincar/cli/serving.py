"""Verbs that serve a model: serve, demo."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from twincar.cli.options import (
    ConfidenceOption,
    DetectOption,
    DetectorOption,
    FalseRejectionOption,
    ModelArgument,
    detect_options,
    model_or_bundled,
)
from twincar.core.errors import UsageError
from twincar.core.options import CONFIDENCE, FALSE_REJECTION, EngineName

ApiKeyFileOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Require a key of FILE, one a line, or of TWINCAR_API_KEY, for every request except probes.  "
        "[default: no key]",
    ),
]
RuntimeOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="With --static: onnxruntime-web as 'npm pack' writes it.  [default: npm fetches it]"
    ),
]
TitleOption = Annotated[
    str | None, typer.Option(help="With --static: title of the page.  [default: Which car is this?]")
]


def serve(
    model: ModelArgument = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for other machines.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 chooses a free one.")] = 8000,
    engine: Annotated[EngineName, typer.Option(help="Inference engine; auto is the fastest installed.")] = "auto",
    detect: DetectOption = "auto",
    detector: DetectorOption = None,
    max_queue: Annotated[int, typer.Option(min=1, help="Photos that may wait; further ones get a 503.")] = 128,
    confidence: ConfidenceOption = CONFIDENCE,
    false_rejection: FalseRejectionOption = FALSE_REJECTION,
    api_key_file: ApiKeyFileOption = None,
    root_path: Annotated[
        str, typer.Option(metavar="PREFIX", help="Where a proxy publishes the server, such as /cars.")
    ] = "",
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN",
            help="Origin whose pages may send requests, such as https://cars.example; * for all; repeatable.",
        ),
    ] = None,
    access_log: Annotated[bool, typer.Option(help="Log a line for each request to standard error.")] = True,
    grace_period: Annotated[
        int, typer.Option(min=0, metavar="SECONDS", help="Time to keep listening after SIGTERM, while /readyz is 503.")
    ] = 5,
    allow_teach: Annotated[
        bool, typer.Option("--allow-teach", help="Let clients with the key teach the model cars: POST /v1/teach.")
    ] = False,
    taught: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --allow-teach: keep the taught model in FILE, .onnx, and serve it if it is there.  "
            "[default: in memory, until the server stops]",
        ),
    ] = None,
) -> None:
    """Serve predictions over HTTP, for programs and other machines; /docs is the documentation."""
    from twincar.deploy.server import HttpSettings, read_api_keys, serve
    from twincar.inference.classifier import Classifier

    settings = HttpSettings(
        root_path=root_path,
        allow_origins=tuple(allow_origin or ()),
        api_keys=read_api_keys(api_key_file, os.environ),
        access_log=access_log,
        grace_period=grace_period,
        allow_teach=allow_teach,
        taught=taught,
    )
    named = model_or_bundled(model)
    classifier = Classifier.load(
        named,
        engine=engine,
        detection=detect_options(detect, detector),
        min_confidence=confidence,
        false_rejection=false_rejection,
    )
    serve(classifier, name=Path(named).name, host=host, port=port, queue=max_queue, settings=settings)


def demo(
    model: ModelArgument = None,
    detect: DetectOption = "auto",
    detector: DetectorOption = None,
    examples: Annotated[Path | None, typer.Option(help="Folder of example photos.")] = None,
    space: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write the files of a Hugging Face space to DIR, and serve nothing."),
    ] = None,
    static: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write a page that computes in the visitor's browser to DIR; serve nothing."),
    ] = None,
    runtime: RuntimeOption = None,
    title: TitleOption = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.  [default: 127.0.0.1, this computer only]")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port.  [default: the first free one from 7860 on]")
    ] = None,
) -> None:
    """Try a model in the browser: the answer for each car in a photo, its probability and a heatmap."""
    if space and static:
        raise UsageError("Expected one of --space and --static, but found both.")
    if (space or static) and (host or port):
        raise UsageError("Expected --host and --port without --space and --static, which serve nothing.")
    if (runtime or title) and not static:
        raise UsageError("Expected --runtime and --title only with --static DIR, but found one without it.")
    named = model_or_bundled(model)
    if space:
        from twincar.deploy.space import write_space

        written = write_space(named, space, examples=examples)
        typer.echo(f"Space: {written}\nTry:   python {written / 'app.py'}")
        typer.echo(f"Next:  hf upload OWNER/NAME {shlex.quote(str(written))} . --type space")
        return
    if static:
        from twincar.deploy.static_demo import TITLE, write_static_demo

        detection = detect_options(detect, detector)
        page = write_static_demo(
            named, static, detection=detection, examples=examples, runtime=runtime, title=title or TITLE
        )
        typer.echo(f"Page:  {page.path}, of which a first visit loads {page.bytes / 1e6:.1f} MB")
        typer.echo(f"Try:   python -m http.server --bind 127.0.0.1 --directory {page.path}")
        return
    from twincar.deploy.demo import demo

    demo(
        named,
        detection=detect_options(detect, detector),
        examples=examples,
        host=host,
        port=port,
        on_start=lambda address: typer.echo(f"Open {address} in a browser; Ctrl-C stops it."),
    )
