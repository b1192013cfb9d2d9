"""The demo as people meet it, in a real browser, served by a process without torch; and the space that is written."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import axe
import httpx
import numpy as np
import pytest
import yaml
from bmw_model import bmw_classifier
from colour_model import (
    BLACK,
    BLUE,
    GREEN,
    RED,
    SCRIPT,
    TEMPLATE,
    YELLOW,
    ColourDetector,
    paint,
    paint_street,
    write_model,
)
from conftest import DESKTOP, PHONE, draw_car, luminance
from detector_files import constant_detector
from golden_copies import words_of
from packaging.requirements import Requirement
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from twincar.cli import app
from twincar.core.errors import PhotoError, UsageError
from twincar.deploy import demo_access
from twincar.deploy.demo import answer_page
from twincar.deploy.examples import find_examples
from twincar.deploy.space import write_space
from twincar.detection import Detector
from twincar.inference.classifier import Classifier
from twincar.inference.crops import CarFinder
from twincar.models.bundled import MODEL

# Of classes with logits 20 and 17, and four of 0.
SURE = 1 / (1 + np.exp(-3))


@dataclass(frozen=True)
class Site:
    """A demo that is being served, and what belongs to it."""

    address: str
    model: Path
    folder: Path


WITHOUT_TORCH = (
    "import sys\n"
    "for name in ('torch', 'timm', 'matplotlib', 'sklearn', 'scipy', 'cv2', 'lightning'): sys.modules[name] = None\n"
)


@contextmanager
def served(code: str, *arguments: object, stop: int = signal.SIGINT, **environment: str) -> Iterator[str]:
    """The address that a process without torch serves the demo at, from its first line."""
    process = subprocess.Popen(
        [sys.executable, "-c", WITHOUT_TORCH + code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        # Of a shell's background job, as these tests may be, the children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout
    try:
        found = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())
        assert found, process.stdout.read()
        yield found.group()
        process.send_signal(stop)
        assert process.wait(timeout=30) in (130, 0)  # the command, or the script of a space
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """`twincar demo` on the colours, with two examples."""
    folder = tmp_path_factory.mktemp("demo")
    model = write_model(folder / "model.onnx")
    (folder / "examples").mkdir()
    paint(folder / "examples" / "a-green.png", GREEN)
    paint(folder / "examples" / "b-red.png", RED)
    code = "from twincar.cli import main; main()"
    uploads = str(folder / "uploads")
    with served(code, "demo", model, "--examples", folder / "examples", GRADIO_TEMP_DIR=uploads) as address:
        yield Site(address, model, folder)


@contextmanager
def opened(
    browser: Any, site: Site, viewport: dict[str, int] = DESKTOP, scheme: str = "light", seen: list[str] | None = None
) -> Iterator[Any]:
    """The page in a browser of its own; a script's error, a dialog, or a request to elsewhere fails the test."""
    trouble: list[str] = []
    context = browser.new_context(viewport=viewport, color_scheme=scheme, has_touch=viewport is PHONE)
    context.set_default_timeout(20_000)

    def watch(request: Any) -> None:
        if seen is not None:
            seen.append(request.url)
        if not request.url.startswith((site.address, "data:", "blob:")):
            trouble.append(f"asked for {request.url}")

    tab = context.new_page()
    tab.on("request", watch)
    tab.on("pageerror", lambda error: trouble.append(str(error)))
    tab.on("dialog", lambda dialog: (trouble.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    tab.goto(site.address)
    tab.locator(".answer.empty").wait_for()
    yield tab
    context.close()
    assert trouble == []


def hand_in(tab: Any, photo: Path) -> None:
    """Choose a file, as after a click on the photo's place."""
    tab.locator("#photo input[type=file]").set_input_files(photo)


def take_away(tab: Any) -> None:
    """Press the cross on the photo."""
    tab.get_by_label("Remove Image").or_(tab.get_by_label("Clear")).first.click()
    tab.locator(".answer.empty").wait_for()


def headline(tab: Any, state: str) -> str:
    """The headline, once the answer has that state."""
    return str(tab.locator(f".answer.{state} h2").inner_text())


def test_a_photo_gives_an_answer_and_a_heat_map(browser: Any, site: Site, tmp_path: Path) -> None:
    half = Image.new("RGB", (120, 80), BLACK)
    half.paste(RED, (60, 0, 120, 80))  # only its right half speaks for the answer
    half.save(tmp_path / "car.png")
    with opened(browser, site) as tab:
        hand_in(tab, tmp_path / "car.png")
        assert headline(tab, "sure") == "BMW M3 Sedan 2012"  # logits of 10 and 8.5
        expected = Classifier.load(site.model).predict(tmp_path / "car.png").to_dict()
        shares = [text.strip("<%") for text in tab.locator(".bars .share").all_inner_texts()]
        assert [float(share) / 100 for share in shares] == pytest.approx(
            [candidate["probability"] for candidate in expected["topk"]], abs=1e-3
        )
        assert tab.locator(".heat img:visible").count() == 1
        # The darkened photo stays where nothing speaks for the answer; where it does, yellow lies over it.
        left, right = (
            tab.locator(".heat img:visible").evaluate(
                "async (image, x) => { await image.decode();"
                "const c = document.createElement('canvas').getContext('2d', {willReadFrequently: true});"
                "c.canvas.width = image.naturalWidth; c.canvas.height = image.naturalHeight; c.drawImage(image, 0, 0);"
                "return [...c.getImageData(x * image.naturalWidth, 0.5 * image.naturalHeight, 1, 1).data] }",
                x,
            )
            for x in (0.1, 0.9)
        )
        assert max(left[:3]) < 40 < 130 < right[0]


def test_what_speaks_for_the_look_alike_is_a_click_away(browser: Any, site: Site, tmp_path: Path) -> None:
    with opened(browser, site) as tab:
        hand_in(tab, paint(tmp_path / "red.png", RED))
        assert headline(tab, "sure") == "BMW M3 Sedan 2012"
        assert tab.locator(".chip").inner_text() == f"{SURE:.1%} sure"
        assert tab.locator(".twin").inner_text() == f"Its nearest look-alike: Audi S4 Sedan 2011, {1 - SURE:.1%}."
        assert "evidence for BMW M3" in tab.locator(".heat img:visible").get_attribute("alt")
        tab.get_by_label("its look-alike").check()
        assert "evidence for Audi S4" in tab.locator(".heat img:visible").get_attribute("alt")
        facts = dict(zip(*(tab.locator(f".facts {what}").all_inner_texts() for what in ("dt", "dd b")), strict=True))
        assert facts == {"Make": "BMW", "Model": "M3", "Body": "Sedan", "Year": "2012"}


def test_an_example_is_a_click_away(browser: Any, site: Site) -> None:
    with opened(browser, site) as tab:
        tab.locator("#examples button img").first.click()
        assert headline(tab, "partly") == "Volvo C30 Hatchback"
        assert "Which model year is open: Volvo C30 Hatchback 2012 or" in tab.locator(".said").inner_text()
        tab.locator("#examples button img").nth(1).click()
        assert headline(tab, "sure") == "BMW M3 Sedan 2012"


def test_not_sure_and_not_a_known_car_read_well(browser: Any, site: Site, tmp_path: Path) -> None:
    with opened(browser, site) as tab:
        hand_in(tab, paint(tmp_path / "yellow.png", YELLOW))
        assert headline(tab, "unsure") == "Not sure which car this is"
        assert tab.locator(".bars li").count() == 5
        take_away(tab)
        hand_in(tab, paint(tmp_path / "dark.png", (102, 0, 0)))
        assert headline(tab, "partly") == "Sedan"  # logits of 8 and 6.8
        said = tab.locator(".said").inner_text()
        assert "Which make and model is open: BMW M3 Sedan 2012 or Audi S4 Sedan 2011." in said
        take_away(tab)
        hand_in(tab, paint(tmp_path / "black.png", BLACK))
        assert headline(tab, "unknown") == "Unknown car"
        assert "95% of the validation photos" in tab.locator(".said").inner_text()
        assert tab.locator(".facts").count() == 0
        take_away(tab)
        Image.new("RGB", (120, 7), RED).save(tmp_path / "small.png")
        hand_in(tab, tmp_path / "small.png")
        assert headline(tab, "unknown") == "Too small"
        assert "at least 8 pixels" in tab.locator(".said").inner_text()


def test_what_is_no_photo_gets_one_sentence(browser: Any, site: Site, tmp_path: Path) -> None:
    """Told by the page before it is sent, or by the server, which looks inside; never a red 'Error'."""
    (tmp_path / "notes.txt").write_text("milk, eggs")
    (tmp_path / "notes.jpg").write_text("milk, eggs")
    (tmp_path / "large.jpg").write_bytes(bytes(50_000_001))
    whole = paint(tmp_path / "cut.png", RED).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:-30])
    Image.new("1", (15_000, 15_000)).save(tmp_path / "giant.png")
    refused = {
        "notes.txt": "notes.txt is no photo. Choose a JPEG, PNG or WebP file.",
        "large.jpg": "large.jpg has 50 MB, and 50 MB are the most. Choose a smaller photo.",
    }
    judged = {
        "notes.jpg": "Expected a photo in notes.jpg, but it is not an image.",
        "cut.png": "Expected a whole photo in cut.png, but it is truncated",
        "giant.png": "Expected a photo of at most 150 megapixels in giant.png, but it is larger.",
    }
    with opened(browser, site) as tab:
        for name, sentence in refused.items():
            hand_in(tab, tmp_path / name)
            tab.locator("#refused", has_text=sentence).wait_for()
            assert tab.locator(".answer.empty").count() == 1
        for name, sentence in judged.items():
            hand_in(tab, tmp_path / name)
            tab.locator(".answer.refused", has_text=sentence).wait_for()
            tab.locator("#photo input[type=file]").wait_for(state="attached")  # the place is free again
            assert not tab.locator("#refused").is_visible()
        assert tab.get_by_text("Error", exact=True).count() == 0
        hand_in(tab, paint(tmp_path / "red.png", RED))
        assert headline(tab, "sure") == "BMW M3 Sedan 2012"


