"""The page that computes in a browser, in a real browser: its answers, its words, without a network, for everybody."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import axe
import numpy as np
import pytest
from colour_model import BLUE, CLASSES, GREEN, RED, SCRIPT, YELLOW, paint, paint_street, write_model
from command_line import run
from conftest import DESKTOP, PHONE, luminance
from detector_files import constant_detector
from disks import rename_as_on_windows
from PIL import Image
from static_page import name_photos, open_page, runtime_file, served

import twincar
from twincar.core.errors import UsageError
from twincar.core.options import DetectOptions
from twincar.data.toy.cars import CLASS_NAMES, draw_photo
from twincar.deploy import web_runtime
from twincar.deploy.static_demo import write_static_demo
from twincar.inference.classifier import Classifier
from twincar.models.bundled import MODEL

TWO_CARS = [[0.05, 0.2, 0.45, 0.9], [0.55, 0.2, 0.95, 0.8]]


@dataclass(frozen=True)
class Site:
    """A page that is served."""

    address: str
    folder: Path
    model: Path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Names colours, and finds two cars in every photo."""
    folder = tmp_path_factory.mktemp("static")
    (folder / "examples").mkdir()
    paint(folder / "examples" / "green.png", GREEN)
    (folder / "detector.onnx").write_bytes(constant_detector(TWO_CARS, [[0, 0.9]] * 2))
    model, runtime = write_model(folder / "model.onnx", framing="car"), runtime_file(folder)
    detection = DetectOptions(detector=str(folder / "detector.onnx"))
    write_static_demo(model, folder / "page", detection=detection, examples=folder / "examples", runtime=runtime)
    with served(folder / "page") as address:
        yield Site(address, folder / "page", model)


@contextmanager
def opened(browser: Any, site: Site, viewport: dict[str, int] = DESKTOP, scheme: str = "light") -> Iterator[Any]:
    """The page in a browser that knows nothing of it; a script's error or a request to elsewhere fails the test."""
    trouble: list[str] = []
    context = browser.new_context(viewport=viewport, color_scheme=scheme, has_touch=viewport is PHONE)
    context.set_default_timeout(30_000)
    tab = context.new_page()

    def watch(request: Any) -> None:
        if not request.url.startswith((site.address, "data:", "blob:")):
            trouble.append(f"asked for {request.url}")

    context.on("request", watch)
    tab.on("pageerror", lambda error: trouble.append(str(error)))
    tab.on("dialog", lambda dialog: (trouble.append(dialog.message), dialog.dismiss()))
    open_page(tab, site.address)
    tab.locator("#known").get_by_text(str(len(CLASSES))).wait_for()
    yield tab
    context.close()
    assert trouble == []


