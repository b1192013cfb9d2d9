"""Makes the pictures of README and docs from a finished quickstart, in a minute; needs chromium.

    twincar quickstart --out quickstart
    python docs/pictures.py quickstart

`pictures.json` records which figures they show, in which colours heat maps are drawn, and the hash of each, so that a
test can say which picture is older than what it shows. `logo.svg` and `pipeline.svg` are drawn by hand.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

import twincar
from twincar.core.files import read_json, sha256_of_file, write_json
from twincar.metrics.classification import Interval
from twincar.models.cam.overlay import FALL, HEAT_COLORS, STRONGEST

IMAGES = Path(__file__).with_name("images")
RECORD = IMAGES / "pictures.json"
PICTURES = ("toycars.jpg", "street.jpg", "explained.jpg", "compare.jpg", "report.png", "demo.png")
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
_EXAMPLES = 6


def main(quickstart: Path) -> None:
    """Replace the pictures in `docs/images`."""
    run = quickstart / "run"
    _jpeg(quickstart / "twins.png", "toycars.jpg", width=1220)
    _jpeg(quickstart / "street_named.jpg", "street.jpg", width=960)
    _jpeg(run / "reports" / "explain" / "grid.png", "explained.jpg", width=1300)
    comparison = twincar.compare(run, split="test", count=1)
    _jpeg(comparison.page.parent / comparison.pairs[0].pngs[0], "compare.jpg", width=1088, height=455)  # two rows
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as scratch:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_FLAGS)
        _screenshot(browser, (run / "reports" / "report.html").resolve().as_uri(), "report.png", (1000, 750))
        data = twincar.prepare("toycars", quickstart / "toycars")  # opens what the quickstart has prepared
        photos = [data.path(photo) for photo in data.split("test")]
        examples = _copy_photos(photos[7 :: len(photos) // _EXAMPLES][:_EXAMPLES], Path(scratch))
        model = twincar.export(run, out=Path(scratch) / "model.onnx").path
        with _demo(model, examples) as address:
            _screenshot(browser, address, "demo.png", (1280, 800), photo=_undecided(model, photos))
        browser.close()
    write_json(RECORD, {"figures": shown_figures(run), "drawn_with": drawn_with(), "sha256": hashes()})


def shown_figures(run: Path) -> dict[str, str]:
    """The figures of a run that its report shows, as README and docs quote them."""
    metrics = read_json(run / "reports" / "test" / "metrics.json")
    scores = {"accuracy": metrics["accuracy"], "macro-F1": metrics["macro_f1"]}
    return {name: str(Interval(**score)) for name, score in scores.items()}


def drawn_with() -> dict[str, object]:
    """How heat maps are drawn: the colours, and the two numbers of their opacity."""
    return {"colors": list(HEAT_COLORS), "opacity": [STRONGEST, FALL]}


def hashes() -> dict[str, str]:
    """The hash of each picture."""
    return {name: sha256_of_file(IMAGES / name) for name in PICTURES}


def _jpeg(source: Path, name: str, width: int, height: int | None = None) -> None:
    picture = Image.open(source).convert("RGB")
    picture.thumbnail((width, 10 * width))
    picture.crop((0, 0, picture.width, height or picture.height)).save(IMAGES / name, quality=85, optimize=True)


def _screenshot(browser: Any, address: str, name: str, size: tuple[int, int], photo: Path | None = None) -> None:
    tab = browser.new_page(viewport={"width": size[0], "height": size[1]})
    tab.goto(address)
    if photo:
        tab.locator("#photo input[type=file]").set_input_files(photo)
        tab.locator(".heat img:visible").wait_for(timeout=60_000)
        tab.wait_for_timeout(1000)  # until the page has faded in
    else:
        tab.wait_for_load_state("networkidle")
    tab.screenshot(path=IMAGES / name)
    tab.close()
    Image.open(IMAGES / name).convert("P", palette=Image.Palette.ADAPTIVE).save(IMAGES / name, optimize=True)


def _copy_photos(photos: list[Path], folder: Path) -> Path:
    (folder / "examples").mkdir()
    for number, photo in enumerate(photos):
        shutil.copy(photo, folder / "examples" / f"{number}.jpg")
    return folder / "examples"


def _undecided(model: Path, photos: list[Path]) -> Path:
    """A photo whose answer leaves the year open, so that the page shows two classes; else the first photo."""
    for photo, prediction in zip(photos, twincar.load(model).stream(photos), strict=True):
        answer = prediction.answer if isinstance(prediction, twincar.Prediction) else None
        if answer and answer.level == "model and body":
            return photo
    return photos[0]


@contextmanager
def _demo(model: Path, examples: Path) -> Iterator[str]:
    """The address of the demo page, while a process serves it."""
    command = [sys.executable, "-m", "twincar", "demo", str(model), "--examples", str(examples)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    assert process.stdout
    try:
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        if not found:
            raise SystemExit(f"Expected the address of the demo, but it says: {line!r}")
        yield found.group()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