def test_a_text_file_that_is_dropped_is_refused_too(browser: Any, site: Site) -> None:
    with opened(browser, site) as tab:
        tab.locator("#photo button").first.evaluate(
            "place => { const dropped = new DataTransfer(); dropped.items.add(new File(['milk'], '<b>notes</b>.txt'));"
            "place.dispatchEvent(new DragEvent('drop', {dataTransfer: dropped, bubbles: true, cancelable: true})) }"
        )
        tab.locator("#refused", has_text="<b>notes</b>.txt is no photo").wait_for()
        assert tab.get_by_text("Invalid file type").count() == 0


def test_two_people_at_once_get_their_own_answers(browser: Any, site: Site, tmp_path: Path) -> None:
    paint(tmp_path / "red.png", RED)
    paint(tmp_path / "green.png", GREEN)
    with opened(browser, site) as one, opened(browser, site) as other:
        for _ in range(3):  # both are asked before either has answered
            hand_in(one, tmp_path / "red.png")
            hand_in(other, tmp_path / "green.png")
            assert (headline(one, "sure"), headline(other, "partly")) == ("BMW M3 Sedan 2012", "Volvo C30 Hatchback")
            for tab in (one, other):
                take_away(tab)


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_follows_the_scheme_and_shows_names_as_text(
    browser: Any, site: Site, tmp_path: Path, viewport: dict[str, int], scheme: str
) -> None:
    seen: list[str] = []
    with opened(browser, site, viewport, scheme, seen) as tab:
        hand_in(tab, paint(tmp_path / "blue.png", BLUE))
        assert headline(tab, "sure") == SCRIPT
        assert tab.locator(".bars li span").nth(2).inner_text() == TEMPLATE
        tab.locator("#head summary").click()
        assert {SCRIPT, TEMPLATE} <= set(tab.locator("#head li").all_inner_texts())
        assert tab.locator(".answer script, #head script, .answer b b").count() == 0
        assert tab.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
        ground = tab.locator(".gradio-container").evaluate("e => getComputedStyle(e).backgroundColor")
        ink = tab.locator(".answer h2").evaluate("e => getComputedStyle(e).color")
        assert (luminance(ground) > 0.8) == (luminance(ink) < 0.3) == (scheme == "light")
    assert not [address for address in seen if "/fonts/" in address or address.endswith(".woff2")]
    assert len(seen) > 10  # they were watched


