"""Makes `twincar_walkthrough.ipynb`, pictures inside, of the `.py` file beside it: python notebooks/build.py

The `.py` file is what is edited and reviewed; jupytext understands it, and editors with cells do too.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

from twincar.core.files import sha256_of, sha256_of_file

HERE = Path(__file__).parent
SOURCE = HERE / "twincar_walkthrough.py"
NOTEBOOK = SOURCE.with_suffix(".ipynb")
SAMPLE = HERE.parent / "docs" / "images" / "sample.png"


def executed(folder: Path) -> nbformat.NotebookNode:
    """The notebook, run from beginning to end in `folder`."""
    notebook = jupytext.read(SOURCE)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # else new at random each time
    NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(folder)}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when each cell ran
    return notebook


def made_with(notebook: nbformat.NotebookNode) -> dict[str, str]:
    """The hashes of its outputs, which nobody edits by hand, and of the sample of the code that drew its pictures."""
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    return {"outputs": sha256_of(json.dumps(outputs, sort_keys=True).encode()), "drawing": sha256_of_file(SAMPLE)}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        built = executed(Path(scratch))
    built.metadata["made_with"] = made_with(built)
    nbformat.write(built, NOTEBOOK)
    print(f"{NOTEBOOK.name}: {NOTEBOOK.stat().st_size / 1e6:.2f} MB")
