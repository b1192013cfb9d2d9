"""The server process: its socket and its shutdown."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from prometheus_client import disable_created_metrics

from twincar.core.errors import UsageError
from twincar.core.portable import POSIX
from twincar.core.wording import counted
from twincar.deploy.loopback import LoopbackHosts, is_loopback
from twincar.deploy.server.app import create_app
from twincar.deploy.server.connection import HEAD_BYTES, TimeoutProtocol
from twincar.deploy.server.limits import Limits
from twincar.deploy.server.quiet import quiet_libraries
from twincar.deploy.server.settings import HttpSettings
from twincar.inference.classifier import Classifier

logger = logging.getLogger(__name__)

_NO_LOGIN = "There is no login: whoever reaches port %d of this machine can use it. --api-key-file FILE requires a key."


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
            http_server.on_start = partial(_announce, name, host, bound.getsockname(), app, settings)
            http_server.run([bound])
    finally:
        signal.signal(signal.SIGTERM, before)


def _announce(name: str, host: str, bound: Sequence[Any], app: FastAPI, settings: HttpSettings) -> None:
    """Log what is served where, as an address that a browser can open, whether it can be taught, and if there is no
    login.
    """
    port, listens = bound[1], ip_address(bound[0].partition("%")[0])
    where = f"[{host}]" if ":" in host else host
    if listens.is_unspecified:
        where = "localhost"
    also = ", and at every other address of this computer" if listens.is_unspecified else ""
    cars = len(app.state.service.served.classifier.spec.taught)
    taught = f", as it was taught {counted(cars, 'car')} ({settings.taught})," if cars and settings.taught else ""
    address = f"http://{where}:{port}{settings.root_path}{also}"
    logger.info("Serving %s%s at %s (Ctrl-C stops it)", name, taught, address)
    if settings.allow_teach and settings.taught:
        logger.info("Clients with the key can teach it cars, which are kept in %s.", settings.taught)
    elif settings.allow_teach:
        logger.warning(
            "Clients with the key can teach it cars, which are lost when it stops: --taught FILE keeps them."
        )
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
        h11_max_incomplete_event_size=HEAD_BYTES,
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
