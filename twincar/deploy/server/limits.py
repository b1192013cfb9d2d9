"""Limits on one request and on all together: bytes, photos, pixels, seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request

from twincar.core.errors import TwinCarError
from twincar.deploy.server.codes import AnyRefusalCode

_MIB = 2**20
RETRY = {"Retry-After": "1"}
"""Header: seconds after which the client should try again."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits on one request, unless the field says otherwise."""

    request_bytes: int = 32 * _MIB
    photo_bytes: int = 16 * _MIB
    photo_pixels: int = 50_000_000
    """Pixels; decoding takes up to 20 bytes for each for a moment."""
    photos: int = 32
    held_bytes: int = 256 * _MIB
    """Bytes of the bodies of all requests together."""
    queue: int = 128
    """Photos of all requests together that wait or are processed."""
    upload_seconds: float = 30.0
    """Seconds for a request to arrive completely."""
    response_seconds: float = 30.0
    """Seconds from then to its response."""


class Refusal(TwinCarError):
    """A refused request; the server sends it as JSON."""

    def __init__(
        self,
        status: int,
        code: AnyRefusalCode,
        message: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers


class ByteBudget:
    """Limits the bytes of all request bodies that are in memory at one time."""

    def __init__(self, most: int) -> None:
        self._free = most

    @contextmanager
    def reserve(self) -> Iterator[Callable[[int], None]]:
        """Yield a function that reserves a number of bytes; all are released at the end.

        Raises:
            Refusal: (by that function) there is no room.
        """
        reserved = 0

        def reserve(count: int) -> None:
            nonlocal reserved
            if count > self._free:
                message = "Expected room for another upload, but the server holds as many as it can: try again."
                raise Refusal(503, "memory_full", message, RETRY)
            self._free -= count
            reserved += count

        try:
            yield reserve
        finally:
            self._free += reserved


async def read_body(request: Request, limits: Limits, reserve: Callable[[int], None]) -> bytes:
    """The body of a request.

    Args:
        request: a request of which nothing has been read yet.
        limits: on its bytes and seconds. A declared length above the limit is refused before anything is read.
        reserve: called with the number of bytes before they are kept.

    Raises:
        Refusal: the body is too large or too slow, or the client has disconnected.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced[:20]) > limits.request_bytes:
        raise _too_large(limits)
    body = bytearray()
    try:
        async with asyncio.timeout(limits.upload_seconds):
            async for chunk in request.stream():
                if len(body) + len(chunk) > limits.request_bytes:
                    raise _too_large(limits)
                reserve(len(chunk))
                body += chunk
    except TimeoutError:
        message = f"Expected the whole request within {limits.upload_seconds:.0f} seconds, but part of it is missing."
        raise Refusal(408, "client_too_slow", message, {"Connection": "close"}) from None
    except ClientDisconnect:
        raise Refusal(400, "client_too_slow", "Expected the whole request, but the client has disconnected.") from None
    return bytes(body)


def _too_large(limits: Limits) -> Refusal:
    message = f"Expected a request of at most {limits.request_bytes // _MIB} MiB, but found more. Send fewer photos."
    return Refusal(413, "too_large", message)
