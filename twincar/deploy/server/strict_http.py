"""Refuse ambiguous HTTP/1.1, which makes request smuggling behind a proxy possible.

h11 refuses most of it by itself. This module refuses what RFC 9112 allows a server to accept: both framings in one
request (section 6.1), folded headers (5.2), lines without a carriage return (2.2). No client in use sends these.
"""

from __future__ import annotations

import re

import h11

_END = re.compile(rb"\n\r?\n")
_LENIENT = re.compile(rb"(?<!\r)\n|\n[ \t]")


class StrictConnection(h11.Connection):
    """A server connection that refuses ambiguous requests; `fault` says why."""

    fault = ""

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """The next event.

        Raises:
            h11.RemoteProtocolError: the request is not valid HTTP, or ambiguous.
        """
        if self.their_state is h11.IDLE:
            received, _ = self.trailing_data
            end = _END.search(received)
            if _LENIENT.search(received, 0, end.end() if end else len(received)):
                self._refuse("Expected header lines that end in CRLF and are not folded, but the request has others.")
        event = super().next_event()
        if isinstance(event, h11.Request):
            names = {name for name, _ in event.headers}
            if {b"content-length", b"transfer-encoding"} <= names:
                self._refuse("Expected either Content-Length or Transfer-Encoding, but the request has both.")
            if b"transfer-encoding" in names and event.http_version < b"1.1":
                self._refuse("Expected Transfer-Encoding in HTTP/1.1 only, but the request is of an older version.")
        return event

    def _refuse(self, fault: str) -> None:
        self.fault = fault
        raise h11.RemoteProtocolError(fault)
