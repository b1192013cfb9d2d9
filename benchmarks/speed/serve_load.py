"""The server under load and with invalid input: requests a second, latency, memory, and responses to invalid input.

python -m benchmarks.speed.serve_load MODEL PHOTOS [--seconds 60] [--out benchmarks/results/serve.md]

MODEL is an exported file, PHOTOS a folder. `twincar serve` runs as a process of its own; clients are threads of this
one, on the same machine, each with one connection and one photo a request. Only the loopback address is used.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import io
import json
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.measuring import Section
from twincar.core.files import write_text
from twincar.core.listing import find_photos
from twincar.core.machine import available_cores

CLIENTS = (1, 8, 64)
PATH = "/v1/predict"
Address = tuple[str, int]
Answer = tuple[int, str]
"""Status, and what is told."""


@contextmanager
def serving(model: Path) -> Iterator[tuple[int, Address]]:
    """The server's process and its address."""
    flags = "--port 0 --no-access-log --grace-period 0"  # nobody reads the log, and a full pipe would stop the server
    command = [sys.executable, "-m", "twincar", "serve", str(model), *flags.split()]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    try:
        found = re.search(r"http://([\d.]+):(\d+) ", process.stderr.readline())
        assert found, process.stderr.read()
        yield process.pid, (found[1], int(found[2]))
        process.terminate()
        errors = process.communicate(timeout=60)[1]
        assert process.returncode == 0, process.returncode
        assert "Traceback" not in errors, errors
    finally:
        process.kill()


def load(address: Address, pid: int, bodies: Sequence[bytes], clients: int, seconds: float) -> list[str]:
    """A row of the table: a number of clients, each of which sends a request as soon as the last is answered."""
    statuses: Counter[int] = Counter()
    taken: list[float] = []
    before = memory(pid)
    end = time.monotonic() + seconds

    def client(number: int) -> None:
        connection = http.client.HTTPConnection(*address, timeout=60)
        turn = number
        while time.monotonic() < end:
            start = time.perf_counter()
            try:
                connection.request("POST", PATH, bodies[turn % len(bodies)], FORM)
                response = connection.getresponse()
                response.read()
                status = response.status
            except (OSError, http.client.HTTPException):
                connection.close()
                status = 0
            taken.append(time.perf_counter() - start)
            statuses[status] += 1
            turn += clients

    started = time.monotonic()
    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    passed = time.monotonic() - started
    p50, p99 = np.percentile(taken, [50, 99]) * 1000
    return [
        f"{clients}", f"{passed:.0f}", f"{len(taken)}", f"{len(taken) / passed:.1f}", f"{p50:.1f}", f"{p99:.1f}",
        f"{len(taken) - statuses[200]}", f"{before:.0f}", f"{memory(pid):.0f}",
    ]  # fmt: skip


FORM = {"Content-Type": "multipart/form-data; boundary=b"}
JSON = {"Content-Type": "application/json"}


def form(*photos: tuple[str, bytes]) -> bytes:
    """Photos as a browser sends them."""
    parts = (
        f'--b\r\nContent-Disposition: form-data; name="photos"; filename="{name}"\r\n\r\n'.encode() + data + b"\r\n"
        for name, data in photos
    )
    return b"".join(parts) + b"--b--\r\n"


