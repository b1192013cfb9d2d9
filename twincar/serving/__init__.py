"""A trained model behind HTTP: many clients, one model, bounded memory and time; the only user of FastAPI and uvicorn.

limits.py    what one request and all together may take
intake.py    the body of a request → photos and the question about them; nothing is ever fetched or opened
batching.py  photos of all requests → answers, in batches
schema.py    what goes in and comes out, for the OpenAPI description
counters.py  what `/metrics` tells
app.py       the addresses
server.py    the process: socket, slow clients, stopping
"""

from __future__ import annotations

from twincar.errors import MissingExtraError
from twincar.predict import Classifier


def serve(classifier: Classifier, *, name: str, host: str = "127.0.0.1", port: int = 8000, queue: int = 128) -> None:
    """Answer over HTTP until the process is told to stop; what is under way is then finished.

    Args:
        classifier: the model.
        name: what clients see of where it comes from.
        host: address to listen on.
        port: to listen on; 0 takes a free one.
        queue: photos that may wait or be worked on at one time; further ones are turned away.

    Raises:
        MissingExtraError: FastAPI, uvicorn or what they need is not installed.
        UsageError: nothing can listen there.
        KeyboardInterrupt: Ctrl-C, once all is finished; on SIGTERM it returns.
    """
    try:
        from twincar.serving.server import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "twincar":
            raise
        raise MissingExtraError(
            f"Serving needs {error.name}, which is not installed: pip install 'twincar[serve]'"
        ) from None
    run(classifier, name=name, host=host, port=port, queue=queue)
