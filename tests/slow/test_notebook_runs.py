"""The notebook runs from beginning to end."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from tests.integration.test_notebook import FOLDER, build_script, outputs, pictures


def test_it_runs_from_beginning_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = build_script()
    committed = nbformat.read(build.NOTEBOOK, as_version=4)
    monkeypatch.setenv("TWINCAR_WALKTHROUGH_QUICK", "1")  # one epoch of 20 steps
    notebook = build.executed(tmp_path)
    assert len(pictures(notebook)) == len(pictures(committed))
    assert not [output for output in outputs(notebook) if output.get("name") == "stderr"]
    for told in (tmp_path, Path.home(), FOLDER):
        assert str(told) not in nbformat.writes(notebook)
    assert (tmp_path / "walkthrough/run/model-fp32.onnx").is_file()
