"""The page that computes in a browser: bytes to load, seconds to the first answer, milliseconds a photo, memory.

python -m benchmarks.speed.browser PHOTOS [--model MODEL.onnx] [--runtime FILE] [--smallest]

PHOTOS is a folder. Needs chromium, and npm unless --runtime names the package of onnxruntime-web. A cold page is one in
a browser that has never seen it; a warm one is opened again in the same browser. The server is on this machine, so the
network takes no time.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from benchmarks.measuring import Section, describe_machine
from twincar.core.listing import find_photos
from twincar.deploy.static_demo import write_static_demo
from twincar.models.bundled import MODEL

MEGABYTES_GOAL, MILLISECONDS_GOAL = 15, 400
PHOTOS = 30
_FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"),
    "--enable-blink-features=ForceEagerMeasureMemory",  # otherwise it waits for the next garbage collection
]
_PATIENCE = 300_000  # milliseconds


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


def measure(model: Path, folder: Path, runtime: Path | None, *, smallest: bool = False) -> Section:
    """Write the page, and open it in chromium with one thread and with two."""
    photos = [Path(path) for path in islice(find_photos([str(folder)]), 2 if smallest else PHOTOS)]
    with tempfile.TemporaryDirectory() as scratch:
        page = write_static_demo(model, Path(scratch) / "page", runtime=runtime)
        handler = partial(_Quiet, directory=str(page.path))
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, sync_playwright() as playwright:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            address = f"http://localhost:{server.server_port}/"
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_FLAGS)
            times = {threads: _visit(browser, address, photos, threads) for threads in (1, 2)}
            browser.close()
            server.shutdown()
    rows = [["a first visit loads, MB", f"{page.bytes / 1e6:.1f}", f"at most {MEGABYTES_GOAL}"]]
    for threads, found in times.items():
        on = f"on {threads} thread{'s' * (threads > 1)}"
        rows += [
            [f"cold page to the first answer, {on}, s", f"{found['cold']:.1f}", ""],
            [f"warm page to the first answer, {on}, s", f"{found['warm']:.1f}", ""],
            [f"a photo, {on}, median, ms", f"{found['photo']:.0f}", f"under {MILLISECONDS_GOAL}"],
            [f"memory of the page, {on}, MB", f"{found['memory'] / 1e6:.0f}", ""],
        ]
    notes = [f"{len(photos)} photos, each with all of its cars, with heat maps, handed in one after the other."]
    return Section("The page that computes in a browser", ["what", "measured", "goal"], rows, notes)


def _visit(browser: Any, address: str, photos: list[Path], threads: int) -> dict[str, float]:
    """Seconds cold and warm, milliseconds a photo, and bytes of memory."""
    context = browser.new_context()
    context.set_default_timeout(_PATIENCE)
    # The page takes as many threads as there are cores.
    context.add_init_script(f"Object.defineProperty(navigator, 'hardwareConcurrency', {{ get: () => {threads} }})")
    tab = context.new_page()
    cold = _first_answer(tab, address, photos[0])
    warm = _first_answer(tab, address, photos[0])
    milliseconds = [_answer(tab, photo) for photo in photos]
    memory = tab.evaluate("performance.measureUserAgentSpecificMemory().then((found) => found.bytes)")
    context.close()
    return {"cold": cold, "warm": warm, "photo": statistics.median(milliseconds), "memory": memory}


def _first_answer(tab: Any, address: str, photo: Path) -> float:
    start = time.perf_counter()
    tab.goto(address)
    tab.locator("body[data-isolated]").wait_for()
    _answer(tab, photo)
    return time.perf_counter() - start


def _answer(tab: Any, photo: Path) -> float:
    """Milliseconds as the page counts them, from the file to the answer."""
    tab.locator("#file").set_input_files(photo)
    tab.locator("#answer article").wait_for()
    return float(tab.locator("body").get_attribute("data-milliseconds"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.browser", description=__doc__)
    parser.add_argument("photos", type=Path, help="folder of photos")
    parser.add_argument("--model", type=Path, default=MODEL, help="exported .onnx file; the bundled model unless given")
    parser.add_argument("--runtime", type=Path, help="onnxruntime-web as 'npm pack' writes it")
    parser.add_argument("--smallest", action="store_true", help="see that all of it runs; the figures say nothing")
    arguments = parser.parse_args()
    section = measure(arguments.model, arguments.photos, arguments.runtime, smallest=arguments.smallest)
    print(f"{describe_machine()}\n\n{section.to_markdown()}")


if __name__ == "__main__":
    main()