def hand_in(tab: Any, photo: Path) -> str:
    """The headline of the answer."""
    tab.locator("#file").set_input_files(photo)
    return str(tab.locator("#answer h3").inner_text())


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A red car and a yellow one, where the detector finds cars."""
    path = tmp_path_factory.mktemp("street") / "street.png"
    return paint_street(path, {RED: (10, 20, 190, 190), YELLOW: (210, 20, 390, 180)})


def test_the_page_has_the_title_that_it_is_given(colour_model: Path, tmp_path: Path) -> None:
    title = f"Tom's cars {SCRIPT}"
    write_static_demo(colour_model, tmp_path / "page", runtime=runtime_file(tmp_path), title=title)
    page = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    shown = re.findall(r"<(title|h1)>(.*?)</\1>", page)
    assert [(name, html.unescape(text)) for name, text in shown] == [("title", title), ("h1", title)]
    assert SCRIPT not in page


def test_each_car_is_boxed_and_named(browser: Any, site: Site, street: Path) -> None:
    with opened(browser, site) as tab:
        tab.get_by_text("The first photo loads").wait_for()
        assert hand_in(tab, street) == "BMW M3 Sedan 2012"
        assert "2 cars found" in tab.locator("#status").inner_text()
        boxes = tab.locator("#boxes button")
        assert [boxes.nth(n).get_attribute("aria-pressed") for n in (0, 1)] == ["true", "false"]
        photo, box = (tab.locator(name).first.bounding_box() for name in ("#photo", "#boxes button"))
        assert (box["x"] - photo["x"]) / photo["width"] == pytest.approx(0.05, abs=0.01)
        assert box["height"] / photo["height"] == pytest.approx(0.7, abs=0.01)
        facts = dict(zip(*(tab.locator(f"dl {what}").all_inner_texts() for what in ("dt", "dd b")), strict=True))
        assert facts == {"Make": "BMW", "Model": "M3", "Body": "Sedan", "Year": "2012"}
        tab.keyboard.press("Tab")
        boxes.nth(1).focus()
        tab.keyboard.press("Enter")
        assert "Car 2 of 2" in tab.locator("#answer").inner_text()
        assert tab.locator("#said").inner_text() == "2 cars found; choose one by its box or its name."
        assert tab.locator("#heard").inner_text() == "Car 2 of 2: Not sure which car this is."
        listed = tab.get_by_label("Cars in the photo", exact=True).get_by_role("button")
        assert listed.all_inner_texts() == ["1 BMW M3 Sedan 2012", "2 Not sure which car this is"]
        assert [listed.nth(n).get_attribute("aria-pressed") for n in (0, 1)] == ["false", "true"]
        listed.first.click()
        assert "Car 1 of 2" in tab.locator("#answer").inner_text()


def test_the_answers_are_those_of_python(browser: Any, site: Site, street: Path, tmp_path: Path) -> None:
    photos = [
        street,
        *(paint(tmp_path / f"{n}.png", colour) for n, colour in enumerate((GREEN, BLUE, YELLOW, (9, 9, 9)))),
        tmp_path / "small.png",
    ]
    Image.new("RGB", (60, 7), RED).save(photos[-1])
    detection = DetectOptions(detector=str(site.folder.parent / "detector.onnx"))
    classifier = Classifier.load(site.model, detection=detection)
    with opened(browser, site) as tab:
        statuses = compare(classifier, name_photos(tab, photos), photos)
    assert {"named", "not sure", "too small", "unknown car"} <= statuses


def compare(classifier: Classifier, found: list[dict[str, Any]], photos: list[Path]) -> set[str]:
    """Same cars, classes, answers and reasons; probabilities within 0.01, boxes within 2 pixels. The reasons."""
    for result, photo in zip(found, photos, strict=True):
        expected = [prediction.to_dict() for prediction in classifier.predict_cars(photo)]
        assert len(result["cars"]) == len(expected), photo
        for car, wanted in zip(result["cars"], expected, strict=True):
            assert (car["box"] is None) == (wanted["box"] is None)
            assert car["box"] is None or car["box"] == pytest.approx(wanted["box"], abs=2)
            assert car["status"] == wanted["status"], photo
            names = [
                [one[name] for one in topk[:1]]
                for topk, name in ((car["topk"], "name"), (wanted["topk"], "class_name"))
            ]
            assert names[0] == names[1]
            shares = [one["probability"] for one in wanted["topk"]]
            assert [one["probability"] for one in car["topk"]] == pytest.approx(shares, abs=0.01)
            assert {one["level"]: one["name"] for one in car["levels"]} == {
                level: name for level, (name, _) in wanted["levels"].items()
            }
            answer = car["answer"] or {"name": "", "level": "", "alternatives": []}
            assert (answer["name"], answer["level"], answer["alternatives"]) == (
                wanted["answer"],
                wanted["level"],
                wanted["alternatives"],
            )
    return {car["status"] for result in found for car in result["cars"]}


@pytest.fixture(scope="module")
def bundled_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("bundled")
    write_static_demo(MODEL, folder / "page", runtime=runtime_file(folder))
    with served(folder / "page") as address:
        yield Site(address, folder / "page", MODEL)


def toy_photos(folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    paths = []
    for number in range(count):
        paths.append(folder / f"{number}.jpg")
        draw_photo(CLASS_NAMES[number % len(CLASS_NAMES)], seed=number, split="test").image.save(paths[-1], quality=92)
    return paths


def test_the_bundled_model_answers_as_in_python(browser: Any, bundled_site: Site, tmp_path: Path) -> None:
    photos = toy_photos(tmp_path / "toys", 2)
    Image.fromarray(np.full((90, 120, 3), 200, np.uint8)).save(tmp_path / "nothing.png")
    two_cars = Image.open(Path(twincar.__file__).with_name("assets") / "two_cars.jpg")
    two_cars.crop((349, 0, *two_cars.size)).save(tmp_path / "slice.png")  # of the car on the left
    photos += [tmp_path / "nothing.png", tmp_path / "slice.png"]
    check_bundled(browser, bundled_site, photos, {"no car found", "cut off"})


@pytest.mark.slow
def test_sixty_photos_are_answered_as_in_python(
    browser: Any, bundled_site: Site, real_photos: Path, tmp_path: Path
) -> None:
    full = sorted((real_photos / "full" / "photos").iterdir())
    street = sorted((real_photos.parent / "street" / "photos").iterdir())
    assert len(full[:30] + street[:20]) == 50
    check_bundled(
        browser, bundled_site, full[:30] + street[:20] + toy_photos(tmp_path / "toys", 10), {"named", "not sure"}
    )


def check_bundled(browser: Any, site: Site, photos: list[Path], statuses: set[str]) -> None:
    classifier = Classifier.load(engine="onnxruntime")
    tab = browser.new_page()
    open_page(tab, site.address)
    assert statuses <= compare(classifier, name_photos(tab, photos), photos)
    tab.close()


def test_a_photo_without_cars_says_so(browser: Any, site: Site, tmp_path: Path) -> None:
    page = shutil.copytree(site.folder, tmp_path / "page")
    (file,) = page.glob("*/settings.json")
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings["detector"]["threshold"] = 0.99
    file.write_text(json.dumps(settings), encoding="utf-8")
    with served(page) as address, opened(browser, Site(address, page, site.model)) as tab:
        assert hand_in(tab, paint(tmp_path / "red.png", RED)) == "No car found"
        assert tab.locator("#boxes button").count() == 0
        assert tab.locator("#answer .bars li").count() == 0
        assert tab.locator("#heat").is_hidden()


def test_a_photo_that_cannot_be_read_is_refused(browser: Any, site: Site, tmp_path: Path, street: Path) -> None:
    (tmp_path / "notes.txt").write_text("no photo")
    with opened(browser, site) as tab:
        tab.locator("#file").set_input_files(tmp_path / "notes.txt")
        tab.get_by_role("status").get_by_text("cannot read notes.txt as a photo").wait_for()
        assert hand_in(tab, street) == "BMW M3 Sedan 2012"


def test_names_are_shown_as_text(browser: Any, site: Site, tmp_path: Path) -> None:
    blue = paint_street(tmp_path / "blue.png", {BLUE: (0, 0, 400, 200)})
    with opened(browser, site) as tab:
        hand_in(tab, blue)
        assert SCRIPT in tab.locator("#answer .bars").inner_text()


def test_photos_are_dropped_and_pasted_and_examples_clicked(browser: Any, site: Site) -> None:
    send = """async ([kind, name]) => {
      const data = new DataTransfer();
      data.items.add(new File([await (await fetch(name)).blob()], "car.jpg", { type: "image/jpeg" }));
      const event = kind === "drop" ? new DragEvent("drop", { dataTransfer: data, cancelable: true })
                                    : new ClipboardEvent("paste", { clipboardData: data });
      dispatchEvent(event);
    }"""
    (example,) = (site.folder / "examples").iterdir()
    with opened(browser, site) as tab:
        for kind in ("drop", "paste"):
            tab.evaluate(send, [kind, f"examples/{example.name}"])
            tab.locator("#answer h3").get_by_text("Volvo C30 Hatchback").wait_for()
            tab.evaluate("document.querySelector('#answer').replaceChildren()")
        tab.get_by_role("button", name="Example 1").click()
        tab.locator("#answer h3").get_by_text("Volvo C30 Hatchback").wait_for()


def test_it_works_without_a_network_after_the_first_visit(browser: Any, site: Site, street: Path) -> None:
    with opened(browser, site) as tab:
        hand_in(tab, street)
        tab.context.set_offline(True)
        tab.reload()
        tab.locator("body[data-ready]").wait_for()  # by itself, as everything is there
        assert hand_in(tab, street) == "BMW M3 Sedan 2012"


FOR_A_YEAR = "public, max-age=31536000, immutable"


def deploy(source: Path, folder: Path, *, day: int) -> None:
    """Put a page in the place of another; servers compare files by whole seconds."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    for file in folder.rglob("*"):
        os.utime(file, (day * 86400, day * 86400))


