"""The quickstart as a newcomer runs it, and the score it promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from twincar.core.runs import RunFolder, best_epoch


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
    assert len(told) == 9
    assert told[-1].name == "report.html"
    assert all((tmp_path / path).exists() for path in told)
    metrics = json.loads((run.reports / "test" / "metrics.json").read_text())
    assert metrics["photos"] == 384
    assert metrics["macro_f1"]["value"] >= 0.90
    predict = ["predict", "--model", "q/run", "--detect", "always", "--cars", "all", "--draw", "drawn", "q/street.png"]
    drawn = subprocess.run(
        [*command[:3], *predict], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert drawn.returncode == 0, drawn.stderr
    assert all(f"car {number} of 3" in drawn.stdout for number in (1, 2, 3))
    assert (tmp_path / "drawn" / "street.jpg").is_file()
    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "earlier quickstart" in again.stderr
