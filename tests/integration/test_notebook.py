"""The notebook as it is committed is what its source says, holds its pictures, and tells nothing of a machine."""

from __future__ import annotations

import base64
import importlib.util
import io
import re
from pathlib import Path
from types import ModuleType

import jupytext
import nbformat
import pytest
from PIL import Image

import twincar

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"


def build_script() -> ModuleType:
    """`notebooks/build.py`."""
    spec = importlib.util.spec_from_file_location("build", FOLDER / "build.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def build() -> ModuleType:
    return build_script()


@pytest.fixture(scope="module")
def committed(build: ModuleType) -> nbformat.NotebookNode:
    return nbformat.read(build.NOTEBOOK, as_version=4)


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def pictures(notebook: nbformat.NotebookNode) -> list[bytes]:
    found = [output.get("data", {}).get("image/jpeg") for output in outputs(notebook)]
    return [base64.b64decode(picture) for picture in found if picture]


def test_the_committed_notebook_is_made_of_its_source(build: ModuleType, committed: nbformat.NotebookNode) -> None:
    source = jupytext.read(build.SOURCE)
    assert [(cell.cell_type, cell.source) for cell in committed.cells] == [
        (cell.cell_type, cell.source) for cell in source.cells
    ]
    nbformat.validate(committed)


def test_its_outputs_are_not_older_than_the_code_that_draws_and_not_edited(
    build: ModuleType, committed: nbformat.NotebookNode
) -> None:
    """`sample.png` is compared with the drawing code in `test_docs.py`."""
    assert committed.metadata["made_with"] == build.made_with(committed), "run: python notebooks/build.py"


def test_it_uses_the_public_functions_only(build: ModuleType) -> None:
    code = "\n".join(cell.source for cell in jupytext.read(build.SOURCE).cells if cell.cell_type == "code")
    assert not re.search(r"from twincar|import twincar\.", code)
    names = set(re.findall(r"\btwincar\.(\w+)", code))
    assert names <= set(twincar.__all__)
    assert {"prepare", "audit", "train", "evaluate", "explain", "compare", "export", "load", "report"} <= names


def test_it_can_be_read_without_running_it(build: ModuleType, committed: nbformat.NotebookNode) -> None:
    counts = [cell.execution_count for cell in committed.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    shown = pictures(committed)
    assert len(shown) == len(re.findall(r"^(?:show|gallery)\(", build.SOURCE.read_text(), re.MULTILINE))
    assert all(Image.open(io.BytesIO(picture)).width <= 1000 for picture in shown)
    assert build.NOTEBOOK.stat().st_size < 2.5e6


def test_its_outputs_tell_nothing_of_a_machine_and_hold_no_warning(committed: nbformat.NotebookNode) -> None:
    assert {output.output_type for output in outputs(committed)} <= {"execute_result", "display_data", "stream"}
    for output in outputs(committed):
        assert output.get("name") != "stderr"
        text = "".join(
            [output.get("text", ""), *(output.get("data", {}).get(f"text/{k}", "") for k in ("plain", "html"))]
        )
        assert not re.search(r"(?<![\w.<])/(?:tmp|work|root|home|usr|opt)\b|Warning|Traceback| at 0x", text), text
    assert str(Path.home()) not in nbformat.writes(committed)
