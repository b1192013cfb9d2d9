"""The page that computes in a browser, as tests see it: served here, with packages that npm has in its cache."""

from __future__ import annotations

import base64
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from twincar.deploy.web_runtime import PACKAGE, VERSION


@cache
def npm_package(name: str) -> bytes:
    """A package from npm's cache; `make browser` fills it. Skips the test where it is not there."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm on the PATH")
    with tempfile.TemporaryDirectory() as scratch:
        command = [npm, "pack", "--offline", "--silent", "--pack-destination", scratch, name]
        subprocess.run(command, cwd=scratch, check=False, capture_output=True)
        for file in Path(scratch).glob("*.tgz"):
            return file.read_bytes()
    pytest.skip(f"{name} is not in npm's cache; make browser fetches it")


def runtime_file(folder: Path) -> Path:
    """The package of onnxruntime-web as a file."""
    file = folder / "onnxruntime-web.tgz"
    file.write_bytes(npm_package(f"{PACKAGE}@{VERSION}"))
    return file


class _Quiet(SimpleHTTPRequestHandler):
    cache = ""

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""

    def end_headers(self) -> None:
        if self.cache:
            self.send_header("Cache-Control", self.cache)
        super().end_headers()


@contextmanager
def served(folder: Path, cache: str = "") -> Iterator[str]:
    """The address of a folder, as `python -m http.server` serves it; localhost counts as secure.

    `cache` is a Cache-Control header for every file.
    """
    handler = type("_Handler", (_Quiet,), {"cache": cache})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}/"
        server.shutdown()


_LOAD = """async (threads) => {
  const folder = new URL(".", document.querySelector("script[type=module]").src);
  const { Client } = await import(new URL("client.js", folder));
  window.client = new Client();
  await window.client.load(await (await fetch(new URL("settings.json", folder))).json(), threads);
}"""
_NAME = """async (data) => {
  const file = new Blob([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))]);
  return await window.client.name(file, "the photo");
}"""


def open_page(tab: Any, address: str) -> None:
    """Until the page has loaded itself again and can compute on threads."""
    tab.goto(address)
    tab.locator("body[data-isolated]").wait_for()


def name_photos(tab: Any, photos: Sequence[Path], threads: int = 1) -> list[dict[str, Any]]:
    """What the page computes for photos, one after the other; the tab has the page open."""
    tab.evaluate(_LOAD, threads)
    return [tab.evaluate(_NAME, base64.b64encode(photo.read_bytes()).decode()) for photo in photos]
