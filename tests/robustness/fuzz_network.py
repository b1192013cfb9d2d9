"""Targets of `tests.robustness.fuzz` that come over a network: requests to the server, and responses of a hub."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from tests.robustness.fuzz_models import spec_text
from tests.robustness.fuzz_targets import Reader, Target, photos
from twincar.core.errors import TwinCarError


def request(_: Path) -> Target:
    """The body of a request: the first line is its content type."""
    from twincar.deploy.server.limits import Limits
    from twincar.deploy.server.requests import parse_body
    from twincar.deploy.server.schema import RequestOptions, TeachOptions
    from twincar.inference.results import Failure

    def run(data: bytes) -> None:
        kind, _, body = data.partition(b"\n")
        with suppress(TwinCarError):
            _, car = parse_body(kind.decode("latin-1"), body, Limits(), TeachOptions)
            assert len(car.name) <= 200
        uploads, question = parse_body(kind.decode("latin-1"), body, Limits(), RequestOptions)
        assert 0 < len(uploads) <= Limits().photos
        assert 1 <= question.top_k <= 1000
        for upload in uploads:
            if isinstance(upload, Failure):
                assert str(upload.error).startswith("Expected")
            else:
                assert upload.label.isprintable()
                assert "/" not in upload.label

    part = b'--b\r\nContent-Disposition: form-data; name="photos"; filename="../a.jpg"\r\nX-Y: z\r\n\r\nxx\r\n'
    asked = b'--b\r\nContent-Disposition: form-data; name="top_k"\r\n\r\n3\r\n'
    starred = b"--b\r\nContent-Disposition: form-data; name*=utf-8''photos; filename*=utf-8''%2e%2e%2fa\r\n\r\nx\r\n"
    named = b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\nSeat Arona SUV 2018\r\n'
    as_json = (
        b'application/json\n{"photos": ["aGVsbG8=", "http://x/y", "data:a/b;base64,aGk="], "top_k": 2, "level": "make"}'
    )
    form = b"multipart/form-data; boundary=b\n"
    return Target(
        run,
        [
            form + part + asked + b"--b--\r\n",
            form + starred + b"--b--\r\n",
            form + part + named + b"--b--\r\n",
            as_json,
            b"application/json\n" + b"[" * 3000,
            b"multipart/form-data; boundary=\n",
            b"text/xml\n<!DOCTYPE x>",
        ],
    )


def http_bytes(_: Path) -> Target:
    """Bytes sent to the server's socket."""
    from twincar.deploy.server.app import create_app
    from twincar.deploy.server.limits import Limits
    from twincar.deploy.server.server import server
    from twincar.inference.classifier import Classifier
    from twincar.models.cam.gradcam import HeadWeights
    from twincar.models.engines.base import Engine
    from twincar.models.spec import ModelSpec

    class Colours(Engine):
        """Sees the mean colour."""

        name = "onnxruntime"
        head = HeadWeights(((np.eye(3, dtype=np.float32), np.zeros(3, np.float32)),))  # type: ignore[assignment]

        def logits(self, images: Any) -> Any:
            return images.mean(axis=(1, 2)).astype(np.float32)

        def logits_and_features(self, images: Any) -> Any:
            return self.logits(images), np.ascontiguousarray(images.transpose(0, 3, 1, 2)[:, :, ::8, ::8], np.float32)

    limits = Limits(upload_seconds=5, response_seconds=10)
    classifier = Classifier(Colours(), ModelSpec.from_header(spec_text(), "here"))
    bound = socket.create_server(("127.0.0.1", 0))
    address = bound.getsockname()
    made = server(create_app(classifier, name="cars", limits=limits), limits)
    threading.Thread(target=made.run, args=([bound],), daemon=True).start()

    def run(data: bytes) -> None:
        with socket.create_connection(address, timeout=15) as connection:
            try:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda: connection.recv(65536), b""))
            except (ConnectionError, OSError) as error:
                if isinstance(error, TimeoutError):
                    raise
                answer = b""
        statuses = {int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:2]}
        head = data.partition(b"\r\n\r\n")[0].lower()
        if b"\r\ncontent-length:" in head and b"\r\ntransfer-encoding:" in head:
            assert statuses <= {400}, answer[:300]
        assert not statuses & {500, 501, 502, 504}, answer[:300]
        if not statuses or min(statuses) >= 400:
            raise TwinCarError("refused")  # as a refused file is

    def asking(body: bytes, kind: str, more: str = "") -> bytes:
        head = (
            f"POST /v1/predict HTTP/1.1\r\nHost: x\r\n{more}Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    part = (
        b'--b\r\nContent-Disposition: form-data; name="photos"; filename="a.jpg"\r\n\r\n'
        + photos()[0]
        + b"\r\n--b--\r\n"
    )
    chunked = (
        b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    return Target(
        run,
        [
            asking(part, "multipart/form-data; boundary=b"),
            asking(b'{"photos": ["aGVsbG8="]}', "application/json", "Expect: 100-continue\r\n"),
            chunked + b'18\r\n{"photos": ["aGVsbG8="]}\r\n0\r\n\r\n',
            chunked.replace(b"Transfer", b"Content-Length: 5\r\nTransfer") + b"0\r\n\r\n",
            chunked.replace(b": chunked", b":\r\n chunked") + b"0\r\n\r\n",
            asking(part.replace(b"filename=", b"filename*=UTF-8''"), "multipart/form-data; boundary=b"),
            asking(b'{"photos": ["data:image/png;name=a;base64,_-8\\n"]}', "application/json"),
            b"GET /v1/model HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /docs HTTP/1.0\r\n\r\n",
            b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        ],
    )


def hub(scratch: Path) -> Target:
    """Responses of a hub: the first byte selects which one is mutated."""
    import time

    import httpx2
    from huggingface_hub import set_client_factory

    from twincar.core.hub import Repository, fetch

    commit, cache = "0123456789abcdef0123456789abcdef01234567", scratch / "hub"
    from huggingface_hub import _tree_cache, constants

    constants.HF_HUB_CACHE = str(cache)
    current: list[tuple[bytes, bytes]] = [(b"", b"")]

    def info(sha: str = commit) -> bytes:
        return json.dumps({"id": "a/b", "sha": sha, "private": False, "tags": [], "downloads": 0}).encode()

    def tree(*names: str, oid: str = "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0") -> bytes:
        return json.dumps([{"type": "file", "path": name, "oid": oid, "size": 5} for name in names]).encode()

    def answer(asked: httpx2.Request) -> httpx2.Response:
        which, body = current[0]
        if "/tree/" in asked.url.path:
            return httpx2.Response(200, content=body if which == b"t" else tree("model.onnx"))
        if "/resolve/" not in asked.url.path:
            return httpx2.Response(200, content=body if which == b"i" else info())
        headers = {"ETag": '"b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"', "X-Repo-Commit": commit, "Content-Length": "5"}
        if which == b"h":
            lines = (line.partition(": ") for line in body.decode("latin-1").splitlines())
            headers |= {name: value.replace("\0", "") for name, _, value in lines if name.isascii() and name.strip()}
        return httpx2.Response(200, headers=headers, content=b"" if asked.method == "HEAD" else b"hello")

    set_client_factory(lambda: httpx2.Client(transport=httpx2.MockTransport(answer)))
    time.sleep = lambda _: None  # type: ignore[assignment]  # the library waits between tries

    def run(data: bytes) -> None:
        current[0] = data[:1], data[1:]
        shutil.rmtree(cache, ignore_errors=True)  # what is cached is not asked for
        _tree_cache._IN_MEMORY_TREE_CACHE.clear()
        folder = fetch(Repository("a/b", "model"), ["*"], otherwise="")
        assert folder.resolve().is_relative_to(cache), folder

    return Target(
        run,
        [
            b"i" + info(),
            b"i" + info("../../../evil"),
            b"i" + info("/tmp/evil"),
            b"t" + tree("model.onnx"),
            b"t" + tree("../../../../evil", "/tmp/evil", "a/../../b"),
            b"t" + tree("a", oid="../../../../evil"),
            b'hETag: "../../../evil"\nX-Repo-Commit: ../../evil',
            b"hX-Linked-ETag: /tmp/evil\nLocation: file:///etc/passwd\nX-Linked-Size: 99999999999999999999",
        ],
    )


READERS: dict[str, Reader] = {
    "request": Reader(request, 10),
    "HTTP connection": Reader(http_bytes, 6),
    "hub": Reader(hub, 2),
}
