"""A stand-in for the hub on this computer: one data set, spoken of as `huggingface_hub` expects it.

It knows the commit of `main`, lists files, and serves them whole or from a byte on; it can ask for a token, drop a
connection in the middle of a file, or never send the rest.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer:
    """Serves `files` (path: bytes) as the data set `repo` while it is open."""

    def __init__(
        self, files: dict[str, bytes], *, repo: str = "someone/cars", token: str = "", drop_at: int = 0
    ) -> None:
        self.files = files
        self.repo = repo
        self.token = token
        self.drop_at = drop_at
        """Bytes of the first file asked for after which the connection breaks, once."""
        self.fetched: list[tuple[str, str]] = []
        """Path and Range header of every GET of a file."""
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> HubServer:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        hub = self.hub
        if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            self._refuse(401, "RepoNotFound")
        elif info := re.fullmatch(rf"/api/datasets/{hub.repo}(/revision/(?P<revision>.+))?", path):
            self._answer_about(info["revision"])
        elif re.fullmatch(rf"/api/datasets/{hub.repo}/tree/.+", path):
            self._send_json([self._entry(name) for name in hub.files])
        elif file := re.fullmatch(rf"/datasets/{hub.repo}/resolve/[^/]+/(?P<name>.+)", path):
            self._send_file(file["name"])
        else:
            self._refuse(404, "RepoNotFound")

    do_HEAD = do_GET

    def _answer_about(self, revision: str | None) -> None:
        if revision not in (None, "main", COMMIT):
            self._refuse(404, "RevisionNotFound")
            return
        siblings = [{"rfilename": name} for name in self.hub.files]
        self._send_json({"id": self.hub.repo, "sha": COMMIT, "siblings": siblings, "private": False})

    def _entry(self, name: str) -> dict[str, object]:
        data = self.hub.files[name]
        return {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}

    def _send_file(self, name: str) -> None:
        data = self.hub.files.get(name)
        if data is None:
            self._refuse(404, "EntryNotFound")
            return
        wanted = self.headers.get("Range", "")
        start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
        if self.command == "GET":
            self.hub.fetched.append((name, wanted))
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self._finish(data[start:])

    def _finish(self, body: bytes) -> None:
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.hub.drop_at and "resolve" in self.path:
            self.wfile.write(body[: self.hub.drop_at])
            self.hub.drop_at = 0
            self.close_connection = True
            return
        self.wfile.write(body)

    def _send_json(self, value: object) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self._finish(json.dumps(value).encode())

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self._finish(b"")

    def log_message(self, format: str, *args: object) -> None:
        pass
