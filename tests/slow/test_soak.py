"""A few epochs of what `tests.robustness.soak_train` does for two hundred."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from small_backbone import BACKBONE

from tests.robustness.soak_train import Look, faults, slope, train


def test_what_grows_is_noticed() -> None:
    flat = [Look(memory=900.0 + epoch % 2, files=30, threads=9, processes=3) for epoch in range(100)]
    assert abs(slope(flat)) < 0.1
    assert faults(flat) == []
    leaking = [replace(seen, memory=900 + epoch / 2, files=30 + epoch // 10) for epoch, seen in enumerate(flat)]
    assert slope(leaking) == pytest.approx(50)
    assert faults(leaking) == ["files from 32 to 39", "memory by 50.0 MiB in 100 epochs"]


def test_a_training_of_some_epochs_opens_nothing_that_it_does_not_close(small_data: Path, tmp_path: Path) -> None:
    looks = train(small_data, 12, 2, tmp_path, BACKBONE)
    assert len(looks) == 11
    assert min(seen.processes for seen in looks) >= 3  # the loaders are seen too
    assert [found for found in faults(looks) if not found.startswith("memory")] == []
    assert looks[-1].memory < looks[4].memory + 50
