"""The HTTP server: many clients, one model, bounded memory and time; the only user of FastAPI and uvicorn.

limits.py       limits on one request and on all together
settings.py     access, CORS, logging, teaching
codes.py        the codes of errors
access.py       the API keys
requests.py     parses the body of a request; nothing is ever fetched or opened
batching.py     decodes the photos of all requests and predicts for them in batches
schema.py       requests and responses, for the OpenAPI description
descriptions.py what that says about bodies and refusals
served.py       the model that is served now
teaching.py     teaches it cars
counters.py     the metrics for Prometheus
request_log.py  gives every request an id, counts and logs it
middleware.py   responses to errors, and the prefix of a proxy
responses.py    what the server sends
app.py          the routes
quiet.py        silences libraries that write to standard error
strict_http.py  refuses ambiguous HTTP
connection.py   slow clients, and those that are refused while they send
server.py       the process: socket, shutdown
"""

from __future__ import annotations

from twincar.deploy.server.access import read_api_keys
from twincar.deploy.server.server import serve
from twincar.deploy.server.settings import HttpSettings

__all__ = ["HttpSettings", "read_api_keys", "serve"]
