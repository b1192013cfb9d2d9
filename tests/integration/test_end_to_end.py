"""The whole road, as a newcomer takes it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import small_config

import twincar
from twincar.core.errors import StorageError, UsageError
from twincar.core.runs import RunFolder, best_epoch


@pytest.mark.slow
@pytest.mark.alone
def test_quickstart(tmp_path: Path) -> None:
    """In a process of its own, on all cores and without network; the goal of 0.90 macro-F1 is part of the promise."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment |= {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}  # nobody listens there
    command = [sys.executable, "-m", "twincar", "quickstart", "--out", "q"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    run = RunFolder.open(tmp_path / "q" / "run")
    assert best_epoch(run.read_history())["val_f1_macro"] >= 0.90
    told = [Path(line.split()[-1]) for line in result.stdout.splitlines() if line.startswith("  ")]
    assert len(told) == 8
    assert told[-1].name == "report.html"
    assert all((tmp_path / path).exists() for path in told)
    metrics = json.loads((run.reports / "test" / "metrics.json").read_text())
    assert metrics["photos"] == 384
    assert metrics["macro_f1"]["value"] >= 0.90
    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "earlier quickstart" in again.stderr


def test_the_first_thing_of_a_quickstart_is_a_picture(tmp_path: Path) -> None:
    """Before anything that takes long is imported or done, and with its path."""
    code = (
        "import logging, sys; from pathlib import Path; from twincar.quickstart import quickstart\n"
        "class First(logging.Handler):\n"
        "    def emit(self, record):\n"
        "        print(record.getMessage(), 'torch' in sys.modules)\n"
        "        sys.exit()\n"
        "logging.basicConfig(level=logging.INFO, handlers=[First()]); quickstart(Path('q'))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.endswith("See them: q/twins.png False\n")
    assert [path.name for path in (tmp_path / "q").iterdir()] == ["twins.png"]


@pytest.mark.usefixtures("few_toycars")
def test_a_quickstart_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from twincar import quickstart

    def stop(*_: object, **__: object) -> None:
        raise StorageError("The disk is full.")

    short = staticmethod(lambda flags, **_: small_config(flags["data"], epochs=2, limit_batches=1))
    monkeypatch.setattr("twincar.quickstart.TrainConfig.resolve", short)
    run = RunFolder(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr("twincar.training.train.TrainingModule.on_validation_epoch_start", stop)
        with pytest.raises(StorageError):
            quickstart.quickstart(tmp_path)
    assert run.config.exists()
    with monkeypatch.context() as patch:
        patch.setattr("twincar.evaluation.report.page.report", stop)
        with pytest.raises(StorageError):
            quickstart.quickstart(tmp_path)
    trained = run.best.stat().st_mtime_ns
    assert quickstart.quickstart(tmp_path).report.path.exists()
    assert run.best.stat().st_mtime_ns == trained
    with pytest.raises(UsageError, match="earlier quickstart"):
        quickstart.quickstart(tmp_path)


def test_a_dry_run_goes_through_everything(small_data: Path, tmp_path: Path) -> None:
    from twincar.evaluation.evaluate import evaluate
    from twincar.explanation.explain import explain
    from twincar.training.train import train

    run = train(small_config(small_data, epochs=1, limit_batches=2), tmp_path / "run").run.path
    assert evaluate(run, split="val").photos == 12
    assert explain(run, count=2).grid.exists()
    assert twincar.load(run).predict(next((small_data.parent / "source").rglob("*.jpg"))).confidence > 0
