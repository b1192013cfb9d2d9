"""axe-core, which finds faults of accessibility in pages: from npm's cache, which `make browser` fills."""

from __future__ import annotations

import io
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

from static_page import npm_package

AXE = "axe-core@4.14.1"


def faults(browser: Any, page: Path, viewport: dict[str, int]) -> list[str]:
    """What axe finds on a page, in its light and its dark mode, as 'mode, rule: element'."""
    found = []
    for scheme in ("light", "dark"):
        # Without the page's own policy, which lets no script in.
        context = browser.new_context(viewport=viewport, color_scheme=scheme, bypass_csp=True)
        tab = context.new_page()
        tab.goto(page.as_uri())
        tab.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
        found += [f"{scheme}, {fault}" for fault in faults_in(tab)]
        context.close()
    return found


def faults_in(tab: Any) -> list[str]:
    """What axe finds in an open page, as 'rule: element'."""
    rules = tab.evaluate(f"async () => {{ {_script()}; return (await window.axe.run()).violations; }}")
    return [f"{rule['id']}: {node['html'][:200]}" for rule in rules for node in rule["nodes"]]


@cache
def _script() -> str:
    """The script that defines `axe` in a page. Skips the test where npm's cache does not have it."""
    with tarfile.open(fileobj=io.BytesIO(npm_package(AXE))) as archive:
        file = archive.extractfile("package/axe.min.js")
        assert file
        return file.read().decode()
