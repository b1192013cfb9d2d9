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

from twincar.serving.server import serve

__all__ = ["serve"]