BOXES = {GREEN: (20, 20, 60, 50), RED: (100, 60, 300, 180), BLUE: (330, 100, 390, 170)}
"""In a photo of 400×200 pixels: the third, the main and the second car."""


@pytest.fixture(scope="module")
def street_site(site: Site) -> Iterator[Site]:
    """`twincar demo` with a detector that finds three cars in every photo."""
    detector = site.folder / "detector.onnx"
    shares = np.array(list(BOXES.values())) / (400, 200, 400, 200)
    detector.write_bytes(constant_detector(shares, [(0, 0.9)] * 3))
    code = "from twincar.cli import main; main()"
    uploads = str(site.folder / "street-uploads")
    options = ("--detect", "always", "--detector", detector)
    with served(code, "demo", site.model, *options, GRADIO_TEMP_DIR=uploads) as address:
        yield replace(site, address=address)


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_click_on_a_box_shows_the_answer_for_that_car(
    browser: Any, street_site: Site, tmp_path: Path, viewport: dict[str, int]
) -> None:
    with opened(browser, street_site, viewport) as tab:
        hand_in(tab, paint_street(tmp_path / "street.png", BOXES))
        boxes = tab.locator(".scene label")
        boxes.first.wait_for()
        assert (boxes.count(), tab.locator(".answer:visible").count()) == (3, 1)
        assert tab.locator(".answer:visible h2").inner_text() == "BMW M3 Sedan 2012"
        assert tab.locator(".which:visible").inner_text() == "Car 1 of 3"
        press = boxes.nth(2).tap if viewport is PHONE else boxes.nth(2).click
        press()
        assert tab.locator(".answer:visible h2").inner_text() == "Volvo C30 Hatchback"
        assert "Which model year is open" in tab.locator(".answer:visible .said").inner_text()
        tab.get_by_label("Car 3").press("ArrowLeft")  # by the keyboard as well
        assert tab.locator(".answer:visible h2").inner_text() == SCRIPT
        tab.locator(".answer:visible").get_by_label("its look-alike").check()
        boxes.first.click()
        assert "evidence for BMW M3" in tab.locator(".heat img:visible").get_attribute("alt")
        photo, box = tab.locator(".scene img").bounding_box(), boxes.first.bounding_box()
        sides = [(box["x"] - photo["x"]) / photo["width"], box["width"] / photo["width"]]
        assert sides == pytest.approx([100 / 400, 200 / 400], abs=0.01)
        assert tab.evaluate("document.documentElement.scrollWidth") <= viewport["width"]


