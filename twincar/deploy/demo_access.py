"""What clients of the demo can reach: the addresses its page needs, and the photos that were uploaded to it.

A client may name any path. Only a regular file in the folder of the uploads is read, not through a link, and of bounded
size. All else is refused in the same words, so that a refusal tells nothing about which files there are.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from twincar.core.errors import Defect, PhotoError

_VARIABLE = "GRADIO_TEMP_DIR"  # where Gradio puts uploads, and what it serves
_API = "/gradio_api/"
_FILE = f"{_API}file="
_NEEDED = (
    *("app_id", "call", "cancel", "heartbeat", "info", "login_check", "queue", "reset", "run", "startup-events"),
    *("theme.css", "upload", "upload_progress"),
)
"""What the page and Gradio's own client ask of its API. The rest fetches addresses, records, and edits code."""


class PageOnly:
    """ASGI middleware that answers 404 for what Gradio serves beyond the page and the uploads."""

    def __init__(self, app: ASGIApp, folder: Path) -> None:
        self._app, self._folder = app, folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        if scope["type"] == "http" and not self._is_needed(scope["path"]):
            await PlainTextResponse("Not found", 404)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_needed(self, path: str) -> bool:
        if path.startswith(_FILE):
            return bool(upload_path(path.removeprefix(_FILE), self._folder))
        return not path.startswith(_API) or path.removeprefix(_API).partition("/")[0] in _NEEDED


@contextmanager
def own_folder() -> Iterator[Path]:
    """A folder for the uploads of this process alone, deleted in the end; Gradio itself has one for all apps."""
    before = os.environ.get(_VARIABLE)
    if before:
        Path(before).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="twincar-demo-", dir=before, ignore_cleanup_errors=True) as folder:
        os.environ[_VARIABLE] = os.path.realpath(folder)
        try:
            yield Path(os.environ[_VARIABLE])
        finally:
            del os.environ[_VARIABLE]
            if before:
                os.environ[_VARIABLE] = before


def upload_path(path: object, folder: Path) -> str:
    """A path that a client names, without '..', if it leads into `folder` by no link; else empty."""
    if not isinstance(path, str) or "\0" in path or not Path(path).is_absolute():
        return ""
    plain = os.path.normpath(path)  # nothing outside the folder is looked at, not even whether it is there
    return plain if Path(plain).is_relative_to(folder) and os.path.realpath(plain) == plain else ""


def read_upload(path: object, folder: Path, *, max_bytes: int) -> bytes:
    """The bytes of an uploaded photo.

    Args:
        path: what a client names.
        folder: where uploads are, without links in its path.
        max_bytes: larger files are refused.

    Raises:
        PhotoError: it is not an uploaded file, or is not there any more.
    """
    if found := upload_path(path, folder):
        try:
            # Without O_NONBLOCK the open would wait for whoever writes to a named pipe.
            with os.fdopen(os.open(found, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
                data = file.read(max_bytes + 1) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b""
        except OSError:
            data = b""
        if 0 < len(data) <= max_bytes:
            return data
    raise PhotoError(
        Defect.MISSING,
        f"Expected a photo that was uploaded to this page, of at most {max_bytes // 1_000_000} MB, but there is none. "
        "Choose it again.",
    )
