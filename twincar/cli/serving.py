"""The verb that answers over HTTP: serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twincar.choices import CONFIDENCE, FALSE_REJECTION, EngineName
from twincar.cli.options import ConfidenceOption, FalseRejectionOption


def serve(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="Exported .onnx or OpenVINO folder, run folder, .safetensors, or .pth."),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines ask.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="To listen on; 0 takes a free one.")] = 8000,
    engine: Annotated[EngineName, typer.Option(help="What computes; auto is the fastest there.")] = "auto",
    max_queue: Annotated[int, typer.Option(min=1, help="Photos that may wait; further ones get a 503.")] = 128,
    confidence: ConfidenceOption = CONFIDENCE,
    false_rejection: FalseRejectionOption = FALSE_REJECTION,
) -> None:
    """Answer over HTTP, for programs and other machines; /docs tells how to ask."""
    from twincar.predict import Classifier
    from twincar.serving import serve

    classifier = Classifier.load(model, engine=engine, confidence=confidence, false_rejection=false_rejection)
    serve(classifier, name=Path(model).name, host=host, port=port, queue=max_queue)