def test_no_car_found_reads_well(tmp_path: Path, site: Site) -> None:
    classifier = Classifier.load(site.model)
    classifier.finder = CarFinder(cast(Detector, ColourDetector()), 0)
    page = answer_page(classifier, Image.open(paint(tmp_path / "wall.png", YELLOW)).convert("RGB"))
    assert "No car found" in page
    assert "scene" not in page


def test_a_car_that_the_edge_cuts_off_reads_well(tmp_path: Path, site: Site) -> None:
    classifier = Classifier.load(site.model)
    classifier.finder = CarFinder(cast(Detector, ColourDetector()), 0)
    page = answer_page(classifier, Image.open(paint_street(tmp_path / "street.png", {RED: (0, 50, 23, 90)})))
    assert "Cut off" in page
    assert "take a photo of all of it" in page


def test_a_photo_is_turned_upright_before_it_is_explained(
    tmp_path: Path, site: Site, golden: Callable[[str, str], None]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    from twincar.core.photos import read_photo

    page = answer_page(Classifier.load(site.model), read_photo(paint(tmp_path / "car.jpg", RED, exif=exif)))
    assert page.count("data:image/webp") == 2
    golden("demo_answer", words_of(page))


def test_examples_are_checked_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="found none"):
        find_examples(tmp_path)
    for number in range(26):
        paint(tmp_path / f"{number:02d}.png", RED)
    assert [Path(path).stem for path in find_examples(tmp_path)] == [f"{number:02d}" for number in range(24)]
    (tmp_path / "00.png").write_text("milk, eggs")
    with pytest.raises(PhotoError, match=r"00\.png, but it is not an image"):
        find_examples(tmp_path)


# Over HTTP, without a browser: what a client names need not have been sent.

META = {"meta": {"_type": "gradio.FileData"}}
NO_SUCH_UPLOAD = "Expected a photo that was uploaded to this page"


