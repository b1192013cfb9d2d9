"""Folders that are searched for photos, as a target of `tests.robustness.fuzz`; see `fuzz_targets`."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from tests.robustness.fuzz_targets import Reader, Target, photos


def folder(scratch: Path) -> Target:
    """A folder of photos, as predict searches it and prepare reads it; a line is: kind, name, target or bytes."""
    from twincar.core.listing import find_photos
    from twincar.data.sources.folders import open_folders

    top = scratch / "folder"

    def run(data: bytes) -> None:
        shutil.rmtree(top, ignore_errors=True)
        top.mkdir()
        for line in data.split(b"\n")[:40]:
            with contextlib.suppress(OSError, RuntimeError):  # no such name can be made, or it is there already
                _make_entry(top, line)
        listed = list(find_photos([str(top)]))
        assert len(set(listed)) == len(listed)
        source = open_folders(top, ("train", "val", "test"))
        assert {str(row.photo) for row in source.rows()} <= set(listed)

    jpeg = photos()[0][:8].replace(b"\n", b"")
    return Target(
        run,
        [
            b"f A/1.jpg \nf A/sub/2 " + jpeg + b"\nf B/._1.jpg \nf B/3.xyz " + jpeg,
            b"f train/A/1.jpg \nf train/B/1.jpg \nf test_set/A/1.jpg \nf testing/1.jpg \nf val/A/caf\xe9.jpg ",
            b"f A/1.jpg \nl A/up ..\nl B A\nl C/x ../A\nl A/y ../C\nl B/z z\nl D gone",
            b"f A/1.jpg \np A/pipe \np B/pipe.jpg \nf @eaDir/1.jpg \nf __MACOSX/A/1.jpg \nf Thumbs.db " + jpeg,
            b"f " + b"a/" * 60 + b"1.jpg \nf A/4/1.jpg \nf A/5/1.jpg ",
        ],
    )


def _make_entry(top: Path, line: bytes) -> None:
    """A file, a link or a pipe below `top`; a link leads to nothing outside it."""
    kind, _, rest = line.partition(b" ")
    name, _, content = rest.partition(b" ")
    parts = [os.fsdecode(part.replace(b"\0", b"")) for part in name.split(b"/")[:80]]
    path = top.joinpath(*(part for part in parts if part not in ("", ".", "..")))
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == b"l":
        target = (path.parent / os.fsdecode(content.replace(b"\0", b""))).resolve()
        path.symlink_to(target if target.is_relative_to(top) else top)
    elif kind == b"p":
        os.mkfifo(path)
    else:
        path.write_bytes(content)


READERS: dict[str, Reader] = {"folder": Reader(folder, 4)}
