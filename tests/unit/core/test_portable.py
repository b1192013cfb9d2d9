"""What stands in for the functions that not every system has; that system is simulated."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from disks import rename_as_on_windows

from twincar.core import portable
from twincar.core.errors import UsageError
from twincar.core.files import clear_unfinished, working_folder
from twincar.core.runs import RunFolder
from twincar.core.user_files import read_bounded
from twincar.deploy.server.server import _listen


class Msvcrt:
    """Windows' module of that name; one process holds a byte of a file."""

    LK_NBLCK = 2

    def __init__(self) -> None:
        self.held: set[int] = set()

    def locking(self, descriptor: int, mode: int, count: int) -> None:
        assert (mode, count) == (self.LK_NBLCK, 1)
        at = os.lseek(descriptor, 0, os.SEEK_CUR)
        if at in self.held:
            raise PermissionError(errno.EACCES, "Permission denied")
        self.held.add(at)


def test_a_run_is_locked_without_fcntl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    windows = Msvcrt()
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", windows)  # type: ignore[arg-type]
    run = RunFolder(tmp_path)
    with run.locked():
        assert (tmp_path / "train.lock").read_text(encoding="utf-8").startswith(f"process {os.getpid()} on ")
        with pytest.raises(UsageError, match=rf"but process {os.getpid()} on .* is training it"), run.locked():
            pass
    assert min(windows.held) > os.path.getsize(tmp_path / "train.lock")  # noqa: PTH202  # what it holds stays readable


def test_no_process_is_sent_a_signal_where_none_is_a_question(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On Windows signal 0 is Ctrl-C; temporary files are then judged by their age."""
    monkeypatch.setattr(portable, "POSIX", False)
    monkeypatch.setattr(os, "kill", None)
    with working_folder(tmp_path / "new") as new, working_folder(tmp_path / "old") as old:
        os.utime(old, (0, 0))
        clear_unfinished(tmp_path)
        assert new.exists()
        assert not old.exists()


def test_an_empty_folder_may_have_the_name_already(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rename_as_on_windows(monkeypatch)
    folder, empty, full = tmp_path / "folder", tmp_path / "empty", tmp_path / "full"
    for path in (folder, empty, full, full / "kept"):
        path.mkdir()
    with pytest.raises(PermissionError):
        portable.rename_folder(folder, full)
    portable.rename_folder(folder, empty)
    assert [path.name for path in sorted(tmp_path.rglob("*"))] == ["empty", "full", "kept"]


def test_a_process_is_found_while_it_runs() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert portable.is_running(child.pid) is True
    assert portable.is_running(child.pid) is False


def test_files_are_read_without_the_flags_of_posix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has neither of them; it has a text mode, which changes what is read, and opens no folders."""
    asked: list[int] = []
    opened = os.open

    def open_file(path: Any, wanted: int) -> int:
        asked.append(wanted)
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, os.O_RDONLY)

    for name in ("O_NONBLOCK", "O_NOCTTY", "O_NOFOLLOW"):
        monkeypatch.delattr(os, name)
    monkeypatch.setattr(os, "O_BINARY", 0x8000, raising=False)
    monkeypatch.setattr(os, "open", open_file)
    file = tmp_path / "photo.jpg"
    file.write_bytes(b"one\r\ntwo")
    assert read_bounded(file) == b"one\r\ntwo"
    with pytest.raises(IsADirectoryError):
        read_bounded(tmp_path)
    assert asked == [os.O_RDONLY | 0x8000] * 2


@pytest.mark.parametrize(("posix", "options"), [(True, 1), (False, 0)])
def test_a_port_is_not_shared(monkeypatch: pytest.MonkeyPatch, posix: bool, options: int) -> None:
    """SO_REUSEADDR lets a POSIX server start again at once, and a second one on Windows take its clients."""
    asked: list[tuple[int, ...]] = []
    socket = SimpleNamespace(setsockopt=lambda *option: asked.append(option), bind=str, listen=int)
    monkeypatch.setattr("twincar.deploy.server.server.POSIX", posix)
    monkeypatch.setattr("socket.socket", lambda *_: socket)
    assert _listen("127.0.0.1", 8000) is socket
    assert len(asked) == options