def upload(site: Site, path: Path) -> str:
    """Where the demo says that it has put a photo."""
    with path.open("rb") as file:
        sent = httpx.post(site.address + "gradio_api/upload", files={"files": (path.name, file)})
    return str(sent.raise_for_status().json()[0])


def ask(site: Site, sent: object) -> str:
    """What the demo answers to a client that names a file, through its queue."""
    address = site.address + "gradio_api/call/answer"
    event = httpx.post(address, json={"data": [sent]}).raise_for_status().json()["event_id"]
    return httpx.get(f"{address}/{event}", timeout=30).text


def ask_directly(site: Site, sent: object) -> str:
    """The same without the queue."""
    return httpx.post(site.address + "gradio_api/run/answer", json={"data": [sent]}, timeout=30).text


@pytest.mark.parametrize("way", [ask, ask_directly])
@pytest.mark.parametrize("more", [{}, META], ids=["without meta", "with meta"])
def test_what_was_uploaded_is_answered(site: Site, tmp_path: Path, way: Any, more: dict[str, Any]) -> None:
    stored = upload(site, paint(tmp_path / "red.png", RED))
    assert "BMW M3" in way(site, {"path": stored, "orig_name": "red.png", **more})


@pytest.mark.parametrize("way", [ask, ask_directly])
@pytest.mark.parametrize("more", [{}, META], ids=["without meta", "with meta"])
def test_nothing_else_of_the_host_is_read(site: Site, tmp_path: Path, way: Any, more: dict[str, Any]) -> None:
    """One answer for all that was not uploaded, so that it tells nothing about what there is."""
    photo = paint(tmp_path / "red.png", RED)
    green = paint(tmp_path / "green.png", GREEN)
    green.write_bytes(green.read_bytes() + tmp_path.name.encode())  # in a folder of its own
    stored = Path(upload(site, green))
    (tmp_path / "notes.txt").write_text("milk, eggs")
    (stored.parent / "link.png").symlink_to(photo)
    linked = stored.parent.parent / f"linked-{tmp_path.name}"
    linked.symlink_to(tmp_path)
    beside = paint(tmp_path.with_name(f"{tmp_path.name}.png"), RED)
    os.mkfifo(stored.with_name("fifo.png"))
    with stored.with_name("large.png").open("wb") as large:
        large.truncate(50_000_001)
    inside = [
        linked / ".." / beside.name,  # to the kernel that is beside what the link leads to
        stored.parent / "link.png",
        linked / "red.png",
        *map(stored.with_name, ("fifo.png", "large.png", "gone.png")),
    ]
    named = [
        *(photo, tmp_path / "notes.txt", tmp_path / "gone.png", tmp_path, site.model),
        *("/dev/zero", "/proc/self/environ", *inside, stored.parent, f"{stored.parent}/../../../red.png"),
        *("red.png", "", "\0", "a" * 5000, site.address, f"{site.address}gradio_api/file={stored}", f"file://{photo}"),
    ]
    expected = None
    for name in named:
        told = way(site, {"path": str(name), "orig_name": "x.jpg", **more})
        assert NO_SUCH_UPLOAD in told, name
        assert "BMW" not in told
        told = re.sub(r'"(average_)?duration": ?[0-9.e-]+', "", told)
        expected = expected or told
        assert told == expected, name


@pytest.mark.parametrize(
    "sent",
    [
        {"url": "http://192.0.2.1/red.png", **META},
        {"path": None, "url": "data:image/png;base64,aGk="},
        {"path": {"path": "/etc/hostname", **META}},
        [{"path": "http://192.0.2.1/red.png", **META}],
        "/etc/hostname",
        7,
    ],
)
def test_other_ways_to_name_a_photo_lead_nowhere(site: Site, sent: object) -> None:
    for told in (ask(site, sent), ask_directly(site, sent)):
        assert "BMW" not in told
        assert NO_SUCH_UPLOAD in told or "error" in told


def test_only_uploads_of_this_demo_and_its_page_can_be_fetched(site: Site, tmp_path: Path) -> None:
    stored = upload(site, paint(tmp_path / "red.png", RED))
    asked = site.address + "gradio_api/"
    assert httpx.get(f"{asked}file={stored}").content == (tmp_path / "red.png").read_bytes()
    Path(stored).with_name("link.png").symlink_to(tmp_path / "red.png")
    for place in (tmp_path / "red.png", Path(stored).with_name("link.png"), "/etc/hostname", "http://192.0.2.1/x.png"):
        assert httpx.get(f"{asked}file={place}").status_code in (403, 404), place
    for other in ("file/etc/hostname", "proxy=http://192.0.2.1/", "custom_component/1/client/component/../x", "runs"):
        assert httpx.get(asked + other).status_code == 404, other
    for other in ("component_server", "process_recording", "stream/x", "vibe-code"):
        assert httpx.post(asked + other, json={}).status_code == 404, other


