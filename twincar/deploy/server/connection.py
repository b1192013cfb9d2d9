"""One connection: limits on slow and many clients, and responses to what is not HTTP."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from twincar.deploy.server.codes import OtherCode
from twincar.deploy.server.limits import RETRY
from twincar.deploy.server.request_log import REQUEST_ID, log_rejected
from twincar.deploy.server.strict_http import StrictConnection

HEAD_BYTES = 16 * 1024
"""Most bytes of a request's line and headers."""
_HEAD_SECONDS = 10.0  # for them to arrive, and for the rest of a refused request
_READING_SECONDS = 30.0  # for a client to read its response
_CONNECTIONS = 512  # at one time


class _Lingering:
    """A transport that, told to close while the client is sending, only says that no more will be sent.

    To close it would reset the connection, and a client that sends a large photo would lose the response that says why
    it was refused (RFC 9112, section 9.6). What it still sends is to be read and thrown away, for a limited time.
    """

    def __init__(self, transport: asyncio.Transport, conn: h11.Connection, seconds: float) -> None:
        """Wrap a transport.

        Args:
            transport: asyncio's.
            conn: the state of the connection; not the protocol, which only the garbage collector could free then.
            seconds: time for the client to close after it was told.
        """
        self._transport = transport
        self._conn = conn
        self._seconds = seconds
        self.lingers = False
        self._limit: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Close it, or wait for the client to do so."""
        if self.lingers or self._conn.their_state not in (h11.SEND_BODY, h11.ERROR):
            self._transport.close()
            return
        self.lingers = True
        with suppress(OSError):  # the client has closed it already
            self._transport.write_eof()
        self._transport.resume_reading()
        self._limit = asyncio.get_running_loop().call_later(self._seconds, self._transport.abort)

    def wait_no_more(self) -> None:
        """The client has closed it; a time limit that runs on would keep the transport."""
        if self._limit is not None:
            self._limit.cancel()

    def is_closing(self) -> bool:
        """Whether nothing more can be sent."""
        return self.lingers or self._transport.is_closing()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class TimeoutProtocol(H11Protocol):
    """Uvicorn's HTTP protocol with time limits for slow headers, slow readers and idle connections."""

    conn: StrictConnection
    transport: _Lingering  # type: ignore[assignment]
    head_seconds = _HEAD_SECONDS
    reading_seconds = _READING_SECONDS
    most_connections = _CONNECTIONS
    _deadline: asyncio.TimerHandle | None = None

    def __init__(self, *arguments: Any, access_log: bool, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._access_log = access_log
        self.conn = StrictConnection(h11.SERVER, self.config.h11_max_incomplete_event_size or HEAD_BYTES)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request."""
        super().connection_made(_Lingering(transport, self.conn, self.head_seconds))  # type: ignore[arg-type]
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
        if self.transport.lingers:
            return
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
        """Cancel the time limits."""
        self._wait_no_more()
        super().connection_lost(exc)
        self.transport.wait_no_more()  # last, because uvicorn closes it again

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
