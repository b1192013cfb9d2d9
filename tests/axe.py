"""axe-core, which finds faults of accessibility in pages: from npm, of one version and hash, kept in `.cache`.

`python tests/axe.py` (`make browser`) fetches it; a test does so too where a registry is configured for npm.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest

VERSION = "4.14.1"
_SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"  # of axe.min.js
_SCRIPT = Path(__file__).parents[1] / ".cache" / f"axe-{VERSION}.min.js"


def faults(browser: Any, page: Path, viewport: dict[str, int]) -> list[str]:
    """What axe finds on a page, in its light and its dark mode, as 'mode, rule: element'."""
    script, found = _script(), []
    for scheme in ("light", "dark"):
        # Without the page's own policy, which lets no script in.
        context = browser.new_context(viewport=viewport, color_scheme=scheme, bypass_csp=True)
        tab = context.new_page()
        tab.goto(page.as_uri())
        tab.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
        tab.evaluate(script)
        result = tab.evaluate("axe.run(document, {resultTypes: ['violations']})")
        found += [
            f"{scheme}, {rule['id']}: {node['html'][:200]}" for rule in result["violations"] for node in rule["nodes"]
        ]
        context.close()
    return found


def _script() -> str:
    if not _SCRIPT.is_file() and not (_npm_is_configured() and fetch()):
        pytest.skip("no axe-core; make browser fetches it where there is npm")
    return _SCRIPT.read_text(encoding="utf-8")


def _npm_is_configured() -> bool:
    """Whether somebody has set npm's registry: tests otherwise do not use the network."""
    if shutil.which("npm") is None:
        return False
    listed = subprocess.run(["npm", "config", "list"], capture_output=True, text=True, check=False).stdout
    return any(line.startswith("registry =") for line in listed.splitlines())


def fetch() -> bool:
    """Fetch it from npm; returns whether that succeeded."""
    if shutil.which("npm") is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", f"axe-core@{VERSION}", "--fetch-retries=0", "--fetch-timeout=30000"]
        subprocess.run([*command, "--pack-destination", folder], capture_output=True, check=False, cwd=folder)
        packed = next(Path(folder).glob("*.tgz"), None)
        if packed is None:
            return False
        with tarfile.open(fileobj=io.BytesIO(packed.read_bytes())) as archive:
            file = archive.extractfile("package/axe.min.js")
            script = file.read() if file else b""
    if hashlib.sha256(script).hexdigest() != _SHA256:
        raise SystemExit(f"Expected axe-core {VERSION} from npm, but its axe.min.js has another hash.")
    _SCRIPT.parent.mkdir(exist_ok=True)
    _SCRIPT.write_bytes(script)
    return True


if __name__ == "__main__":
    at_hand = _SCRIPT.is_file() or fetch()
    sys.stdout.write(f"axe-core {VERSION}\n" if at_hand else "No axe-core: the tests of accessibility skip.\n")