def test_a_foreign_host_is_refused_on_loopback(site: Site) -> None:
    """A page elsewhere whose name has come to mean 127.0.0.1 sends its own name."""
    port = site.address.rstrip("/").rpartition(":")[2]
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", "[::1]", "LOCALHOST"):
        assert httpx.get(site.address + "config", headers={"Host": host}).status_code == 200, host
    for host in (f"evil.example:{port}", "127.0.0.1.evil.example", "localhost.evil.example", "192.0.2.1", "", "["):
        refused = httpx.get(site.address + "config", headers={"Host": host})
        assert refused.status_code == 421, host
        assert "Expected" in refused.json()["error"]


def test_a_space_serves_as_it_stands(tmp_path: Path) -> None:
    """Its app in a process without torch, asked through Gradio's own client."""
    from gradio_client import Client, handle_file

    model = write_model(tmp_path / "colours.onnx")
    (tmp_path / "photos").mkdir()
    red = paint(tmp_path / "photos" / "red.PNG", RED)
    space = write_space(str(model), tmp_path / "space", examples=tmp_path / "photos")
    assert sorted(str(path.relative_to(space)) for path in space.rglob("*") if "twincar" not in path.parts) == [
        ".gitattributes", "LICENSE", "README.md", "app.py", "examples", "examples/01.jpg", "model.onnx",
        "requirements.txt",
    ]  # fmt: skip
    code = (
        "import runpy; sys.path.insert(0, sys.argv[1].removesuffix('/app.py'))\n"  # as for a script
        "import twincar; assert twincar.__file__.startswith(sys.path[0])\n"
        "runpy.run_path(sys.argv[1], run_name='__main__')"
    )
    uploads = tmp_path / "uploads"
    with served(code, space / "app.py", stop=signal.SIGTERM, GRADIO_TEMP_DIR=str(uploads)) as address:
        client = Client(address, verbose=False, analytics_enabled=False)
        page, _ = client.predict(handle_file(red), api_name="/answer")
        assert "<h2>BMW M3 Sedan 2012</h2>" in page
        assert list(uploads.rglob("*.PNG"))
    assert not list(uploads.rglob("*.PNG"))


PLACE = "Schillerstrasse-3"
"""Where somebody lives."""


