"""The HTTP server: many clients, one model, bounded memory and time; the only user of FastAPI and uvicorn.

limits.py       limits on one request and on all together
settings.py     access, CORS, logging
access.py       the API key
requests.py     parses the body of a request; nothing is ever fetched or opened
batching.py     decodes the photos of all requests and predicts for them in batches
schema.py       requests and responses, for the OpenAPI description
counters.py     the metrics for Prometheus
request_log.py  gives every request an id, counts and logs it
app.py          the routes
quiet.py        silences libraries that write to standard error
strict_http.py  refuses ambiguous HTTP
server.py       the process: socket, slow clients, shutdown
"""

from __future__ import annotations

from twincar.deploy.server.access import read_api_key
from twincar.deploy.server.server import serve
from twincar.deploy.server.settings import HttpSettings

__all__ = ["HttpSettings", "read_api_key", "serve"]
