"""Give every request an id, count it, and log it in one line."""

from __future__ import annotations

import logging
import re
import time
import uuid
from datetime import datetime

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twincar.deploy.server.counters import Counters

logger = logging.getLogger(__name__)

REQUEST_ID = "X-Request-ID"
_SANE_ID = re.compile(r"[\w.:+/=-]{1,128}", re.ASCII)  # the id of a proxy is kept, so that both logs can be joined
_PATH = 200  # characters of a path that are logged
_METHODS = ("GET", "HEAD", "POST", "DELETE", "OPTIONS")


class RequestLog:
    """The outermost middleware, which sees every response."""

    def __init__(self, app: ASGIApp, counters: Counters, access_log: bool) -> None:
        self.app = app
        self.counters = counters
        self.access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500
        sent = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = sent if _SANE_ID.fullmatch(sent) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        finally:
            seconds = time.perf_counter() - start
            route = getattr(scope.get("route"), "path", "other")  # an arbitrary path must not become a label
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self.counters.requests.labels(method, route, status).inc()
            self.counters.seconds.labels(route).observe(seconds)
            if self.access_log:
                logger.info("%s", _line(scope, status, seconds, request_id))


def log_rejected(client: str, status: str, request_id: str) -> None:
    """Log a request that was rejected before it was understood, so that its method and path are not known."""
    logger.info("%s", _line_of(client, "- -", status, 0.0, request_id))


def _line(scope: Scope, status: int, seconds: float, request_id: str) -> str:
    """The line of a request; without the query, which may contain secrets."""
    client = (scope.get("client") or ("-",))[0]
    path = scope["raw_path"].decode("latin-1")[:_PATH]
    return _line_of(client, f"{scope['method']} {path}", str(status), seconds, request_id)


def _line_of(client: str, request: str, status: str, seconds: float, request_id: str) -> str:
    """Time, client, request, status, seconds, id."""
    when = datetime.now().astimezone().isoformat(timespec="milliseconds")
    return f"{when} {client} {request} {status} {seconds:.3f}s {request_id}"