def tagged(kind: str, path: Path) -> Path:
    """A photo, lying on its side, with the place where it was taken in all that its format has room for."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    exif[0x010E] = PLACE
    exif.get_ifd(0x8825)[29] = PLACE  # GPS
    xmp = f"<x:xmpmeta xmlns:x='adobe:ns:meta/'>{PLACE}</x:xmpmeta>".encode()
    text = PngInfo()
    text.add_text("Comment", PLACE)
    text.add_itxt("XML:com.adobe.xmp", xmp.decode())
    options: dict[str, dict[str, Any]] = {
        "JPEG": {"exif": exif, "comment": PLACE, "xmp": xmp},
        "MPO": {"exif": exif, "comment": PLACE},
        "PNG": {"exif": exif, "pnginfo": text},
        "WEBP": {"exif": exif, "xmp": xmp, "lossless": True},
        "TIFF": {"exif": exif, "description": PLACE},
        "GIF": {"comment": PLACE},
        "AVIF": {"exif": exif, "xmp": xmp},
    }
    left = Image.new("RGB", (60, 40), BLACK)
    left.paste(RED, (0, 0, 30, 40))
    left.save(path, kind, **options[kind])
    if kind == "JPEG":  # Pillow writes no IPTC
        record = b"Photoshop 3.0\x008BIM\x04\x04\x00\x00\x00\x00\x00\x18" + b"\x1c\x02\x78\x00\x12" + PLACE.encode()
        data = path.read_bytes()
        path.write_bytes(data[:2] + b"\xff\xed" + (len(record) + 2).to_bytes(2, "big") + record + data[2:])
    assert PLACE.encode() in path.read_bytes()
    return path


KINDS = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "GIF", "AVIF")


def test_examples_of_a_space_are_upright_pixels_and_nothing_else(tmp_path: Path, small_model: Path) -> None:
    (tmp_path / "photos").mkdir()
    for kind in KINDS:
        tagged(kind, tmp_path / "photos" / f"{PLACE}-{kind}.{'jpg' if kind in ('JPEG', 'MPO') else kind.lower()}")
    found = len(find_examples(tmp_path / "photos"))
    space = write_space(str(small_model), tmp_path / "space", examples=tmp_path / "photos")
    examples = sorted((space / "examples").iterdir())
    assert len(examples) == found == len(KINDS)
    for path in space.rglob("*"):
        assert PLACE not in path.name
        assert path.is_dir() or PLACE.encode() not in path.read_bytes(), path
    for example in examples:
        with Image.open(example) as image:
            assert not {"exif", "xmp", "comment", "photoshop", "icc_profile"} & set(image.info), example
            turned = image.size == (40, 60)
            assert turned or image.size == (60, 40)  # a GIF cannot say which way is up
            top, bottom = np.asarray(image.convert("RGB"))[5, 20], np.asarray(image.convert("RGB"))[-5, 20]
            assert not turned or (top[0] > 200 and bottom[0] < 50)
    assert sum(Image.open(example).size == (40, 60) for example in examples) == found - 1


def test_a_space_tells_no_path_of_this_computer(tmp_path: Path, small_model: Path) -> None:
    space = write_space(str(small_model), tmp_path / "space")
    for path in space.rglob("*"):
        for told in (tmp_path, Path.home(), Path(__file__).parents[3]):
            assert path.is_dir() or str(told).encode() not in path.read_bytes(), (path, told)


def test_a_space_brings_the_package_and_asks_for_released_ones_only(tmp_path: Path, small_model: Path) -> None:
    """Nobody has released 'twincar': whoever took the name would run code in the space."""
    import twincar

    space = write_space(str(small_model), tmp_path / "space")
    lines = (space / "requirements.txt").read_text().splitlines()
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    asked = {Requirement(line).name for line in (*project["dependencies"], *project["optional-dependencies"]["demo"])}
    assert {Requirement(line).name for line in lines} == asked
    assert "twincar" not in asked
    package = Path(twincar.__file__).parent
    brought = {str(path.relative_to(space / "twincar")) for path in (space / "twincar").rglob("*") if path.is_file()}
    sources = {str(path.relative_to(package)) for path in package.rglob("*.py")}
    assert sources < brought
    detector = {f"detection/bundled/{name}" for name in ("cars.onnx", "LICENSE")}  # the bundled model is not brought
    assert detector < brought
    assert not [name for name in brought - detector if name.endswith((".onnx", ".pyc"))]
    assert "Apache License" in (space / "twincar" / "LICENSE").read_text()


def test_a_space_without_metadata_says_what_to_do(
    tmp_path: Path, small_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twincar.deploy.space.requirements_of", lambda _: [])
    with pytest.raises(UsageError, match=r"pip install '\.\[demo\]'"):
        write_space(str(small_model), tmp_path / "space")
    assert not (tmp_path / "space").exists()


def card(space: Path) -> dict[str, Any]:
    """What the hub reads of a space's card."""
    return dict(yaml.safe_load((space / "README.md").read_text().split("---\n")[1]))


def test_the_card_of_a_space_is_the_hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gradio

    model = write_model(tmp_path / "colours.onnx")
    local = card(write_space(str(model), tmp_path / "local"))
    assert (local["sdk"], local["sdk_version"], local["app_file"]) == ("gradio", gradio.__version__, "app.py")
    assert ("license" in local, local["python_version"], "models" in local) == (False, "3.11", False)
    assert "not named by the publisher" in (tmp_path / "local" / "README.md").read_text()
    assert "examples=None" in (tmp_path / "local" / "app.py").read_text()

    known = Classifier.load(model)
    monkeypatch.setattr(Classifier, "load", lambda _: known)  # no hub is within reach
    hub = write_space("someone/cars@v1", tmp_path / "hub")
    assert card(hub)["models"] == ["someone/cars"]
    assert "demo('someone/cars@v1', examples=None" in (hub / "app.py").read_text()
    assert not (hub / "model.onnx").exists()


