"""`kill -9` in the middle of the work: gone on with, it ends as one left in peace; see `tests.robustness.survival`."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import killed_while_making, write_class_folders
from small_backbone import BACKBONE

from tests.robustness.survival import survives, undisturbed, works
from twincar.core.errors import UsageError
from twincar.core.runs import RunFolder

IN_TRAINING = ("training step", "after metrics.csv has its name", "half of .last.ckpt")


def test_a_killed_training_ends_as_one_left_in_peace(small_data: Path, tmp_path: Path) -> None:
    work = works(small_data, small_data, backbone=BACKBONE)["train"]
    names, expected = undisturbed(work, tmp_path / "whole")
    assert {"run/metrics.csv", "run/best.safetensors"} == set(expected)
    for name in IN_TRAINING:
        last = len(names) - 1 - names[::-1].index(name)  # the last of its kind, with two epochs behind it
        assert survives(work, tmp_path / "killed", last, expected), name


@pytest.mark.slow
def test_a_killed_preparation_ends_as_one_left_in_peace(tmp_path: Path) -> None:
    source = write_class_folders(tmp_path / "source", {"train": 4, "test": 1})
    work = works(source, source)["prepare"]
    names, expected = undisturbed(work, tmp_path / "whole")
    assert "data/manifest.json" in expected
    for moment in (names.index("half of .annotations.csv"), names.index("half of .manifest.json"), len(names) - 1):
        assert survives(work, tmp_path / "killed", moment, expected), names[moment]


@pytest.mark.slow
def test_a_killed_audit_ends_as_one_left_in_peace(small_data: Path, tmp_path: Path) -> None:
    work = works(small_data, small_data)["audit"]
    names, expected = undisturbed(work, tmp_path / "whole")
    assert {Path(name).name for name in expected} == {"signatures-1.npz", "findings.csv"}
    for name in ("half of the signatures", "after signatures-1.npz has its name", "after audit.json has its name"):
        assert survives(work, tmp_path / "killed", names.index(name), expected), name


@pytest.mark.slow
def test_a_killed_cache_of_photos_ends_as_one_left_in_peace(small_data: Path, tmp_path: Path) -> None:
    work = works(small_data, small_data, backbone=BACKBONE)["cache"]
    names, expected = undisturbed(work, tmp_path / "whole")
    (photos,) = [Path(name).name for name in expected if name.endswith(".bin")]
    last = len(names) - 1 - names[::-1].index("fit photo")
    for moment in (last, *(names.index(f"{when} {photos} has its name") for when in ("before", "after"))):
        assert survives(work, tmp_path / "killed", moment, expected), names[moment]


def test_what_a_killed_process_was_writing_bars_no_new_run(tmp_path: Path) -> None:
    killed_while_making(tmp_path / "config.yaml")
    assert list(RunFolder.create(tmp_path).path.iterdir()) == []
    left = killed_while_making(tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_text("recipe: toycars")
    with pytest.raises(UsageError, match="never overwritten"):
        RunFolder.create(tmp_path)
    assert left.exists()
