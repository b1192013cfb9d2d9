"""Refuse requests for other host names if a server listens on this computer only; needs Starlette.

A foreign page can make its own host name resolve to 127.0.0.1 (DNS rebinding). For the browser, the server then belongs
to that page, which may send requests and read the responses. Such a request still has the page's name as its Host.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_MISDIRECTED = 421


class LoopbackHosts:
    """ASGI middleware that passes on requests whose Host header, if there is one, names this computer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        host = Headers(scope=scope).get("host") if scope["type"] in ("http", "websocket") else None
        if host is None or is_loopback(_name_in(host)):
            await self._app(scope, receive, send)
            return
        message = (
            f"Expected a request to 'localhost' or a loopback address, but its Host header is {host[:200]!r}. This "
            "server listens on this computer only: let a proxy in front of it send 'Host: localhost', or start it "
            "with --host."
        )
        await JSONResponse({"error": message, "code": "wrong_host"}, _MISDIRECTED)(scope, receive, send)


def is_loopback(host: str) -> bool:
    """Whether a name or an address means this computer itself.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "localhost.example.org")]
    [True, True, True, False, False]
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().removesuffix(".") == "localhost"


def _name_in(header: str) -> str:
    """The name in a Host header, without its port; empty if it is not valid.

    >>> _name_in("[::1]:8000"), _name_in("evil.example:80"), _name_in("[")
    ('::1', 'evil.example', '')
    """
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""
