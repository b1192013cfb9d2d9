"""What the site takes from outside `docs/`, the measurements and the notebook; and what its theme leaves unnamed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what `benchmarks/` has measured, and the notebook to download."""
    measured, notebook = ROOT / "benchmarks", ROOT / "notebooks" / "twincar_walkthrough.ipynb"
    for path in (measured / "results.md", *sorted((measured / "results").iterdir()), notebook):
        name = path.relative_to(ROOT).as_posix()
        files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """In the repository they lie beside `docs/`, in the site below it."""
    return markdown.replace("](../benchmarks/", "](benchmarks/").replace("](../notebooks/", "](notebooks/")


def on_post_page(output: str, **_: Any) -> str:
    """The theme gives its search no name, and makes a landmark of each part of a table of contents."""
    search = 'data-md-component="search" role="dialog"'
    named = output.replace(search, f'{search} aria-label="Search"')
    named = re.sub(r"<th([^>]*)></th>", r"<td\1></td>", named)  # the corner of a table heads nothing
    return re.sub(r'<nav class="md-nav" aria-label="[^"]*">', '<nav class="md-nav" role="none">', named)
