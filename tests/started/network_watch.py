"""In a Python process: every try to reach another computer is noted in the file NETWORK_LOG, and fails.

Its children are watched too. What a socket only learns, such as which of this computer's addresses it would have, sends
nothing and is let through.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from typing import Any

_LOOKUPS = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")
_SENDING = ("socket.connect", "socket.sendto", "socket.sendmsg")


def _is_here(host: object) -> bool:
    if host in (None, "", b"", "localhost", b"localhost", socket.gethostname()):
        return True
    try:
        address = ipaddress.ip_address(host.decode() if isinstance(host, bytes) else str(host))
    except ValueError:
        return False
    return address.is_loopback or _is_own(address)


def _is_own(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether it is one of this computer's: only to such can a socket be bound."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def _goes_out(event: str, arguments: tuple[Any, ...]) -> bool:
    if event in _LOOKUPS:
        return not _is_here(arguments[0])
    if event not in _SENDING or arguments[1] is None:
        return False
    sender, address = arguments[0], arguments[1]
    if sender.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    only_learns = event == "socket.connect" and sender.type == socket.SOCK_DGRAM
    return not only_learns and not _is_here(address[0])


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event.startswith("socket.") and _goes_out(event, arguments):
        with open(os.environ["NETWORK_LOG"], "a", encoding="utf-8") as log:  # noqa: PTH123  # as early as this
            log.write(f"{event} {arguments[-1 if event in _SENDING else 0]} {sys.argv}\n")
        raise PermissionError(f"no network in this test: {event}")


def begin() -> None:
    """Watch this process, and those that it starts."""
    sys.addaudithook(_watch)
