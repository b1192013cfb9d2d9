"""`kill -9` in preparing, auditing and caching; in training: `tests/robustness/test_survival.py`."""

from __future__ import annotations

from pathlib import Path

from conftest import write_class_folders
from small_backbone import BACKBONE

from tests.robustness.survival import survives, undisturbed, works


def test_a_killed_preparation_ends_as_one_left_in_peace(tmp_path: Path) -> None:
    source = write_class_folders(tmp_path / "source", {"train": 4, "test": 1})
    work = works(source, source)["prepare"]
    names, expected = undisturbed(work, tmp_path / "whole")
    assert "data/manifest.json" in expected
    for moment in (names.index("half of .annotations.csv"), names.index("half of .manifest.json"), len(names) - 1):
        assert survives(work, tmp_path / "killed", moment, expected), names[moment]


def test_a_killed_audit_ends_as_one_left_in_peace(small_data: Path, tmp_path: Path) -> None:
    work = works(small_data, small_data)["audit"]
    names, expected = undisturbed(work, tmp_path / "whole")
    assert {Path(name).name for name in expected} == {"signatures-1.npz", "findings.csv"}
    for name in ("half of the signatures", "after signatures-1.npz has its name", "after audit.json has its name"):
        assert survives(work, tmp_path / "killed", names.index(name), expected), name


def test_a_killed_cache_of_photos_ends_as_one_left_in_peace(small_data: Path, tmp_path: Path) -> None:
    work = works(small_data, small_data, backbone=BACKBONE)["cache"]
    names, expected = undisturbed(work, tmp_path / "whole")
    (photos,) = [Path(name).name for name in expected if name.endswith(".bin")]
    last = len(names) - 1 - names[::-1].index("fit photo")
    for moment in (last, *(names.index(f"{when} {photos} has its name") for when in ("before", "after"))):
        assert survives(work, tmp_path / "killed", moment, expected), names[moment]
