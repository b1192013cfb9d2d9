"""Makes `twincar_walkthrough.ipynb`, pictures inside, of the `.py` file beside it: python notebooks/build.py

The `.py` file is what is edited and reviewed; jupytext understands it, and editors with cells do too.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
SOURCE = HERE / "twincar_walkthrough.py"
NOTEBOOK = SOURCE.with_suffix(".ipynb")


def executed(folder: Path) -> nbformat.NotebookNode:
    """The notebook, run from beginning to end in `folder`."""
    notebook = jupytext.read(SOURCE)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # else new at random each time
    NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(folder)}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when each cell ran
    return notebook


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        nbformat.write(executed(Path(scratch)), NOTEBOOK)
    print(f"{NOTEBOOK.name}: {NOTEBOOK.stat().st_size / 1e6:.2f} MB")
