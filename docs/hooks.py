"""What the site takes from outside `docs/`: the measurements of speed and their pictures."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add `benchmarks/results.md` and what it shows."""
    for path in (ROOT / "benchmarks" / "results.md", *sorted((ROOT / "benchmarks" / "results").glob("*.png"))):
        name = path.relative_to(ROOT).as_posix()
        files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    return files
