"""Access control of the demo: clients reach only the routes that its page needs, and the uploaded photos.

A client may name any path. Only a regular file of limited size in the upload folder is read, and no link is followed.
Everything else is refused with one message, which does not reveal which files exist.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from twincar.core.errors import Defect, PhotoError
from twincar.core.portable import flags

_VARIABLE = "GRADIO_TEMP_DIR"  # where Gradio puts uploads, and what it serves
_API = "/gradio_api/"
_FILE = f"{_API}file="
_NEEDED = (
    *("app_id", "call", "cancel", "heartbeat", "info", "login_check", "queue", "reset", "run", "startup-events"),
    *("theme.css", "upload", "upload_progress"),
)
"""The routes of Gradio's API that the page and Gradio's client need. Others download URLs, record, and edit code."""
MOST_FILES = 1000
"""Files in the upload folder above which no photo is taken, until older ones are deleted."""


class PageOnly:
    """ASGI middleware that responds 404 to everything that Gradio serves beyond the page and the uploads.

    While `MOST_FILES` uploads are kept, it responds 503 to another.
    """

    def __init__(self, app: ASGIApp, folder: Path) -> None:
        self._app, self._folder = app, folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http" and not self._is_needed(scope["path"]):
            await PlainTextResponse("Not found", 404)(scope, receive, send)
            return
        if scope["type"] == "http" and scope["path"] == f"{_API}upload" and self._is_full():
            await PlainTextResponse("Too many photos were uploaded; try again later.", 503)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_full(self) -> bool:
        files = (name for _, _, names in os.walk(self._folder) for name in names)
        return sum(1 for _ in islice(files, MOST_FILES)) == MOST_FILES

    def _is_needed(self, path: str) -> bool:
        if path.startswith(_FILE):
            return bool(upload_path(path.removeprefix(_FILE), self._folder))
        return not path.startswith(_API) or path.removeprefix(_API).partition("/")[0] in _NEEDED


@contextmanager
def own_folder() -> Iterator[Path]:
    """A temporary folder for the uploads of this process; Gradio's own folder is shared by all apps."""
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
    """The normalised path that a client names, if it lies in `folder` without links; else empty."""
    if not isinstance(path, str) or "\0" in path or not Path(path).is_absolute():
        return ""
    plain = os.path.normpath(path)  # before any access: nothing outside the folder is checked, not even for existence
    return plain if Path(plain).is_relative_to(folder) and os.path.realpath(plain) == plain else ""


def read_upload(path: object, folder: Path, *, max_bytes: int) -> bytes:
    """The bytes of an uploaded photo.

    Args:
        path: the path that a client names.
        folder: the upload folder, without links in its path.
        max_bytes: larger files are refused.

    Raises:
        PhotoError: it is not an uploaded file, or no longer exists.
    """
    if found := upload_path(path, folder):
        try:
            # Without O_NONBLOCK, opening a named pipe would wait for a writer.
            with os.fdopen(os.open(found, os.O_RDONLY | flags("O_NOFOLLOW", "O_NONBLOCK")), "rb") as file:
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
