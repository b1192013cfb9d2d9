"""A soak test of the server: ten minutes of valid and invalid requests; memory, open files, status of each response.

python -m tests.robustness.soak_server MODEL PHOTOS [--minutes 10] [--out benchmarks/results/soak_server.md]

MODEL is an exported file, PHOTOS a folder. `twincar serve` runs in a separate process on the loopback interface. Two
clients send valid and invalid requests as fast as they are answered; other clients never finish their requests. After
the first fifth of the time memory must be constant: the slope of a line fitted to it is at most `BOUND`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.measuring import Section
from benchmarks.speed.serve_load import FORM, JSON, PATH, Address, form, in_base64, memory, png_bomb, serving
from twincar.core.files import write_text
from twincar.core.listing import find_photos

BOUND = 1.0
"""MiB a minute."""
WARM_UP = 0.2
"""Share of the time before which memory may grow: threads and buffers are still being made."""
_CLIENTS = 2
_WINDOWS = 40
_EVERY = 0.5  # seconds between two looks at the process
CLOSED = 0
"""In place of a status: the connection is closed without an answer."""

Send = Callable[[Address], int]


@dataclass(frozen=True)
class Ask:
    """A kind of request, how it is sent, and the status that is expected."""

    name: str
    send: Send
    deserves: frozenset[int]


@dataclass
class Soaked:
    """Measurements of the server; times in seconds, memory in MiB."""

    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    """By the name of the request."""
    undeserved: list[str] = field(default_factory=list)
    """Requests that got another status than they deserve."""
    times: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    """Open file descriptors."""
    files_idle: tuple[int, int] = (0, 0)
    """Open file descriptors before and after, with no client there."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, ask: Ask, status: int) -> None:
        """Count one response."""
        with self._lock:
            self.statuses.setdefault(ask.name, Counter())[status] += 1
            if status not in ask.deserves:
                self.undeserved.append(f"{ask.name}: {status}")

    @property
    def requests(self) -> int:
        """Number of requests sent."""
        return sum(counts.total() for counts in self.statuses.values())

    @property
    def slope(self) -> float:
        """Growth of memory after the warm-up, MiB a minute, by least squares.

        A request under way holds up to 40 MiB for a moment, so the line is fitted to the minimum of every window.
        """
        windows = min(_WINDOWS, len(self.times) // 2)  # two looks a window at least, in a soak of seconds too
        parts = np.array_split(np.arange(len(self.times)), windows)[round(WARM_UP * windows) :]
        least = [min(part, key=self.memory.__getitem__) for part in parts]
        times = [self.times[place] / 60 for place in least]
        return float(np.polyfit(times, [self.memory[place] for place in least], 1)[0])


def asks(photos: Sequence[bytes]) -> list[Ask]:
    """Requests that are answered at once, valid and invalid."""
    photo = photos[0]
    many = json.dumps({"photos": [in_base64(data) for data in photos[:4]], "top_k": 2, "explain": True}).encode()
    half = (
        b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nContent-Length: 9999\r\n\r\n{"
    )
    huge = {**FORM, "Content-Length": str(2**34)}
    chunks = [bytes(2**20)] * 40
    bomb, wide = png_bomb(9), b'{"photos": [' + b"[]," * 500_000 + b"[]]}"
    posts: list[tuple[str, Callable[[], bytes | Iterator[bytes]], dict[str, str], int]] = [
        *((f"photo {number}", lambda data=data: form(("car", data)), FORM, 200) for number, data in enumerate(photos)),
        ("four photos as JSON, explained", lambda: many, JSON, 200),
        ("good photo beside a broken one", lambda: form(("a", photo), ("b", photo[:300])), FORM, 200),
        ("photo cut in half", lambda: form(("half", photo[: len(photo) // 2])), FORM, 422),
        ("text as a photo", lambda: form(("text", b"<svg xmlns='http://www.w3.org/2000/svg'/>")), FORM, 422),
        ("PNG of 900 megapixels", lambda: form(("bomb", bomb)), FORM, 413),
        ("an address as a photo", lambda: b'{"photos": ["http://127.0.0.1:9/a.jpg"]}', JSON, 422),
        ("40 MiB in chunks", lambda: iter(chunks), FORM, 413),
        ("announced length of 16 GiB", lambda: b"", huge, 413),
        ("JSON with 500,000 values", lambda: wide, JSON, 413),
        ("JSON that breaks off", lambda: b'{"photos": ["', JSON, 400),
        ("JSON nested 100,000 deep", lambda: b"[" * 100_000, JSON, 413),
        ("form without an end", lambda: form(("car", photo))[:-9], FORM, 400),
        ("form with an unknown question", lambda: b'{"photos": [], "colour": true}', JSON, 422),
        ("a photo as the body", lambda: photo, {"Content-Type": "image/jpeg"}, 200),
        ("a photo as text", lambda: photo, {"Content-Type": "text/plain"}, 415),
    ]
    made = [
        Ask(name, lambda address, body=body, headers=headers: post(address, body(), headers), frozenset({status, 503}))  # type: ignore[misc]
        for name, body, headers, status in posts
    ]
    routes = [
        ("GET", "/healthz", 200),
        ("GET", "/metrics", 200),
        ("GET", "/v1/model", 200),
        ("GET", "/nothing", 404),
        ("GET", "/../../etc/passwd", 404),
        ("DELETE", PATH, 405),
    ]
    made += [
        Ask(f"{method} {route}", lambda address, m=method, r=route: plain(address, m, r), frozenset({status}))  # type: ignore[misc]
        for method, route, status in routes
    ]
    raws = [
        ("cut in its headers", half[:40], CLOSED),
        ("cut in its body", half, CLOSED),
        ("no HTTP", b"\x16\x03\x01\r\n\r\n", 400),
    ]
    made += [
        Ask(name, lambda address, d=data, wait=bool(status): cut(address, d, wait), frozenset({status}))  # type: ignore[misc]
        for name, data, status in raws
    ]
    return made


def patient_asks() -> list[Ask]:
    """Clients that stop sending and wait until the server closes the connection."""
    head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return [
        Ask("waits in its headers", lambda address: cut(address, head[:40], True), frozenset({CLOSED})),
        Ask("waits in its body", lambda a: cut(a, head + b"Content-Length: 99\r\n\r\n{", True), frozenset({408})),
        Ask("a header byte a second", lambda address: drip(address, head), frozenset({CLOSED})),
        Ask("says nothing at all", lambda address: cut(address, b"", True), frozenset({CLOSED})),
    ]


def post(address: Address, body: bytes | Iterator[bytes], headers: dict[str, str]) -> int:
    """The status of a request; one that is refused early may be closed while its body is still on the way."""
    connection = http.client.HTTPConnection(*address, timeout=90)
    try:
        try:
            connection.request("POST", PATH, body, headers)
        except (BrokenPipeError, ConnectionResetError):
            if not isinstance(body, bytes):
                return 413  # of a body without a length the answer may be lost with the connection
            raise
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def plain(address: Address, method: str, route: str) -> int:
    """The status of a request without a body."""
    connection = http.client.HTTPConnection(*address, timeout=90)
    connection.request(method, route)
    status = connection.getresponse().status
    connection.close()
    return status


def cut(address: Address, data: bytes, wait: bool) -> int:
    """Send bytes, then disconnect or wait for the response."""
    with socket.create_connection(address, timeout=90) as connection:
        connection.sendall(data)
        return heard(connection) if wait else CLOSED


def drip(address: Address, data: bytes) -> int:
    """Send a byte a second until the server closes the connection."""
    with socket.create_connection(address, timeout=1) as connection:
        for number in range(len(data)):
            try:
                connection.sendall(data[number : number + 1])
                return heard(connection)
            except TimeoutError:
                continue
            except OSError:
                return CLOSED
    return -1


def heard(connection: socket.socket) -> int:
    """The status of the response."""
    try:
        answer = b"".join(iter(lambda: connection.recv(10_000), b""))
    except ConnectionResetError:
        return CLOSED
    return int(answer.split()[1]) if answer else CLOSED


def soak(address: Address, pid: int, photos: Sequence[bytes], seconds: float, *, patient: bool) -> Soaked:
    """Send all kinds of requests repeatedly for the given time.

    Args:
        address: of the server.
        pid: its process.
        photos: valid ones.
        seconds: duration.
        patient: whether some clients wait until the server closes the connection, half a minute at most.
    """
    seen, quick = Soaked(), asks(photos)
    for ask in quick:  # not counted; what is made once is made now
        ask.send(address)
    idle = count_files(pid)
    slow = patient_asks() if patient else []
    start = time.monotonic()
    with ThreadPoolExecutor(_CLIENTS + len(slow)) as pool:
        mixes = [*([quick] * _CLIENTS), *([ask] for ask in slow)]
        clients = [pool.submit(_client, seen, mix, address, start + seconds, seed) for seed, mix in enumerate(mixes)]
        while time.monotonic() < start + seconds:
            seen.times.append(time.monotonic() - start)
            seen.memory.append(memory(pid))
            seen.files.append(count_files(pid))
            time.sleep(_EVERY)
        for client in clients:
            client.result()
    deadline = time.monotonic() + 60
    while count_files(pid) > idle and time.monotonic() < deadline:
        time.sleep(0.1)  # connections that clients have left take the server a moment
    seen.files_idle = idle, count_files(pid)
    return seen


def _client(seen: Soaked, mix: list[Ask], address: Address, end: float, seed: int) -> None:
    """Send all kinds of requests, each time in another order."""
    order = random.Random(seed)
    while True:
        for ask in order.sample(mix, len(mix)):
            if time.monotonic() >= end:
                return
            try:
                status = ask.send(address)
            except (OSError, http.client.HTTPException) as error:
                status = -1
                seen.undeserved.append(f"{ask.name}: {error!r}")
            seen.note(ask, status)


def count_files(pid: int) -> int:
    """Open file descriptors of a process."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def report(seen: Soaked) -> Section:
    """Requests and responses, and the memory and open files of the process."""
    rows = [
        [name, str(counts.total()), ", ".join(f"{status or 'closed'}: {n}" for status, n in sorted(counts.items()))]
        for name, counts in sorted(seen.statuses.items())
    ]
    notes = [
        f"{seen.requests} requests in {seen.times[-1]:.0f} seconds; {len(seen.undeserved)} got a status they did not "
        f"deserve{': ' + '; '.join(seen.undeserved[:5]) if seen.undeserved else ''}.",
        f"Memory: {seen.memory[0]:.0f} MiB at first, {seen.memory[-1]:.0f} at last, {max(seen.memory):.0f} at most; "
        f"after the first fifth of the time what it keeps grew by {seen.slope:.2f} MiB a minute (bound: {BOUND}).",
        f"Open files with no client there: {seen.files_idle[0]} before, {seen.files_idle[1]} after; "
        f"{max(seen.files)} at most.",
    ]
    return Section("Soak", ["request", "times", "statuses"], rows, notes)


def main() -> None:
    """Run the test, print or write the results, and fail if the server failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.robustness.soak_server", description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--out", type=Path, help="file for the results; printed unless given")
    arguments = parser.parse_args()
    photos = [Path(photo).read_bytes() for photo in find_photos([str(arguments.photos)])][:20]
    with serving(arguments.model) as (pid, address):
        seen = soak(address, pid, photos, arguments.minutes * 60, patient=True)
    command = f"`python -m tests.robustness.soak_server {arguments.model.name} PHOTOS --minutes {arguments.minutes:g}`"
    text = f"# The server, soaked\n\n{command}\n\n{report(seen).to_markdown()}"
    if arguments.out:
        write_text(arguments.out, text)
    else:
        print(text)
    flat = seen.slope <= BOUND and seen.files_idle[1] <= seen.files_idle[0]
    sys.exit(0 if flat and not seen.undeserved else 1)


if __name__ == "__main__":
    main()
