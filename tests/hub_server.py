"""A stand-in for the hub on this computer: one repository, spoken of as `huggingface_hub` expects it.

It knows revisions, lists files, serves them whole or from a byte on (large ones by way of a second address, as the
hub's storage does), and takes commits: created repositories, large files uploaded ahead, small ones inside the commit.
On demand it asks for a token, drops a connection in the middle of a file, never sends the rest of one, or sends one
that was changed on the way.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".onnx", ".safetensors", ".pth", ".parquet", ".png")
"""What the hub keeps in its storage for large files, by SHA-256."""


class HubServer:
    """Serves `files` (path: bytes) as the data set or model `repo` while it is open; None is: not created yet."""

    def __init__(
        self,
        files: dict[str, bytes] | None,
        *,
        repo: str = "someone/cars",
        kind: str = "datasets",
        token: str = "",
        drop_at: int = 0,
        cut_at: int = 0,
        changed: str = "",
        private: bool = False,
    ) -> None:
        self.commits: dict[str, dict[str, bytes]] = {} if files is None else {COMMIT: files}
        """Files by commit; the last one is the newest."""
        self.messages: list[str] = []
        """Of the commits that were made here."""
        self.repo = repo
        self.kind = kind
        self.private = private
        self.writer: dict[str, Any] = {"name": repo.partition("/")[0], "auth": {"accessToken": {"role": "write"}}}
        """Whose the token is."""
        self.token = token
        self.drop_at = drop_at
        """Bytes of the first file asked for after which the connection breaks, once."""
        self.cut_at = cut_at
        """Bytes of each file after which nothing ever comes."""
        self.changed = changed
        """A file that arrives with other contents of the same length."""
        self.fetched: list[tuple[str, str]] = []
        """Path and Range header of every GET of a file."""
        self.requests: list[str] = []
        """Method and path of every request."""
        self.connections: list[socket.socket] = []
        """All that were ever opened; some stay open for further requests."""
        self.uploaded: dict[str, bytes] = {}
        """Large files by their SHA-256."""
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.storage = f"http://localhost:{self._server.server_port}"

    @property
    def files(self) -> dict[str, bytes]:
        """Of the newest commit."""
        return self.commits[self.head]

    @property
    def head(self) -> str:
        """The newest commit."""
        return list(self.commits)[-1]

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Commit and files of a revision; None if there is none."""
        commit = self.head if revision == "main" and self.commits else revision
        return (commit, self.commits[commit]) if commit in self.commits else None

    def __enter__(self) -> HubServer:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        for connection in self.connections:
            with suppress(OSError):  # the other side may have closed it
                connection.shutdown(socket.SHUT_RDWR)


class HubClient:
    """What the hub's library has read from its environment, set anew: for tests in one process."""

    def __init__(self, patch: pytest.MonkeyPatch, home: Path) -> None:
        self._patch = patch
        self.cache = home / "hub"
        self.set(HF_HUB_CACHE=str(self.cache), HF_HUB_OFFLINE=False, HF_HUB_DISABLE_XET=True)
        self.set(HF_TOKEN_PATH=str(home / "token"))
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            patch.delenv(name, raising=False)
        patch.setattr("huggingface_hub.file_download.time", _Hurry)

    def set(self, **constants: object) -> None:
        """Other constants."""
        for name, value in constants.items():
            self._patch.setattr(f"huggingface_hub.constants.{name}", value)

    def use(self, hub: HubServer, token: str = "") -> None:
        """Speak to this hub, logged in with a token."""
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        self.set(ENDPOINT=hub.url, HUGGINGFACE_CO_URL_TEMPLATE=template)
        self._patch.setenv("HF_TOKEN", token)


class _Hurry:
    """In place of the module `time`, for a library that waits a second before it tries again."""

    @staticmethod
    def sleep(_: float) -> None:
        pass


