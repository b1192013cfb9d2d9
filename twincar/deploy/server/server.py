"""The server process: its socket, limits on slow and many clients, and its shutdown."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import signal
import socket
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from types import FrameType
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from prometheus_client import disable_created_metrics
from uvicorn.protocols.http.h11_impl import H11Protocol

from twincar.core.errors import UsageError
from twincar.core.portable import POSIX
from twincar.core.wording import counted
from twincar.deploy.loopback import LoopbackHosts, is_loopback
from twincar.deploy.server.app import create_app
from twincar.deploy.server.codes import OtherCode
from twincar.deploy.server.limits import RETRY, Limits
from twincar.deploy.server.quiet import quiet_libraries
from twincar.deploy.server.request_log import REQUEST_ID, log_rejected
from twincar.deploy.server.settings import HttpSettings
from twincar.deploy.server.strict_http import StrictConnection
from twincar.inference.classifier import Classifier

logger = logging.getLogger(__name__)

_HEAD_BYTES = 16 * 1024  # of a request's line and headers
_HEAD_SECONDS = 10.0  # for them to arrive, and for the rest of a refused request
_READING_SECONDS = 30.0  # for a client to read its response
_CONNECTIONS = 512  # at one time
_NO_LOGIN = "There is no login: whoever reaches port %d of this machine can use it. --api-key-file FILE requires a key."


class TimeoutProtocol(H11Protocol):
    """Uvicorn's HTTP protocol with time limits for slow headers, slow readers and idle connections."""

    conn: StrictConnection
    head_seconds = _HEAD_SECONDS
    reading_seconds = _READING_SECONDS
    most_connections = _CONNECTIONS
    _deadline: asyncio.TimerHandle | None = None

    def __init__(self, *arguments: Any, access_log: bool, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._access_log = access_log
        self.conn = StrictConnection(h11.SERVER, self.config.h11_max_incomplete_event_size or _HEAD_BYTES)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request."""
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:
            self._reject(
                "503 Service Unavailable",
                "too_many_connections",
                "Too many connections are open. Try again in a second.",
                RETRY,
            )
        else:
            self._wait_at_most(self.head_seconds)

    def data_received(self, data: bytes) -> None:
        """Keep the time limit until the headers of a request are complete."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._wait_no_more()
        elif self._deadline is None:
            self._wait_at_most(self.head_seconds)

    def pause_writing(self) -> None:
        """Limit the time in which the client must read."""
        super().pause_writing()
        self._wait_at_most(self.reading_seconds)

    def resume_writing(self) -> None:
        """The client has read."""
        super().resume_writing()
        self._wait_no_more()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the time limit."""
        self._wait_no_more()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Wait for another request; uvicorn's own timer limits that, unless bytes keep coming."""
        self._wait_no_more()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # its parent's text
        """Respond to a request that is not valid HTTP, or ambiguous."""
        general = "Expected a valid HTTP request with headers of at most 16 KB, but this is not one."
        self._reject("400 Bad Request", "invalid_http", self.conn.fault or general)

    def _reject(self, status: str, code: OtherCode, message: str, more: Mapping[str, str] | None = None) -> None:
        body, request_id = json.dumps({"error": message, "code": code}), uuid.uuid4().hex
        headers = {"Content-Type": "application/json", "Content-Length": len(body), "Connection": "close"}
        headers[REQUEST_ID] = request_id
        if self._access_log:
            log_rejected((self.client or ("-",))[0], status.partition(" ")[0], request_id)
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in {**headers, **(more or {})}.items())]
        self.transport.write("\r\n".join([*lines, "", body]).encode())
        self.transport.close()

    def _wait_at_most(self, seconds: float) -> None:
        self._wait_no_more()
        self._deadline = self.loop.call_later(seconds, self.transport.abort)

    def _wait_no_more(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class DrainingServer(uvicorn.Server):
    """Uvicorn's server, which after SIGTERM keeps serving until load balancers have seen that it is not ready."""

    def __init__(self, config: uvicorn.Config, grace_period: float, on_drain: Callable[[], None]) -> None:
        """Prepare to run.

        Args:
            config: uvicorn's.
            grace_period: seconds from SIGTERM until it stops listening; a second signal ends that at once.
            on_drain: called at SIGTERM.
        """
        if not config.loaded:
            config.load()  # now, because a signal may come before uvicorn would
        super().__init__(config)
        self.on_start: Callable[[], None] = lambda: None
        """Called once it takes requests and handles signals."""
        self._grace_period = grace_period
        self._on_drain = on_drain
        self._stop_at: float | None = None
        self._cut_off = 0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain on SIGTERM. On Ctrl-C finish the requests in progress; on a second one end them."""
        if sig != signal.SIGTERM:
            again = self.should_exit
            # Not from here: the signal may have come while a line of the log was written.
            asyncio.get_running_loop().call_soon_threadsafe(self._abort if again else self._tell_stopping)
            if not again:
                super().handle_exit(sig, frame)
        elif self._stop_at is not None:
            self._stop_at = 0.0
        else:
            self._stop_at = time.monotonic() + self._grace_period
            self._on_drain()
            self.config.encoded_headers.append((b"connection", b"close"))  # so that clients reconnect elsewhere

    def _tell_stopping(self) -> None:
        if count := len(self.server_state.tasks):
            progress = f"{counted(count, 'request')} in progress"
            logger.info("Stopping; %s will be finished first. Ctrl-C again ends the server at once.", progress)

    def _abort(self) -> None:
        """End the requests in progress; what follows is the same as if they had ended by themselves."""
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # it would print where each of them was
        self._cut_off += len(self.server_state.tasks)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        for task in self.server_state.tasks:
            task.cancel()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and tell."""
        await super().startup(sockets)
        self.on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish, and say what became of the requests in progress."""
        await super().shutdown(sockets)
        cut_off = f"{counted(self._cut_off, 'request')} in progress cut off"
        logger.info("Stopped; %s.", cut_off if self._cut_off else "every request in progress was finished")

    async def on_tick(self, counter: int) -> bool:
        """Check, ten times a second, whether to stop."""
        return await super().on_tick(counter) or (self._stop_at is not None and time.monotonic() >= self._stop_at)


def serve(
    classifier: Classifier,
    *,
    name: str,
    host: str = "127.0.0.1",
    port: int = 8000,
    queue: int = 128,
    settings: HttpSettings | None = None,
) -> None:
    """Serve over HTTP until the process is stopped; requests in progress are then finished.

    Args:
        classifier: the model; if `settings` has a file of what it was taught before, that is served.
        name: the name of the model for clients.
        host: address to listen on.
        port: port to listen on; 0 chooses a free one.
        queue: photos that may wait or be processed at one time; further ones are refused.
        settings: access, CORS, teaching and logging; see `HttpSettings`.

    Raises:
        UsageError: the address or port is not available, or the model is to be taught and cannot be.
        KeyboardInterrupt: after Ctrl-C, once all requests are finished, or ended by a second one; after SIGTERM it
            returns.
    """
    settings = settings or HttpSettings()
    limits = Limits()
    limits = replace(limits, queue=queue, photos=min(limits.photos, queue))
    quiet_libraries()
    # Otherwise every counter has a creation time, which Prometheus' text format does not support.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    app = create_app(classifier, name=name, limits=limits, settings=settings)
    if is_loopback(host):
        app.add_middleware(LoopbackHosts)
    http_server = server(app, limits, settings=settings)
    before = signal.signal(signal.SIGTERM, http_server.handle_exit)  # before clients can connect
    try:
        with _listen(host, port) as bound:
            http_server.on_start = partial(_announce, name, host, bound.getsockname(), settings)
            http_server.run([bound])
    finally:
        signal.signal(signal.SIGTERM, before)


def _announce(name: str, host: str, bound: Sequence[Any], settings: HttpSettings) -> None:
    """Log where the server listens, as an address that a browser can open, and that there is no login."""
    port, listens = bound[1], ip_address(bound[0].partition("%")[0])
    where = f"[{host}]" if ":" in host else host
    if listens.is_unspecified:
        where = "localhost"
    also = ", and at every other address of this computer" if listens.is_unspecified else ""
    logger.info("Serving %s at http://%s:%d%s%s (Ctrl-C stops it)", name, where, port, settings.root_path, also)
    if not settings.api_keys and not listens.is_loopback:
        logger.warning(_NO_LOGIN, port)


def server(
    app: FastAPI,
    limits: Limits,
    protocol: type[TimeoutProtocol] = TimeoutProtocol,
    settings: HttpSettings | None = None,
) -> DrainingServer:
    """A uvicorn server for an application of `create_app`."""
    for log in ("uvicorn", "uvicorn.error", "python_multipart"):  # errors of clients are counted, not logged
        logging.getLogger(log).setLevel(logging.ERROR)
    settings = settings or HttpSettings()
    config = uvicorn.Config(
        app,
        http=partial(protocol, access_log=settings.access_log),  # type: ignore[arg-type]  # it is only called
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=_HEAD_BYTES,
        timeout_graceful_shutdown=round(limits.upload_seconds + limits.response_seconds + protocol.reading_seconds),
    )
    return DrainingServer(config, settings.grace_period, app.state.service.drain)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        if POSIX:  # on Windows it would let two servers listen on one port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen()  # clients can connect from here on; they get responses as soon as the loop runs
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"Expected to listen on port {port} of {host}, but that failed: {reason}. {_way_out(error)}"
        ) from None
    return bound


def _way_out(error: Exception) -> str:
    """The option that is wrong if a server cannot listen."""
    if isinstance(error, socket.gaierror) or getattr(error, "errno", None) == errno.EADDRNOTAVAIL:
        return "Choose another --host: an address of this computer, 0.0.0.0 for all of them."
    return "Choose another --port; 0 takes a free one."
