"""Trainings that compile, or that build a large network."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
from conftest import small_config

from twincar.core.config import TrainConfig
from twincar.core.errors import TwinCarError
from twincar.models.checkpoint import load_model
from twincar.training.train import train


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler")
def test_a_compiled_network_learns_the_same(small_data: Path, tmp_path: Path) -> None:
    """Without dropout the two differ in rounding only; the last batch is short and is not compiled."""
    settings = {"epochs": 1, "dropout": 0.0, "batch_size": 20, "learning_rate": 1e-5}
    eager = train(small_config(small_data, **settings), tmp_path / "eager")
    compiled = train(small_config(small_data, **settings, compile=True), tmp_path / "compiled")
    assert compiled.best["train_loss"] == pytest.approx(eager.best["train_loss"], abs=1e-3)
    assert compiled.best["val_loss"] == pytest.approx(eager.best["val_loss"], abs=1e-3)


def test_compiling_without_a_compiler_is_told(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(TwinCarError, match="without --compile"):
        train(small_config(small_data, compile=True, epochs=1, limit_batches=1), tmp_path / "run")


def test_the_best_recipe_runs_from_random_weights(small_data: Path, tmp_path: Path) -> None:
    """Two steps of what wants the hub's weights and a GPU."""
    flags = {"data": str(small_data), "pretrained": "none", "batch_size": 2, "workers": 0, "precision": "fp32"}
    config = TrainConfig.resolve(recipe="best", flags={**flags, "epochs": 2, "limit_batches": 1})
    result = train(config, tmp_path / "run")
    assert [row["epoch"] for row in result.history] == [1, 2]
    assert all(math.isfinite(value) for row in result.history for value in row.values())
    assert load_model(result.run.best)[1].backbone == "tf_efficientnetv2_s.in21k_ft_in1k"