def git_hash(data: bytes) -> str:
    """The name git gives to a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def sha256(data: bytes) -> str:
    """In hexadecimal."""
    return hashlib.sha256(data).hexdigest()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing to tell: clients may go away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def setup(self) -> None:
        super().setup()
        self.hub.connections.append(self.connection)

    def do_GET(self) -> None:
        path = unquote(self.path.split("?")[0])
        hub = self.hub
        hub.requests.append(f"{self.command} {path}")
        prefix = "" if hub.kind == "models" else f"/{hub.kind}"
        if stored := re.fullmatch(r"/storage/(?P<hash>[0-9a-f]{64})/(?P<name>.+)", path):
            self._send_stored(stored["hash"], stored["name"])  # its address is a secret of its own
        elif self._is_refused():
            self._refuse(401, "RepoNotFound")
        elif path == "/api/whoami-v2":
            self._send_json(hub.writer)
        elif not hub.commits:
            self._refuse(404, "RepoNotFound")
        elif info := re.fullmatch(rf"/api/{hub.kind}/{hub.repo}(/revision/(?P<revision>.+))?", path):
            self._answer_about(info["revision"] or "main")
        elif tree := re.fullmatch(rf"/api/{hub.kind}/{hub.repo}/tree/(?P<revision>[^/]+)(/.*)?", path):
            self._list(tree["revision"])
        elif file := re.fullmatch(rf"{prefix}/{hub.repo}/resolve/(?P<revision>[^/]+)/(?P<name>.+)", path):
            self._send_file(file["revision"], file["name"])
        else:
            self._refuse(404, "RepoNotFound")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        path, body, hub = unquote(self.path.split("?")[0]), self._body(), self.hub
        hub.requests.append(f"{self.command} {path}")
        if path == "/api/validate-yaml":
            self._validate(json.loads(body)["content"])
        elif self._is_refused():
            self._refuse(401, "")
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path == f"/api/{hub.kind}/{hub.repo}/preupload/main":
            files = [file["path"] for file in json.loads(body)["files"]]
            modes = [(name, "lfs" if name.endswith(LARGE) else "regular") for name in files]
            self._send_json(
                {"files": [{"path": name, "uploadMode": mode, "shouldIgnore": False} for name, mode in modes]}
            )
        elif path == f"/{hub.repo}.git/info/lfs/objects/batch":
            self._say_where_to_put(json.loads(body)["objects"])
        elif path == f"/api/{hub.kind}/{hub.repo}/commit/main":
            self._commit([json.loads(line) for line in body.splitlines()])
        else:
            self._refuse(404, "RepoNotFound")

    def do_PUT(self) -> None:
        data, name = self._body(), self.path.rpartition("/")[2]
        self.hub.requests.append(f"PUT {self.path}")
        if sha256(data) != name:
            self._refuse(400, "")
            return
        self.hub.uploaded[name] = data
        self._send_json({})

    def _is_refused(self) -> bool:
        return bool(self.hub.token) and self.headers.get("Authorization") != f"Bearer {self.hub.token}"

    def _answer_about(self, revision: str) -> None:
        found = self.hub.at(revision)
        if found is None:
            self._refuse(404, "RevisionNotFound")
            return
        siblings = [{"rfilename": name} for name in found[1]]
        self._send_json(
            {"id": self.hub.repo, "sha": found[0], "siblings": siblings, "private": self.hub.private, "tags": []}
        )

    def _list(self, revision: str) -> None:
        found = self.hub.at(revision)
        if found is None:
            self._refuse(404, "RevisionNotFound")
            return
        self._send_json([_entry(name, data) for name, data in found[1].items()])

    def _create(self, asked: dict[str, Any]) -> None:
        hub = self.hub
        name = f"{asked['organization']}/{asked['name']}"
        if name != hub.repo:
            self._refuse(403, "")
        elif hub.commits:
            self._refuse(409, "", json.dumps({"error": "exists", "url": f"{hub.url}/{name}"}).encode())
        else:
            hub.private = asked.get("visibility") == "private" or bool(asked.get("private"))
            hub.commits[COMMIT] = {".gitattributes": b"*.onnx filter=lfs\n"}
            self._send_json({"url": f"{hub.url}/{name}", "name": name})

    def _say_where_to_put(self, objects: list[dict[str, Any]]) -> None:
        answers = []
        for item in objects:
            actions = {"actions": {"upload": {"href": f"{self.hub.url}/storage/{item['oid']}"}}}
            answers.append({**item, **({} if item["oid"] in self.hub.uploaded else actions)})
        self._send_json({"transfer": "basic", "objects": answers})

    def _commit(self, lines: list[dict[str, Any]]) -> None:
        hub, files = self.hub, dict(self.hub.files)
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                hub.messages.append(value["summary"])
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = hub.uploaded[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        commit = hashlib.sha1(repr((hub.head, sorted(files))).encode()).hexdigest()
        hub.commits[commit] = files
        self._send_json({"commitUrl": f"{hub.url}/{hub.repo}/commit/{commit}", "commitOid": commit})

    def _validate(self, card: str) -> None:
        from huggingface_hub import ModelCard

        known = ModelCard(card).data.license in (None, "other", "mit", "apache-2.0", "cc-by-4.0")
        errors = [] if known else [{"message": '"license" must be one of apache-2.0, mit and others'}]
        self._send_json({"errors": errors, "warnings": []}, 200 if known else 400)

    def _send_file(self, revision: str, name: str) -> None:
        found = self.hub.at(revision)
        data = found[1].get(name) if found else None
        if found is None or data is None:
            self._refuse(404, "EntryNotFound" if found else "RevisionNotFound")
            return
        if not name.endswith(LARGE):
            self._send_data(name, data, {"ETag": f'"{git_hash(data)}"', "X-Repo-Commit": found[0]})
            return
        self.send_response(302)
        self.send_header("Location", f"{self.hub.storage}/storage/{sha256(data)}/{name}")
        self.send_header("X-Linked-ETag", f'"{sha256(data)}"')
        self.send_header("X-Linked-Size", str(len(data)))
        self.send_header("X-Repo-Commit", found[0])
        self._finish(b"")

    def _send_stored(self, name_by_hash: str, name: str) -> None:
        everything = [data for files in self.hub.commits.values() for data in files.values()]
        self._send_data(name, next(data for data in everything if sha256(data) == name_by_hash), {})

    def _send_data(self, name: str, data: bytes, headers: dict[str, str]) -> None:
        if self.hub.changed == name:
            data = data[:-1] + bytes([data[-1] ^ 1])
        wanted = self.headers.get("Range", "")
        start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
        if self.command == "GET":
            self.hub.fetched.append((name, wanted))
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        for header, value in headers.items():
            self.send_header(header, value)
        self._finish(data[start:], self._bytes_to_send(start))

    def _bytes_to_send(self, start: int) -> int | None:
        """After how many bytes the connection breaks; None if it does not."""
        if self.command == "HEAD":
            return None
        drop, self.hub.drop_at = self.hub.drop_at, 0
        if self.hub.cut_at:
            return max(0, self.hub.cut_at - start)
        return drop or None

    def _finish(self, body: bytes, stop: int | None = None) -> None:
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body[:stop])
        if stop is not None:
            self.close_connection = True

    def _send_json(self, value: object, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self._finish(json.dumps(value).encode())

    def _refuse(self, status: int, code: str, body: bytes = b"") -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self._finish(body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _entry(name: str, data: bytes) -> dict[str, object]:
    entry: dict[str, object] = {"type": "file", "path": name, "size": len(data), "oid": git_hash(data)}
    if name.endswith(LARGE):
        entry["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 134}
    return entry
