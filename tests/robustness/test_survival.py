"""`kill -9` in the middle of a training: resumed, it ends as one left in peace; see `tests.robustness.survival`."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import killed_while_making
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


def test_what_a_killed_process_was_writing_bars_no_new_run(tmp_path: Path) -> None:
    killed_while_making(tmp_path / "config.yaml")
    assert list(RunFolder.create(tmp_path).path.iterdir()) == []
    left = killed_while_making(tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_text("recipe: toycars")
    with pytest.raises(UsageError, match="never overwritten"):
        RunFolder.create(tmp_path)
    assert left.exists()
