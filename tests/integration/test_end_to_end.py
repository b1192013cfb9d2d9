"""The whole road, as a newcomer takes it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import small_config

from twincar.core.errors import StorageError, UsageError
from twincar.core.runs import RunFolder


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
