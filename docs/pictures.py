"""Makes the pictures of README and docs from a finished quickstart; needs chromium.

    twincar quickstart --out quickstart
    python docs/pictures.py quickstart

The first time it also trains `quickstart/fine_run`, the same recipe on larger photos, in 195 seconds of CPU time: its
heat maps have 4×6 cells, those of the quickstart 2×3. After that it takes a minute.

A test says which picture is older than what it shows. `sample.png` is what the drawing code makes of a fixed input, and
`pictures.json` holds the figures that the pictures show, the hash of each, and those of the pages of which two are
screenshots. `logo.svg` and `pipeline.svg` are drawn by hand.
"""

from __future__ import annotations

import io
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

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from playwright.sync_api import sync_playwright

import twincar
from twincar.core.files import read_json, sha256_of, sha256_of_file, write_json
from twincar.core.labels import CarName
from twincar.core.runs import RunFolder
from twincar.evaluation.overlay_figures import ContrastedPhoto, ExplainedPhoto, contrast_grid, explanation_grid
from twincar.inference.drawing import draw_cars
from twincar.inference.results import Candidate, LevelAnswer, Prediction, Status
from twincar.metrics.classification import Interval

IMAGES = Path(__file__).with_name("images")
RECORD, SAMPLE = IMAGES / "pictures.json", IMAGES / "sample.png"
OF_QUICKSTART, OF_FINE_RUN = ("street.jpg", "report.png", "demo.png"), ("explained.jpg", "compare.jpg")
PICTURES = ("toycars.jpg", *OF_QUICKSTART, *OF_FINE_RUN)
FINE = {"image_height": 128, "image_width": 192, "initial_resolution": 0.5}
"""Settings of the recipe `toycars` for heat maps of 4×6 cells."""
_LOOK_ALIKES = ("Corvane Vela Hatchback 2011", "Estrella Mar Hatchback 2011")
_PAGES = Path(twincar.__file__).parent / "assets" / "pages"
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
_EXAMPLES = 6


def main(quickstart: Path) -> None:
    """Replace the pictures in `docs/images`."""
    run, fine = quickstart / "run", fine_run(quickstart)
    twincar.evaluate(fine, split="test")
    _jpeg(quickstart / "twins.png", "toycars.jpg", width=1220)
    _jpeg(quickstart / "street_named.jpg", "street.jpg", width=960)
    _jpeg(twincar.explain(fine, split="test").grid, "explained.jpg", width=1300)
    comparison = twincar.compare(fine, _LOOK_ALIKES, split="test")
    _jpeg(comparison.page.parent / comparison.pairs[0].pngs[0], "compare.jpg", width=1088)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as scratch:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_FLAGS)
        _screenshot(browser, (run / "reports" / "report.html").resolve().as_uri(), "report.png", (1000, 790))
        data = twincar.prepare("toycars", quickstart / "toycars")  # opens what the quickstart has prepared
        photos = [data.path(photo) for photo in data.split("test")]
        examples = _copy_photos(photos[7 :: len(photos) // _EXAMPLES][:_EXAMPLES], Path(scratch))
        model = twincar.export(run, out=Path(scratch) / "model.onnx").path
        with _demo(model, examples) as address:
            _screenshot(browser, address, "demo.png", (1280, 800), photo=_undecided(model, photos))
        browser.close()
    sample().save(SAMPLE, optimize=True)
    figures = {name: shown_figures(run) for name in OF_QUICKSTART} | {name: shown_figures(fine) for name in OF_FINE_RUN}
    write_json(RECORD, {"figures": figures, "pages": pages(), "sha256": hashes()})


def fine_run(quickstart: Path) -> Path:
    """The run for pictures of heat maps, which is trained unless it is there."""
    run = RunFolder(quickstart / "fine_run")
    if run.config.exists():
        return twincar.resume(run.path).run.path
    config = twincar.TrainConfig.resolve(recipe="toycars", flags={"data": str(quickstart / "toycars"), **FINE})
    return twincar.train(config, run.path).run.path


def shown_figures(run: Path) -> dict[str, str]:
    """The figures of a run that its report shows, as README and docs quote them."""
    metrics = read_json(run / "reports" / "test" / "metrics.json")
    scores = {"accuracy": metrics["accuracy"], "macro-F1": metrics["macro_f1"]}
    return {name: str(Interval(**score)) for name, score in scores.items()}


def sample() -> Image.Image:
    """What the drawing code of the pictures makes of a fixed input: named boxes, heat maps and contrast maps."""
    photo = Image.linear_gradient("L").resize((192, 128)).convert("RGB")
    pixels, heat = np.asarray(photo), np.linspace(0, 1, 24, dtype=np.float32).reshape(4, 6)
    seen = (0.0, 0.0, 160.0, 128.0)
    name = CarName(make="Aurora", model="Finch", body="Hatchback", year=2009)
    answer = LevelAnswer("class", "Aurora Finch Hatchback 2009", 0.9, name)
    cars = [
        Prediction("", (Candidate(answer.name, 0.9, name),), answer, (), Status.NAMED, (20, 60, 150, 180), 1, 2),
        Prediction("", (), None, (), Status.NOT_SURE, (180, 70, 330, 200), 2, 2),
    ]
    named = draw_cars(photo.resize((384, 256)), cars)
    explained = [ExplainedPhoto(pixels, heat, seen, answer.name, 0.9, truth) for truth in (answer.name, "another")]
    contrasted = ContrastedPhoto(pixels, "a photo", heat, heat - 0.5, 0.5 - heat, seen)
    figures = [explanation_grid(explained), contrast_grid([contrasted], "first (orange) or second (blue)")]
    parts = [named, *map(_picture, figures)]
    sheet = Image.new("RGB", (max(part.width for part in parts), sum(part.height for part in parts)), "white")
    for number, part in enumerate(parts):
        sheet.paste(part, (0, sum(above.height for above in parts[:number])))
    return sheet


def _picture(figure: Figure) -> Image.Image:
    file = io.BytesIO()
    figure.savefig(file, dpi=50)
    return Image.open(file).convert("RGB")


def pages() -> dict[str, str]:
    """The hashes of the sources of what the two screenshots show: the first screen of a report, and the demo."""
    report = (_PAGES / "report.html.jinja").read_text(encoding="utf-8")
    summary = report[report.index("{% block summary %}") : report.index("<nav")]
    demo = "".join(path.read_text(encoding="utf-8") for path in sorted(_PAGES.glob("demo*")))
    return {"report.png": sha256_of(summary.encode()), "demo.png": sha256_of(demo.encode())}


def hashes() -> dict[str, str]:
    """The hash of each picture, and of the sample."""
    return {name: sha256_of_file(IMAGES / name) for name in (*PICTURES, SAMPLE.name)}


def _jpeg(source: Path, name: str, width: int) -> None:
    picture = Image.open(source).convert("RGB")
    picture.thumbnail((width, 10 * width))
    picture.save(IMAGES / name, quality=85, optimize=True)


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
