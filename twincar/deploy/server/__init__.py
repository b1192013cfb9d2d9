"""A trained model behind HTTP: many clients, one model, bounded memory and time; the only user of FastAPI and uvicorn.

limits.py    what one request and all together may take
settings.py  who may ask, from where, what is logged
access.py    the API key
intake.py    the body of a request → photos and the question about them; nothing is ever fetched or opened
batching.py  photos of all requests → answers, in batches
schema.py    what goes in and comes out, for the OpenAPI description
counters.py  what `/metrics` tells
request_log.py  an id, a count and a line for every request
app.py       the addresses
quiet.py     libraries that write to standard error by themselves
strict_http.py  HTTP without what can be read in two ways
server.py    the process: socket, slow clients, stopping
"""

from __future__ import annotations

from twincar.deploy.server.access import read_api_key
from twincar.deploy.server.server import serve
from twincar.deploy.server.settings import HttpSettings

__all__ = ["HttpSettings", "read_api_key", "serve"]