@pytest.fixture(scope="module")
def newer(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same page with another title, so that only names by content tell them apart."""
    folder, made = tmp_path_factory.mktemp("newer"), site.folder.parent
    write_static_demo(
        site.model,
        folder / "page",
        detection=DetectOptions(detector=str(made / "detector.onnx")),
        examples=made / "examples",
        runtime=runtime_file(folder),
        title="Newer cars",
    )
    return folder / "page"


@pytest.mark.parametrize("cache", ["", FOR_A_YEAR], ids=["no header", "for a year"])
def test_visitors_get_the_new_version_whatever_is_cached(
    browser: Any, site: Site, newer: Path, street: Path, tmp_path: Path, cache: str
) -> None:
    deploy(site.folder, tmp_path / "page", day=20000)
    with served(tmp_path / "page", cache) as address, opened(browser, Site(address, newer, site.model)) as busy:
        assert hand_in(busy, street) == "BMW M3 Sedan 2012"
        deploy(newer, tmp_path / "page", day=20001)
        visit = busy.context.new_page()
        visit.goto(address)
        visit.get_by_role("heading", name="Newer cars").wait_for()
        visit.locator("#known").get_by_text(str(len(CLASSES))).wait_for()
        assert hand_in(visit, street)
        busy.get_by_text("There is a new version of this page.").wait_for()
        assert busy.locator("#answer h3").inner_text() == "BMW M3 Sedan 2012"  # nobody loses an answer
        busy.get_by_role("button", name="Reload").click()
        busy.get_by_role("heading", name="Newer cars").wait_for()


def test_a_page_that_only_the_cache_has_kept_is_renewed(browser: Any, site: Site, newer: Path, tmp_path: Path) -> None:
    deploy(site.folder, tmp_path / "page", day=20000)
    with served(tmp_path / "page", FOR_A_YEAR) as address, opened(browser, Site(address, newer, site.model)) as first:
        first.evaluate(
            """async () => {
              for (const one of await navigator.serviceWorker.getRegistrations()) await one.unregister();
              for (const name of await caches.keys()) await caches.delete(name);
            }"""
        )
        deploy(newer, tmp_path / "page", day=20001)
        visit = first.context.new_page()
        first.close()
        visit.goto(address)
        visit.get_by_role("heading", name="Newer cars").wait_for()


def test_an_open_page_whose_model_is_gone_says_what_to_do(
    browser: Any, site: Site, street: Path, tmp_path: Path
) -> None:
    page = shutil.copytree(site.folder, tmp_path / "page")
    with served(page) as address, opened(browser, Site(address, page, site.model)) as tab:
        for file in page.glob("model.onnx.*"):
            file.unlink()
        tab.locator("#file").set_input_files(street)
        tab.locator("#said").get_by_text("may have been renewed since it was opened: reload it.").wait_for()


def test_a_page_whose_program_is_gone_says_what_to_do(browser: Any, site: Site, tmp_path: Path) -> None:
    page = shutil.copytree(site.folder, tmp_path / "page")
    next(page.glob("*/answer.js")).unlink()
    tab = browser.new_page()
    with served(page) as address:
        tab.goto(address)
        tab.get_by_role("alert").get_by_text("A file of this page is missing").wait_for()
        assert tab.get_by_role("button", name="Choose a photo").is_disabled()
    tab.close()


def test_every_file_but_those_that_are_never_cached_is_named_by_its_content(site: Site, newer: Path) -> None:
    for page in (site.folder, newer):
        listed = json.loads((page / "sw.js").read_text(encoding="utf-8").partition("FILES = ")[2].partition(";\n")[0])
        files = {file.relative_to(page).as_posix() for file in page.rglob("*") if file.is_file()}
        assert {*listed["needed"], *listed["others"], "index.html", "sw.js"} == files
        assert listed["page"] in listed["needed"]
        fixed = {name for name in files if not re.search(r"[0-9a-f]{12}[./]", name)}
        assert {name for name in fixed if "LICENSE" not in name} == {"index.html", "sw.js", "start.js"}
    folders = [{file.parent.name for file in page.glob("*/page.js")} for page in (site.folder, newer)]
    assert folders[0].isdisjoint(folders[1])


def test_the_page_promises_only_what_its_address_allows(browser: Any, site: Site) -> None:
    for secure in (True, False):
        context = browser.new_context()
        if not secure:  # as over HTTP from another computer
            context.add_init_script(
                "Object.defineProperty(Navigator.prototype, 'serviceWorker', { get: () => undefined });"
                "Object.defineProperty(globalThis, 'isSecureContext', { get: () => false })"
            )
        tab = context.new_page()
        tab.goto(site.address)
        tab.locator("#known").get_by_text(str(len(CLASSES))).wait_for()
        assert tab.get_by_text("After the first photo").is_visible() is secure
        assert tab.get_by_text("Over HTTPS").is_visible() is not secure
        context.close()


def test_the_heat_map_is_strongest_on_what_speaks_for_the_answer(browser: Any, site: Site, tmp_path: Path) -> None:
    half = paint_street(tmp_path / "half.png", {RED: (100, 20, 190, 190)}, ground="black")  # the right half of the car
    with opened(browser, site) as tab:
        hand_in(tab, half)
        alpha = tab.locator("#heat").evaluate(
            "(canvas) => [0.1, 0.4, 0.7].map((x) => canvas.getContext('2d')"
            ".getImageData(x * canvas.width, 0.5 * canvas.height, 1, 1).data[3])"
        )
        assert alpha[0] < 20 < 180 < alpha[1]
        assert alpha[2] == 0  # outside of the car
        tab.get_by_label("Show what it looked at").uncheck()
        assert tab.locator("#heat").is_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_it_is_accessible(browser: Any, site: Site, street: Path, viewport: dict[str, int], scheme: str) -> None:
    with opened(browser, site, viewport, scheme) as tab:
        assert axe.faults_in(tab) == []
        hand_in(tab, street)
        tab.locator("details").evaluate("(details) => details.open = true")
        assert axe.faults_in(tab) == []
        assert tab.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
        ground = luminance(tab.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert ground > 0.9 if scheme == "light" else ground < 0.1


def test_the_page_says_why_it_does_not_start_from_a_disk(browser: Any, site: Site) -> None:
    tab = browser.new_page()
    tab.goto((site.folder / "index.html").as_uri())
    assert "python -m http.server --bind 127.0.0.1" in tab.get_by_role("alert").inner_text()
    assert tab.locator("#loading").is_hidden()
    assert tab.get_by_role("button", name="Choose a photo").is_disabled()
    tab.close()


def test_the_licences_are_beside_it(site: Site) -> None:
    (runtime,) = (site.folder / "onnxruntime").glob("LICENSE.*.txt")
    assert "MIT" in runtime.read_text(encoding="utf-8")
    assert "Its weights" in (site.folder / "LICENSE-model.txt").read_text(encoding="utf-8")
    assert not (site.folder / "LICENSE-detector.txt").exists()  # it is the user's own


def test_another_runtime_is_refused(tmp_path: Path, colour_model: Path) -> None:
    (tmp_path / "other.tgz").write_bytes(b"other")
    with pytest.raises(UsageError, match=r"other\.tgz, but its SHA-512 differs.*npm pack onnxruntime-web@"):
        write_static_demo(colour_model, tmp_path / "page", runtime=tmp_path / "other.tgz")
    with pytest.raises(UsageError, match=r"in .*none\.tgz, but it cannot be read"):
        write_static_demo(colour_model, tmp_path / "page", runtime=tmp_path / "none.tgz")
    assert not (tmp_path / "page").exists()


def test_an_empty_folder_is_filled_on_windows_too(
    tmp_path: Path, colour_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = runtime_file(tmp_path)
    (tmp_path / "page").mkdir()
    rename_as_on_windows(monkeypatch)
    write_static_demo(colour_model, tmp_path / "page", runtime=runtime)
    assert (tmp_path / "page" / "index.html").is_file()


def test_npm_is_asked_for_where_it_is_missing(
    tmp_path: Path, colour_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_runtime.shutil, "which", lambda _: None)
    failed = run("demo", colour_model, "--static", tmp_path / "page")
    assert failed.returncode == 2
    assert "Expected npm, which fetches onnxruntime-web" in failed.stderr
    assert "--runtime FILE" in failed.stderr


def test_options_that_would_do_nothing_are_refused(tmp_path: Path) -> None:
    static, space = ("--static", tmp_path / "page"), ("--space", tmp_path / "space")
    for options, message in (
        ((*static, *space), "one of --space and --static"),
        ((*static, "--port", 80), "without --space and --static"),
        (("--runtime", tmp_path / "ort.tgz"), "only with --static"),
        (("--title", "My cars"), "only with --static"),
    ):
        failed = run("demo", *options)
        assert (failed.returncode, message in failed.stderr) == (2, True)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_empty_and_a_model_for_torch_are_refused(tmp_path: Path, colour_model: Path) -> None:
    with pytest.raises(UsageError, match="empty folder for the page"):
        write_static_demo(colour_model, tmp_path)
    with pytest.raises(UsageError, match="twincar export RUN"):
        write_static_demo(tmp_path, tmp_path / "page")
