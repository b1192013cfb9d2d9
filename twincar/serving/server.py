"""The process: its socket, clients that are too slow or too many, and how it stops."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
from dataclasses import replace

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from twincar.errors import UsageError
from twincar.loopback import guarded
from twincar.predict import Classifier
from twincar.serving.app import create_app
from twincar.serving.limits import Limits

logger = logging.getLogger(__name__)

_HEAD_BYTES = 16 * 1024  # of a request's line and headers
_HEAD_SECONDS = 10.0  # for them to arrive, and for what is left of a request that was turned away
_READING_SECONDS = 30.0  # for a client to take its answer
_CONNECTIONS = 512  # at one time


class PatientProtocol(H11Protocol):
    """Uvicorn's HTTP, with an end to patience: it has none for slow headers, slow readers, and idle connections."""

    head_seconds = _HEAD_SECONDS
    reading_seconds = _READING_SECONDS
    most_connections = _CONNECTIONS
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:
            self._turn_away("503 Service Unavailable", "Too many connections are open. Try again in a second.")
        else:
            self._wait_at_most(self.head_seconds)

    def data_received(self, data: bytes) -> None:
        """Go on waiting while no request is whole enough to be under way."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._wait_no_more()
        elif self._deadline is None:
            self._wait_at_most(self.head_seconds)

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        super().pause_writing()
        self._wait_at_most(self.reading_seconds)

    def resume_writing(self) -> None:
        """It has read."""
        super().resume_writing()
        self._wait_no_more()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._wait_no_more()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Wait for another request; uvicorn's own timer ends that, unless bytes go on coming."""
        self._wait_no_more()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # its parent's text
        """Answer what is no HTTP."""
        self._turn_away("400 Bad Request", "Expected an HTTP request with headers of at most 16 KB, and found none.")

    def _turn_away(self, status: str, message: str) -> None:
        body = json.dumps({"error": message})
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self.transport.write(f"{head}Retry-After: 1\r\nConnection: close\r\n\r\n{body}".encode())
        self.transport.close()

    def _wait_at_most(self, seconds: float) -> None:
        self._wait_no_more()
        self._deadline = self.loop.call_later(seconds, self.transport.abort)

    def _wait_no_more(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def serve(classifier: Classifier, *, name: str, host: str = "127.0.0.1", port: int = 8000, queue: int = 128) -> None:
    """Answer over HTTP until the process is told to stop; what is under way is then finished.

    Args:
        classifier: the model.
        name: what clients see of where it comes from.
        host: address to listen on.
        port: to listen on; 0 takes a free one.
        queue: photos that may wait or be worked on at one time; further ones are turned away.

    Raises:
        UsageError: nothing can listen there.
        KeyboardInterrupt: Ctrl-C, once all is finished; on SIGTERM it returns.
    """
    limits = Limits()
    limits = replace(limits, queue=queue, photos=min(limits.photos, queue))
    made = server(guarded(create_app(classifier, name=name, limits=limits), host), limits)
    # When it has stopped, uvicorn raises the signal again that told it to; of SIGTERM, the process would die.
    before = signal.signal(signal.SIGTERM, lambda *_: setattr(made, "should_exit", True))
    try:
        with _listen(host, port) as bound:
            where = f"[{host}]" if ":" in host else host
            logger.info("Serving %s at http://%s:%d (Ctrl-C stops it)", name, where, bound.getsockname()[1])
            made.run([bound])
    finally:
        signal.signal(signal.SIGTERM, before)
    logger.info("Stopped; every request that was under way is answered.")


def server(app: object, limits: Limits, protocol: type[PatientProtocol] = PatientProtocol) -> uvicorn.Server:
    """A uvicorn server for an application."""
    for log in ("uvicorn", "uvicorn.error"):  # what clients do wrong is in the counters
        logging.getLogger(log).setLevel(logging.ERROR)
    return uvicorn.Server(
        uvicorn.Config(
            app,  # type: ignore[arg-type]
            http=protocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=_HEAD_BYTES,
            timeout_graceful_shutdown=round(limits.upload_seconds + limits.answer_seconds + protocol.reading_seconds),
        )
    )


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen()  # from here on clients may come; they are answered as soon as the loop runs
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"Expected to listen on port {port} of {host}, and cannot: {reason}. Choose another --port (0 takes a free "
            "one) or --host."
        ) from None
    return bound
