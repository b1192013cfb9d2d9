from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from conftest import killed_while_making
from disks import files_no_larger_than

from twincar.core.config import read_yaml
from twincar.core.errors import DataError, StorageError, TwinCarError, storage_errors
from twincar.core.files import (
    atomic_path,
    clear_unfinished,
    is_unfinished,
    read_json,
    sha256_of,
    sha256_of_file,
    working_folder,
    write_bytes,
    write_json,
)
from twincar.core.user_files import read_bounded, text_name
from twincar.data.exclusions import read_exclusions


def test_a_full_disk_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    write_bytes(path, b"old")
    with files_no_larger_than(1000), pytest.raises(StorageError, match="What was there before is unchanged"):
        write_bytes(path, b"x" * 5000)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["weights"]  # no temporary file is left


def test_only_what_nobody_writes_any_more_is_cleared(tmp_path: Path) -> None:
    left = killed_while_making(tmp_path / "model")
    elsewhere = [tmp_path / f".{name}.twincar-another-machine-1.x.part" for name in ("new", "old")]
    foreign = tmp_path / ".film.mp4-1.x.part"  # of whatever program
    for path in (*elsewhere, foreign):
        path.touch()
        os.utime(path, (0, 0))
    os.utime(elsewhere[0])
    with working_folder(tmp_path / "model") as folder, atomic_path(tmp_path / "weights") as file:
        clear_unfinished(tmp_path)
        assert {path for path in tmp_path.iterdir()} == {folder, file, elsewhere[0], foreign}
        assert not left.exists()
        assert all(is_unfinished(path) for path in (folder, file, left))
    assert not any(is_unfinished(path) for path in (tmp_path / "weights", foreign))
    assert {path.name for path in tmp_path.iterdir()} == {"weights", elsewhere[0].name, foreign.name}


def test_a_failure_while_writing_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    write_bytes(path, b"old")

    def write_half() -> None:
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["weights"]


def test_written_files_can_be_read_by_others(tmp_path: Path) -> None:
    write_bytes(tmp_path / "file", b"")
    (tmp_path / "plain").write_bytes(b"")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("file", "plain")]
    assert modes[0] == modes[1]


def test_a_full_disk_is_told_of_what_was_to_be_made(tmp_path: Path) -> None:
    """Not of the hidden folder that it is made in."""

    def make() -> None:
        with working_folder(tmp_path / "outer") as outer, working_folder(outer / "inner") as inner:
            write_bytes(inner / "file", b"x" * 5000)

    with files_no_larger_than(1000), pytest.raises(StorageError, match=f"^Could not write {tmp_path / 'outer'}: "):
        make()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "reason"), [(errno.ENOSPC, "full"), (errno.EROFS, "read-only"), (errno.EACCES, "perm")]
)
def test_refusals_to_write_are_one_sentence(number: int, reason: str) -> None:
    with pytest.raises(StorageError, match=reason), storage_errors("x"):
        raise OSError(number, "no")


@pytest.mark.parametrize("path", ["key/x", "key/x/y", "/proc/x", "/proc/x/y"])
def test_a_place_where_no_file_can_be_made_is_told_in_one_sentence(tmp_path: Path, path: str) -> None:
    (tmp_path / "key").write_text("secret")
    with pytest.raises(StorageError, match="is not a folder that files can be made in"):
        write_bytes(tmp_path / path, b"data")
    with pytest.raises(StorageError, match="is not a folder"), working_folder(tmp_path / path):
        pass
    assert (tmp_path / "key").read_text() == "secret"


def test_other_system_errors_pass_through() -> None:
    with pytest.raises(FileNotFoundError), storage_errors("x"):
        raise FileNotFoundError(errno.ENOENT, "no")


def test_json_round_trip_and_damage(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"é": [1, None]})
    assert read_json(tmp_path / "a.json") == {"é": [1, None]}
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        read_json(tmp_path / "a.json")
    with pytest.raises(DataError, match="not there"):
        read_json(tmp_path / "b.json")


def test_sha256_is_the_standard_one(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert sha256_of(b"abc") == sha256_of_file(tmp_path / "abc") == expected


def test_only_regular_files_are_read_and_no_more_of_them_than_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(bytes(1000))
    assert read_bounded(path, 1000) == bytes(1000)
    (tmp_path / "link").symlink_to(path)
    assert read_bounded(tmp_path / "link") == bytes(1000)
    with pytest.raises(OSError, match="it has more than 999 bytes"):
        read_bounded(path, 999)
    os.mkfifo(tmp_path / "pipe")
    before = set(Path("/proc/self/fd").iterdir())
    for other in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(OSError, match="it is not a regular file"):
            read_bounded(other)
        with pytest.raises(OSError, match="it is not a regular file"):
            sha256_of_file(other)
    with pytest.raises(IsADirectoryError):
        read_bounded(tmp_path)
    assert set(Path("/proc/self/fd").iterdir()) == before
    told = os.fstat
    monkeypatch.setattr(os, "fstat", lambda number: os.stat_result((*told(number)[:6], 10, *told(number)[7:])))
    assert read_bounded(path, 1000) == bytes(1000)  # it has grown
    with pytest.raises(OSError, match="it has more than 999 bytes"):
        read_bounded(path, 999)


def test_lists_and_settings_are_read_from_regular_files_only() -> None:
    endless = Path("/dev/zero")
    for read in (read_yaml, read_json, read_exclusions):
        with pytest.raises(TwinCarError, match="it is not a regular file"):
            read(endless)


def test_every_name_of_a_file_has_a_text_that_leads_back_to_it() -> None:
    assert text_name("/cars/Citroën.jpg") == "/cars/Citroën.jpg"
    name = os.fsdecode(b"/cars/100% caf\xe9.jpg")
    assert text_name(name) == "file:///cars/100%25%20caf%E9.jpg"
    assert unquote_to_bytes(text_name(name).removeprefix("file://")) == os.fsencode(name)
    assert text_name(os.fsdecode(b"s3://cars/caf\xe9.jpg")) == "s3://cars/caf%E9.jpg"


def test_json_files_lead_back_to_names_that_are_no_text(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"file": os.fsdecode(b"caf\xe9.jpg")})
    (tmp_path / "a.json").read_text(encoding="utf-8")
    assert os.fsencode(read_json(tmp_path / "a.json")["file"]) == b"caf\xe9.jpg"
