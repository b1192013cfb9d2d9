"""What several tests share: small photos, a small prepared data set, a small run, the real photos, a browser."""

from __future__ import annotations

import os

# Before torch is imported: parallel test processes would otherwise fight for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import io
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import golden_copies
import numpy as np
import pytest
from colour_model import BLUE, GREEN, RED, paint, write_model
from hub_server import HubClient
from PIL import Image, ImageDraw
from small_backbone import BACKBONE, register_with_timm

register_with_timm()
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a background job; what tests start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

STARTED, SLOW = Path(__file__).with_name("started"), Path(__file__).with_name("slow")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(STARTED), os.environ.get("PYTHONPATH")]))

LONGEST = (
    "test_all_benchmarks",
    "test_processes_and_hosts",
    "test_docs",
    "test_faults",
    "test_network",
    "test_survival",
    "test_package",
    "test_command_line",
    "test_end_to_end",
)
"""Files that take longest: they come first, so that no worker is left alone with one of them in the end."""

REAL_PHOTOS = Path(__file__).resolve().parents[2] / "shared" / "stanford_cars"

CLASSES = ("Aurora Falcon Sedan 2012", "Aurora Falcon Coupe 2012", "Borealis C/V Van 2009", "Corvus Nine SUV 2011")
COLOURS = ((220, 40, 30), (40, 160, 60), (40, 60, 220), (230, 200, 40))


def pytest_addoption(parser: pytest.Parser) -> None:
    told = "write the golden copies of pages anew, and run no other tests"
    parser.addoption("--renew-golden", action="store_true", help=told)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--renew-golden"):
        items[:] = [item for item in items if "golden" in getattr(item, "fixturenames", ())]
    for item in items:
        if SLOW in item.path.parents:
            item.add_marker("slow")
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test printed or logged may hold names that are no text, which workers cannot send."""
    report = yield
    report.sections = [(title, text.encode("utf-8", "backslashreplace").decode()) for title, text in report.sections]
    return report


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compares a text with its golden copy of a name; see `golden_copies`."""
    return partial(golden_copies.check, renew=request.config.getoption("--renew-golden"))


@pytest.fixture
def real_photos() -> Path:
    """Stanford Cars, where it lies beside the checkout."""
    if not REAL_PHOTOS.is_dir():
        pytest.skip(f"no real photos at {REAL_PHOTOS}")
    return REAL_PHOTOS


@pytest.fixture
def colour_model(tmp_path: Path) -> Path:
    """An exported model that takes no time."""
    return write_model(tmp_path / "colours.onnx")


@pytest.fixture
def colour_photos(tmp_path: Path) -> Path:
    """A folder of three photos that it knows."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, colour in enumerate((RED, GREEN, BLUE)):
        paint(folder / f"{number}.png", colour)
    return folder


@pytest.fixture
def hub_client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> HubClient:
    """The hub's library with an empty cache and nobody logged in."""
    return HubClient(monkeypatch, tmp_path / "hf_home")


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    """What is at addresses that begin with memory://; empty at first."""
    filesystem = fsspec.filesystem("memory")
    yield filesystem
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]


def encoded(image: Image.Image, form: str = "JPEG", **options: Any) -> bytes:
    """A picture as the bytes of a file."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def draw_car(label: int, number: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """A box on wheels; the colour of the roof tells the class, the rest varies with the number."""
    rng = np.random.default_rng((label, number))
    image = Image.new("RGB", size, tuple(int(v) for v in rng.integers(90, 200, 3)))
    draw = ImageDraw.Draw(image)
    x, y = int(rng.integers(4, 20)), int(rng.integers(8, 20))
    draw.rectangle((x, y, x + 60, y + 26), fill=COLOURS[label])
    draw.ellipse((x + 6, y + 20, x + 18, y + 32), fill="black")
    draw.ellipse((x + 42, y + 20, x + 54, y + 32), fill="black")
    return image


def write_class_folders(root: Path, counts: dict[str, int], classes: tuple[str, ...] = CLASSES) -> Path:
    """`root/<split>/<class>/<number>.jpg`, with the slash of a class name written as a hyphen."""
    for split, count in counts.items():
        for label, name in enumerate(classes):
            folder = root / split / name.replace("/", "-")
            folder.mkdir(parents=True)
            for number in range(count):
                offset = {"train": 0, "val": 1000, "test": 2000}[split]
                draw_car(label, offset + number).save(folder / f"{number:03d}.jpg", quality=90)
    return root


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared data set of four classes: 12 photos each to train and choose on, 3 to test on."""
    from twincar.data.prepare import PrepareOptions, prepare

    root = tmp_path_factory.mktemp("data")
    source = write_class_folders(root / "source", {"train": 12, "test": 3})
    return prepare(str(source), root / "prepared", PrepareOptions(val_share=0.25)).folder


@pytest.fixture(scope="session")
def small_run(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs on `small_data`."""
    from twincar.training.train import train

    return train(small_config(small_data), tmp_path_factory.mktemp("runs") / "small").run.path


@pytest.fixture
def few_toycars(monkeypatch: pytest.MonkeyPatch) -> None:
    """`toycars` draws two photos of each class to train on, and one to test on."""
    from twincar.data.toy.cars import draw_data_set

    def draw_few(folder: Path, **options: object) -> None:
        draw_data_set(folder, photos_per_class={"train": 2, "test": 1}, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("twincar.data.sources.toy.draw_data_set", draw_few)


def without_seconds(history: list[dict[str, float]]) -> list[dict[str, float]]:
    """A run's epochs without how long they took, which is never the same twice."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


def killed_while_making(path: Path) -> Path:
    """What a process leaves that is killed while it makes `path`, a folder."""
    code = (
        "import os, signal, sys; from pathlib import Path; from twincar.core.files import working_folder\n"
        "with working_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').touch(); print(folder, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    died = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert died.returncode == -signal.SIGKILL
    return Path(died.stdout.strip())


def small_config(data: Path, **changes: object):  # type: ignore[no-untyped-def]
    """A network and a schedule small enough for tests."""
    from twincar.core.config import TrainConfig

    values = {
        "data": str(data),
        "backbone": BACKBONE,
        "pretrained": "none",
        "image_height": 64,
        "image_width": 64,
        "epochs": 2,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "workers": 0,
        "precision": "fp32",
    }
    return TrainConfig.from_values({**values, **changes})


DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
_CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's chromium, driven by Playwright."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on the PATH; make browser installs it where there is apt-get")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=_CHROMIUM_FLAGS)
        yield started
        started.close()


def luminance(colour: str) -> float:
    """0 black to 1 white, of a computed 'rgb(r, g, b)'."""
    return float(np.mean([int(part) for part in re.findall(r"\d+", colour)[:3]])) / 255
