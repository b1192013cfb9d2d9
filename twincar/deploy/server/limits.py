"""What a request may take, and what all of them together may: bytes, photos, pixels, seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from starlette.requests import ClientDisconnect, Request

from twincar.core.errors import TwinCarError

Reason = Literal["too large", "queue full", "memory full", "slow client", "too slow", "not understood", "no key"]
"""Why a request got no answer, for the counters."""

_MIB = 2**20
RETRY = {"Retry-After": "1"}
"""Header: seconds after which another try is worth it."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request may take, unless said otherwise."""

    request_bytes: int = 32 * _MIB
    photo_bytes: int = 16 * _MIB
    photo_pixels: int = 50_000_000
    """Pixels; decoding takes up to 20 bytes for each for a moment."""
    photos: int = 32
    held_bytes: int = 256 * _MIB
    """Of all requests' bodies together."""
    queue: int = 128
    """Photos of all requests together that wait or are worked on."""
    upload_seconds: float = 30.0
    """For a request to arrive whole."""
    answer_seconds: float = 30.0
    """From there to its answer."""


class Refusal(TwinCarError):
    """A request that gets no answer; never leaves the server but as JSON."""

    def __init__(self, status: int, reason: Reason, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.headers = headers


def count_photos(count: int) -> str:
    """A number of photos in words, such as '1 photo'."""
    return f"{count} photo{'s' * (count != 1)}"


class ByteBudget:
    """Bounds the bytes of all bodies that are in memory at one time."""

    def __init__(self, most: int) -> None:
        self._free = most

    @contextmanager
    def account(self) -> Iterator[Callable[[int], None]]:
        """Yield the function that takes a number of bytes; all are given back at the end.

        Raises:
            Refusal: (that function) no room is left.
        """
        taken = 0

        def take(count: int) -> None:
            nonlocal taken
            if count > self._free:
                message = "Expected room for another upload, but the server holds as many as it can: try again."
                raise Refusal(503, "memory full", message, RETRY)
            self._free -= count
            taken += count

        try:
            yield take
        finally:
            self._free += taken


async def read_body(request: Request, limits: Limits, take: Callable[[int], None]) -> bytes:
    """The body of a request.

    Args:
        request: of which nothing was read yet.
        limits: on its bytes and seconds. An announced length that is too much is refused before anything is read.
        take: called with the number of bytes before they are kept.

    Raises:
        Refusal: too large, too slow, or the client has gone.
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
                take(len(chunk))
                body += chunk
    except TimeoutError:
        message = f"Expected the whole request within {limits.upload_seconds:.0f} seconds, but part of it is missing."
        raise Refusal(408, "slow client", message, {"Connection": "close"}) from None
    except ClientDisconnect:
        raise Refusal(400, "slow client", "Expected the whole request, but the client has gone.") from None
    return bytes(body)


def _too_large(limits: Limits) -> Refusal:
    message = f"Expected a request of at most {limits.request_bytes // _MIB} MiB, but found more. Send fewer photos."
    return Refusal(413, "too large", message)