def test_the_licence_of_a_space_is_the_models(tmp_path: Path) -> None:
    space = write_space(str(MODEL), tmp_path / "space")
    assert card(space)["license"] == "cc-by-nc-4.0"
    assert MODEL.with_name("LICENSE").read_text().strip() in (space / "LICENSE").read_text()
    assert "cc-by-nc-4.0" in (space / "README.md").read_text().split("---\n")[2]


def test_a_space_overwrites_nothing_and_takes_no_run(tmp_path: Path, small_model: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="full is not empty"):
        write_space(str(small_model), tmp_path / "full")
    for model in (str(tmp_path / "full"), "gone.onnx", "runs/best.safetensors"):
        with pytest.raises(UsageError, match="twincar export RUN"):
            write_space(model, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.txt"]


@pytest.fixture
def small_model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "colours.onnx")


def test_wrong_use_is_told_in_a_sentence(tmp_path: Path, site: Site) -> None:
    from typer.testing import CliRunner

    written = CliRunner().invoke(app, ["demo", str(site.model), "--space", str(tmp_path / "space")])
    assert f"Space: {tmp_path / 'space'}" in written.stdout
    taken = site.address.rstrip("/").rpartition(":")[2]
    result = CliRunner().invoke(app, ["demo", str(site.model), "--port", taken])
    assert isinstance(result.exception, UsageError)
    assert f"Expected port {taken} to be free" in str(result.exception)


def test_help_imports_no_gradio() -> None:
    code = (
        "import sys; sys.modules['gradio'] = None; sys.argv = ['twincar', 'demo', '--help']\n"
        "from twincar.cli import main; main()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--space" in result.stdout


def test_a_look_alike_is_one_that_comes_near() -> None:
    photo = draw_car(0, 0)
    near = answer_page(bmw_classifier([0.9, 0.08, 0.01, 0.01]), photo)
    assert "Its nearest look-alike: <b>BMW M3 Sedan 2012</b>, 8.0%" in near
    assert near.count('type="radio"') == 2
    alone = answer_page(bmw_classifier([0.9996, 0.0002, 0.0001, 0.0001]), photo)
    assert "look-alike" not in alone
    assert "No other class is nearly as likely." in alone
    assert "&gt;99.9% sure" in alone
    assert alone.count('type="radio"') == 1


def test_dark_is_explained_where_it_is_seen() -> None:
    classifier = bmw_classifier([0.9, 0.08, 0.01, 0.01])
    assert "dark is outside the network" in answer_page(classifier, draw_car(0, 0))
    squashing = replace(classifier.spec, preprocessing=replace(classifier.spec.preprocessing, squash=True))
    assert "dark is outside the network" not in answer_page(Classifier(classifier.engine, squashing), draw_car(0, 0))


# Gradio fades an answer in, and while it is faint its contrast is too low.
_IS_OPAQUE = """() => {
  let part = document.querySelector(".bars");
  while (part && getComputedStyle(part).opacity === "1") part = part.parentElement;
  return part === null;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault_of_accessibility(browser: Any, site: Site, scheme: str) -> None:
    """Before a photo and with an answer; what Gradio leaves without a name or contrast is mended by the page."""
    with opened(browser, site, scheme=scheme) as tab:
        tab.locator("#examples .gallery-item").first.wait_for()
        assert axe.faults_in(tab) == []
        tab.locator("#examples .gallery-item").first.click()
        tab.locator(".bars:visible").first.wait_for()
        tab.wait_for_function(_IS_OPAQUE)
        assert axe.faults_in(tab) == []


def test_uploads_are_refused_while_as_many_as_the_demo_keeps_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In subfolders too, as Gradio makes them; the page itself is still served."""
    monkeypatch.setattr(demo_access, "MOST_FILES", 3)
    client = TestClient(demo_access.PageOnly(PlainTextResponse("taken"), tmp_path))
    for number in range(3):
        assert client.post("/gradio_api/upload").status_code == 200
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "car.jpg").touch()
    assert client.post("/gradio_api/upload").status_code == 503
    assert client.get("/").text == "taken"
    (tmp_path / "1" / "car.jpg").unlink()
    assert client.post("/gradio_api/upload").text == "taken"