def attacks(photo: bytes) -> dict[str, Callable[[Address], Answer]]:
    """Every invalid input, and how it is sent."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("car.jpg", photo)
    webp = io.BytesIO()
    Image.new("RGB", (16383, 16383)).save(webp, "WEBP", lossless=True, quality=0, method=0)
    listed = [in_base64(photo), "http://127.0.0.1:9/car.jpg", "file:///etc/passwd", "/etc/passwd"]
    post = (
        b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    )
    chunks = [bytes(100_000)] * 1000
    deep, wide = b"[" * 100_000 + b"]" * 100_000, b'{"photos": [' + b"[]," * 5_000_000 + b"[]]}"
    sent = {
        "PNG of 30,000×30,000 pixels": (form(("bomb.png", png_bomb())), FORM),
        "WebP of 16,383×16,383 pixels": (form(("bomb.webp", webp.getvalue())), FORM),
        "zip file": (form(("cars.zip", archive.getvalue())), FORM),
        "empty body, no type": (b"", {}),
        "empty body as form": (b"", FORM),
        "empty body as JSON": (b"", JSON),
        "10,000 tiny files": (form(*((f"{n}.jpg", b"x") for n in range(10_000))), FORM),
        "truncated JPEG": (form(("half.jpg", photo[: len(photo) // 2])), FORM),
        "name with ../": (form(("../../../etc/passwd", photo)), FORM),
        "addresses and paths in JSON": (json.dumps({"photos": listed}).encode(), JSON),
        "JSON nested 100,000 deep": (deep, JSON),
        "JSON with 5,000,000 values": (wide, JSON),
        "announced length of 10 GB": (b"", {**FORM, "Content-Length": "10000000000"}),
    }
    ways: dict[str, Callable[[Address], Answer]] = {
        name: lambda address, body=body, headers=headers: ask(address, body, headers)  # type: ignore[misc]
        for name, (body, headers) in sent.items()
    }
    return {
        **ways,
        "100 MB in chunks, length unannounced": lambda address: ask(address, iter(chunks), FORM),
        "client that stops in the middle of its headers": lambda address: raw(address, post[:40]),
        "client that stops in the middle of its body": lambda address: raw(address, post),
        "no HTTP at all": lambda address: raw(address, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    }


def png_bomb(rows: int = 30_000) -> bytes:
    """A PNG that says it has 900 megapixels, and holds so many rows of them: all are 2.7 GB in 2.6 MB."""
    squeeze = zlib.compressobj(9)
    packed = b"".join(squeeze.compress(bytes(90_001)) for _ in range(rows))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", packed + squeeze.flush()) + chunk(b"IEND", b"")


def ask(address: Address, body: bytes | Iterator[bytes], headers: dict[str, str]) -> Answer:
    """Send a body, and return status and text of the response."""
    connection = http.client.HTTPConnection(*address, timeout=90)
    connection.request("POST", PATH, body, headers)
    response = connection.getresponse()
    return response.status, told(json.loads(response.read()))


def raw(address: Address, data: bytes) -> Answer:
    """Send bytes and nothing after them, and return status and text of the response."""
    with socket.create_connection(address, timeout=90) as connection:
        connection.sendall(data)
        try:
            answer = b"".join(iter(lambda: connection.recv(10_000), b""))
        except ConnectionResetError:
            answer = b""
    if not answer:
        return 0, "The connection is closed."
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), told(json.loads(body)) if body.startswith(b"{") else body.decode()


def told(answer: dict[str, object]) -> str:
    """The error, or the result for each photo."""
    if "error" in answer:
        return str(answer["error"])
    items = answer["predictions"]
    assert isinstance(items, list)
    return " ".join(item.get("error") or f"{item['photo']}: {item['answer'] or item['status']}." for item in items)


def in_base64(data: bytes) -> str:
    """As JSON carries it."""
    return base64.b64encode(data).decode()


def memory(pid: int, what: str = "VmRSS") -> float:
    """Resident memory of a process, or its peak ('VmHWM'), MiB."""
    return int(Path(f"/proc/{pid}/status").read_text(encoding="utf-8").split(f"{what}:")[1].split()[0]) / 1024


def measure_load(model: Path, photos: Sequence[Path], seconds: float) -> Section:
    """Requests a second from 1, 8 and 64 clients, one after the other, of one server."""
    bodies = [form((photo.name, photo.read_bytes())) for photo in photos]
    with serving(model) as (pid, address):
        load(address, pid, bodies, 8, 2)  # not counted
        rows = [load(address, pid, bodies, clients, seconds) for clients in CLIENTS]
    header = ["clients", "seconds", "requests", "requests/s", "p50, ms", "p99, ms", "errors", "MiB before", "MiB after"]
    size = np.mean([len(body) for body in bodies]) / 1024
    note = (
        f"{model.name}, {len(bodies)} photos of {size:.0f} KB on average, one a request; {available_cores()} cores, "
        "clients on the same machine. MiB are the resident memory of the server."
    )
    return Section("Load", header, rows, [note])


def measure_attacks(model: Path, photo: Path) -> Section:
    """Responses to invalid input, and whether the server still works after each."""
    rows = []
    body = form((photo.name, photo.read_bytes()))
    with serving(model) as (pid, address):
        ask(address, body, FORM)
        before = memory(pid)
        for name, attack in attacks(photo.read_bytes()).items():
            start = time.perf_counter()
            status, words = attack(address)
            passed = time.perf_counter() - start
            after = ask(address, body, FORM)[0]
            rows.append([name, str(status or "–"), words, f"{passed:.2f}", str(after)])
        peak = memory(pid, "VmHWM")
        note = f"Resident before: {before:.0f} MiB, after: {memory(pid):.0f} MiB, at most: {peak:.0f} MiB."
    header = ["input", "status", "response", "seconds", "valid photo after it"]
    return Section("Invalid input", header, rows, [note])


def main() -> None:
    """Measure both, and print or write them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.serve_load", description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--seconds", type=float, default=60, help="of load, a number of clients")
    parser.add_argument("--out", type=Path, help="file for the results; printed unless given")
    arguments = parser.parse_args()
    photos = [Path(photo) for photo in find_photos([str(arguments.photos)])][:200]
    sections = [measure_load(arguments.model, photos, arguments.seconds), measure_attacks(arguments.model, photos[0])]
    command = f"`python -m benchmarks.speed.serve_load {arguments.model.name} PHOTOS --seconds {arguments.seconds:g}`"
    text = f"# The server under load and with invalid input\n\n{command}\n\n" + "\n".join(
        section.to_markdown() for section in sections
    )
    if arguments.out:
        write_text(arguments.out, text)
    else:
        print(text)


if __name__ == "__main__":
    main()
