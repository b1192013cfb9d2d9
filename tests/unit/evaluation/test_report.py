"""The report of a run, read as text and opened in a browser."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import axe
import numpy as np
import pytest
from conftest import DESKTOP, PHONE, draw_car, luminance, small_config
from golden_copies import words_of
from PIL import Image
from test_model_card import MEASURED
from typer.testing import CliRunner

from twincar.cli import app
from twincar.core.errors import DataError, UsageError
from twincar.core.files import sha256_of_file, write_csv, write_json, write_text
from twincar.core.labels import ClassNames, stanford_cars
from twincar.core.preprocess import Preprocessing
from twincar.core.runs import MONITOR, RunFolder
from twincar.data.dataset import Annotation, PreparedData, write_prepared
from twincar.evaluation import evaluate as evaluate_module
from twincar.evaluation.report import artifacts
from twincar.evaluation.report.page import MAX_PAGE_BYTES, _calibration_verdict, report
from twincar.evaluation.report.photos import ImageBudget, show_mistakes
from twincar.evaluation.results import CorruptionScore, Robustness
from twincar.evaluation.subject import Subject
from twincar.metrics.classification import Chance, Interval
from twincar.models.calibration import Calibration
from twincar.models.checkpoint import build_network, save_model
from twincar.models.engines.open import open_engine
from twincar.models.spec import ModelSpec

SCRIPT = "<script>alert(1)</script>"
FALCON, VAN, NINE = "Aurora Falcon Coupe 2012", 'Borealis <i>"C/V"</i> &amp; Van 2009', "Corvus Nine SUV 2011"
CLASSES = (SCRIPT, FALCON, VAN, NINE)
# (truth, prediction, confidence); by hand, F1 is 0.8, 4/9, 1 and 0.4 in the order of the classes.
PREDICTIONS = [
    *[(0, 0, 0.9)] * 4,
    (1, 1, 0.9), (1, 1, 0.9), (1, 0, 0.95), (1, 0, 0.55),
    *[(2, 2, 0.9)] * 4,
    (3, 3, 0.9), (3, 1, 0.85), (3, 1, 0.75), (3, 1, 0.65),
]  # fmt: skip
MISSING = "06.jpg"  # the photo of the most confident mistake


def build_run(
    root: Path,
    classes: Sequence[str],
    predictions: Sequence[tuple[int, int, float]],
    draw: Callable[[int], Image.Image],
) -> Path:
    """An untrained run on photos `00.jpg`, `01.jpg`, ..., with the given predictions for its test photos."""
    data, names = root / "data", ClassNames(tuple(classes))
    (data / "photos").mkdir(parents=True)
    annotations = []
    for number, (truth, _, _) in enumerate(predictions):
        draw(number).save(data / "photos" / f"{number:02d}.jpg", quality=90)
        annotations.append(
            Annotation(file=f"{number:02d}.jpg", label=truth, split="test", width=96, height=64, box=None, sha256="")
        )
    source = str(root / "by hand")
    write_prepared(data, names, annotations, {"photo_root": "photos", "photos": {"train": 48}, "source": source})
    prepared = PreparedData.open(data)

    run = RunFolder.create(root / "run")
    config = small_config(data)
    write_text(run.config, config.to_yaml())
    write_csv(run.metrics, [{"epoch": 1, "train_loss": 1.5, "train_acc": 0.5, "val_loss": 1, "val_acc": 1, MONITOR: 1}])
    spec = ModelSpec(
        backbone=config.backbone,
        head="linear",
        classes=names,
        preprocessing=Preprocessing(height=64, width=64),
        calibration=Calibration(photos=40),
        provenance={
            "data": {"source": source, "sha256": prepared.manifest["sha256"]},
            "versions": {"torch": "2.99"},
            "not_validated": [classes[1]],
        },
    )
    save_model(run.best, build_network(spec), spec)

    logits = np.empty((len(predictions), 1, len(classes)), np.float32)
    for row, (_, predicted, confidence) in zip(logits[:, 0], predictions, strict=True):
        row[:] = np.log((1 - confidence) / (len(classes) - 1))
        row[predicted] = np.log(confidence)
    labels = np.array([truth for truth, _, _ in predictions])
    with pytest.MonkeyPatch.context() as patch:  # the figures take time, and the page does not use them
        patch.setattr(evaluate_module, "_draw_classes", lambda *_: None)
        patch.setattr(evaluate_module, "_draw_matrix", lambda *_: None)
        patch.setattr(evaluate_module, "_draw_reliability", lambda *_: None)
        patch.setattr(evaluate_module.plots, "training_curves", lambda _: {})
        write_csv(run.trained_on, [{"sha256": "that of a training photo", "split": "train"}])
        evaluate_module.report_logits(Subject.open(run.path), annotations, labels, logits)
    return run.path


def add_measurements(run: Path) -> None:
    """Add the results of calibration, open set, corruptions, scored explanations, audit and compare."""
    metrics = json.loads((run / "reports/test/metrics.json").read_text())
    metrics["calibration"] |= {"before": {"ece": 0.0812, "nll": 0.5, "brier": 0.2}}
    metrics["calibration"]["after"]["ece"] = 0.0234
    metrics["rejection"] |= {"false_rejection": 0.08, "accepted": 0.875, "accuracy_of_accepted": 0.786}
    metrics["risk_coverage"]["area"] = 0.1234
    metrics["measured"] = {"date": "2026-11-08", "machine": "2 cores of a processor", "seconds": 75.2}
    metrics["levels"] = [
        {"level": "class", "photos": 16, "ece": 0.1, "accuracy": 0.6875, "answered": 0.601, "precision": 0.912},
        {"level": "year", "photos": 16, "ece": 0.1, "accuracy": 0.843, "answered": None, "precision": None},
    ]
    write_json(run / "reports/test/metrics.json", metrics)
    scores = tuple(CorruptionScore("spatter", severity, 0.601 - severity / 20, 0.2, 0.7, 16) for severity in (1, 5))
    robustness = Robustness("test", 16, True, Interval(0.6875, 0.4, 0.9), scores, run / "reports/test")
    write_json(run / "reports/test/corruptions.json", robustness.to_dict())
    same = {"fpr95": 0.5, "oscr": 0.6, "rejected": 0.1, "auroc_by_others": {}}
    far = {**same, "name": "noise", "is_car": False, "photos": 9, "auroc": 0.987}
    unseen = {**same, "name": "hard", "is_car": True, "photos": 8, "auroc": 0.654}
    measured = {"split": "test", "photos": 16, "accuracy": 0.7, "false_rejection": 0.05, "rejected": 0.05}
    write_json(run / "reports/open_set/open_set.json", {**measured, "groups": [unseen, far]})
    mapped = [{"score": "deletion", "map": "random", "value": 0.345, "low": 0.3, "high": 0.4, "better": "lower"}]
    write_json(run / "reports/test/explanation_scores.json", {"split": "test", "photos": 16, "scores": mapped})
    audit = {"photos": 64, "invalid": {}, "findings": {"near duplicate": 17}, "classes": [], "to_exclude": 13}
    write_json(run / "reports/audit/audit.json", {**audit, "estimated_label_noise": None})
    counts = ("photos_first", "photos_second", "right_first", "right_second", "first_as_second", "second_as_first")
    confidences = ("confidence_first_as_second", "confidence_second_as_first")
    compared = {"first": FALCON, "second": NINE, "split": "test", "page": "falcon-nine.html", "pngs": []}
    compared |= {**dict.fromkeys(counts, 1), **dict.fromkeys(confidences)}
    write_json(run / "reports/compare/compare.json", {"pairs": [compared]})


@dataclass(frozen=True)
class Page:
    run: Path
    path: Path

    @property
    def text(self) -> str:
        """The page without Plotly, which is longer than the rest."""
        return re.sub(r"<script>/\*\*\n\* plotly.js.*?</script>", "", self.path.read_text(), flags=re.DOTALL)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """A page with all parts, and one missing photo."""
    run = build_run(tmp_path_factory.mktemp("small"), CLASSES, PREDICTIONS, lambda number: draw_car(number % 4, number))
    add_measurements(run)
    (run.parent / "data" / "photos" / MISSING).unlink()
    return Page(run, report(run).path)


@pytest.fixture(scope="module")
def large_page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """All 196 classes, half of the predictions wrong, and photos of noise, which do not all fit."""
    noise = np.random.default_rng(0).integers(0, 256, (4, 240, 320, 3), np.uint8)
    predictions = [(number % 196, (number + number // 196) % 196, 0.5 + number / 1000) for number in range(392)]
    run = build_run(
        tmp_path_factory.mktemp("large"),
        stanford_cars(),
        predictions,
        lambda number: Image.fromarray(noise[number % 4]),
    )
    return Page(run, report(run, out=run.parent / "small enough.html").path)


def test_the_page_reads_as_it_did(page: Page, golden: Callable[[str, str], None]) -> None:
    golden("report", words_of(page.text))


def test_the_summary_comes_first(page: Page) -> None:
    text = re.sub(r"\s+", " ", page.text)
    assert "<strong>68.8%</strong> on 16 test photos" in text
    assert text.index("macro-F1") < text.index('id="curves"')
    assert f"1 of 4 ({FALCON})" in text
    assert f"{NINE} and {FALCON}: 3" in text


def test_it_says_what_chance_is_and_when_and_on_what_it_was_measured(page: Page) -> None:
    text = re.sub(r"\s+", " ", page.text)
    assert "Chance is 25.0%: always predicting the most frequent class of these photos." in text  # 4 of 16 are of each
    assert "A guess at random among the 4 classes of the model would be right on 25.0%." in text
    assert "Evaluated on 8 November 2026, in 1 min 15 s, on 2 cores of a processor." in text


def test_every_result_is_shown(page: Page) -> None:
    calibration, rejection = ("0.081", "0.023"), ("92% of the validation", "12.5%", "78.6%", "0.1234")
    others = (
        "91.2%",
        "84.3%",
        "45.1%",
        "0.987",
        "0.654",
        "0.345",
        "near duplicate",
        "exclude: 13.",
        "falcon-nine.html",
    )
    for found in (*calibration, *rejection, *others):
        assert found in page.text, found
    assert "To add this" not in page.text
    drawn = json.loads(re.search(r'id="figures">(.*?)</script>', page.text).group(1))  # type: ignore[union-attr]
    assert set(drawn) == {"loss", "quality", "confusion", "reliability", "risk", "corruptions"}


def test_a_missing_part_names_the_command_that_adds_it(large_page: Page) -> None:
    commands = re.findall(r"To add this, run:</p>\s*<pre[^>]*>(.*?)\n", large_page.text)
    assert commands == [
        "twincar evaluate run --open-set",
        "twincar evaluate run --split test --corruptions",
        "twincar explain run --split test --score",
        "twincar audit data --deep --model run --out run/reports/audit",
    ]


def test_the_page_contains_no_path_of_this_computer(page: Page, large_page: Page, tmp_path: Path) -> None:
    """The page may be sent to others: settings, provenance, commands, and the note on missing data are checked."""
    without_data = report(page.run, data_folder=tmp_path / "missing", out=tmp_path / "page.html").path
    for path in (page.path, large_page.path, without_data):
        text = path.read_text()
        for private in (page.run.parent, page.run.parents[1], large_page.run.parent, tmp_path, Path.home()):
            assert str(private) not in text


def test_the_provenance_contains_hashes_and_commands(page: Page) -> None:
    for file in (page.run / "best.safetensors", page.run.parent / "data" / "manifest.json"):
        assert sha256_of_file(file) in page.text
    assert "twincar train data --config run/config.yaml" in page.text
    assert "twincar report run --split test" in page.text
    assert "data: data\n" in page.text
    assert "learning_rate: 0.001" in page.text
    assert "2.99" in page.text


def test_the_page_is_limited_in_size_and_says_what_it_omits(large_page: Page) -> None:
    assert 10_000_000 < large_page.path.stat().st_size < MAX_PAGE_BYTES
    shown = large_page.text.count('<figure class="card"')
    assert 20 < shown < 120
    assert f"The {shown} most confident of 196 wrong predictions" in large_page.text
    assert large_page.path.read_text().count("* plotly.js v") == 1


def test_without_room_for_photos_the_page_says_so(
    large_page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twincar.evaluation.report.page.MAX_PAGE_BYTES", 0)
    text = report(large_page.run, out=tmp_path / "page.html").path.read_text()
    assert "predictions.csv</code> lists the 196 wrong predictions" in text
    assert "<img src" not in text


def test_names_cannot_end_the_script_they_are_in(page: Page) -> None:
    assert SCRIPT not in page.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text


def test_without_an_evaluation_the_error_names_the_command(page: Page, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"on test photos only. First run: twincar evaluate \S+ --split val"):
        report(page.run, split="val")
    bare = shutil.copytree(page.run, tmp_path / "bare", ignore=shutil.ignore_patterns("reports"))
    with pytest.raises(UsageError, match=r"on none. First run: twincar evaluate \S+bare --split test"):
        report(bare)
    assert not (bare / "reports").exists()


def test_another_data_set_has_a_separate_page(page: Page, tmp_path: Path) -> None:
    data = PreparedData.open(page.run.parent / "data")
    other = tmp_path / "other"
    write_prepared(other, data.classes, data.annotations[:4], {"photo_root": str(data.photo_root), "photos": {}})
    with pytest.raises(
        UsageError, match=rf"of {other}, but it was evaluated on none. First run: .* --split test --data {other}"
    ):
        report(page.run, data_folder=other)
    folder = page.run / "evaluations" / f"other-{sha256_of_file(other / 'annotations.csv')[:8]}"
    shutil.copytree(page.run / "reports" / "test", folder / "test")
    metrics = json.loads((folder / "test" / "metrics.json").read_text())
    measured = {"data": "other", "seen": {"train": 3, "val": 1}, "absent": [FALCON, "a", "b", "c"]}
    write_json(folder / "test" / "metrics.json", metrics | measured)
    made = report(page.run, data_folder=other)
    assert made.path == folder / "report.html"
    text = re.sub(r"\s+", " ", made.path.read_text())
    assert "16 test photos of other, 3 of which the model was trained on and 1 of which chose the best epoch." in text
    assert f"Classes without photos here, which macro-F1 leaves out: 4 of 4 ({FALCON}, a, b and 1 more)." in text
    assert "trained on 48 photos" not in text  # the number of training photos is not that of this data set
    assert "twincar train data --config" in text


def test_without_its_data_the_page_has_placeholders(page: Page, tmp_path: Path) -> None:
    made = report(page.run, data_folder=tmp_path / "missing", out=tmp_path / "page.html")
    text = made.path.read_text()
    assert "No photos are shown: The data set is no longer" in text
    assert text.count("photo not found") == 2 * 5 + 2 * 2  # mistakes and twins


def test_the_command_prints_the_path_of_the_page(page: Page, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    result = CliRunner().invoke(app, ["report", str(page.run), "--split", "test", "--out", str(out)])
    assert result.stdout == f"Report on the test photos: {out} ({out.stat().st_size / 1e6:.1f} MB)\n"


def test_a_damaged_table_is_named(page: Page, tmp_path: Path) -> None:
    run = shutil.copytree(page.run, tmp_path / "run")
    (run / "reports/test/predictions.csv").write_text("file,truth\nx,y\n")
    with pytest.raises(DataError, match=r"predictions\.csv as TwinCar writes it"):
        report(run)


# In a browser.


@contextmanager
def opened(browser: Any, path: Path, viewport: dict[str, int] = DESKTOP, scheme: str = "light") -> Iterator[Any]:
    """The page in a separate tab; any console message or network request fails the test."""
    problems: list[str] = []
    context = browser.new_context(viewport=viewport, color_scheme=scheme, has_touch=viewport is PHONE)
    context.set_default_timeout(10_000)

    def only_the_file(route: Any) -> None:
        if route.request.url == path.as_uri():
            route.continue_()
        else:
            problems.append(f"requested {route.request.url}")
            route.abort()

    context.route(lambda url: not url.startswith("data:"), only_the_file)
    tab = context.new_page()
    tab.on("console", lambda message: problems.append(message.text))
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("dialog", lambda dialog: (problems.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    tab.goto(path.as_uri())
    yield tab
    context.close()
    assert problems == []


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_the_screen_and_follows_the_colour_scheme(
    browser: Any, page: Page, viewport: dict[str, int], scheme: str
) -> None:
    with opened(browser, page.path, viewport, scheme) as tab:
        assert tab.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
        ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        ink = tab.evaluate("getComputedStyle(document.querySelector('#figure-loss .xtick text')).fill")
        assert (luminance(ground) > 0.8) == (luminance(ink) < 0.3) == (scheme == "light")
        assert tab.locator("[data-figure] .plot-container").count() == tab.locator("[data-figure]").count() == 6


def test_many_classes_and_mistakes_fit_a_phone(browser: Any, large_page: Page) -> None:
    with opened(browser, large_page.path, PHONE) as tab:
        assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        shown = tab.locator("#gallery .card:not([hidden])")
        assert shown.count() == 24
        tab.get_by_role("button", name="Show all").click()
        assert shown.count() == tab.locator("#gallery .card").count() > 24
        assert tab.get_by_role("button", name="Show all").count() == 0


def names_in(tab: Any, visible: bool = False) -> list[str]:
    rows = "#class-table tbody tr" + (":not([hidden])" if visible else "")
    return [name.strip() for name in tab.locator(f"{rows} th").all_inner_texts()]


def test_the_table_sorts_and_filters(browser: Any, page: Page) -> None:
    with opened(browser, page.path) as tab:
        assert names_in(tab) == sorted(CLASSES)
        heading = tab.locator("#class-table th", has_text="F1")
        heading.locator("button").click()
        assert names_in(tab) == [NINE, FALCON, SCRIPT, VAN]
        assert heading.get_attribute("aria-sort") == "ascending"
        tab.keyboard.press("Enter")  # the button still has the focus
        assert names_in(tab) == [VAN, SCRIPT, FALCON, NINE]
        assert heading.get_attribute("aria-sort") == "descending"
        assert tab.locator("[aria-sort]").count() == 1

        tab.get_by_label("Show classes with").fill("2011 corvus")
        assert names_in(tab, visible=True) == [NINE]
        assert tab.locator("#class-count").inner_text() == "1 of 4 classes"
        tab.get_by_label("Show classes with").fill("")
        assert len(names_in(tab, visible=True)) == 4


def test_the_gallery_begins_with_the_most_confident_mistake_and_filters(browser: Any, page: Page) -> None:
    with opened(browser, page.path) as tab:
        cards = tab.locator("#gallery .card")
        confidences = [int(text) for text in re.findall(r"(\d+)% confidence", " ".join(cards.all_inner_texts()))]
        assert confidences == [95, 85, 75, 65, 55]
        assert cards.nth(0).locator(".placeholder").count() == 2  # its photo is missing
        cards.nth(1).scroll_into_view_if_needed()
        assert cards.nth(1).locator("img").evaluate_all(
            "images => Promise.all(images.map(image => image.decode().then(() => image.naturalWidth)))"
        ) == [96, 96]  # the photo and its heat map
        choice = tab.get_by_label("Show mistakes with")
        for name, shown in [(NINE, 3), (SCRIPT, 2), (FALCON, 5)]:
            choice.select_option(name)
            assert tab.locator("#gallery .card:not([hidden])").count() == shown
        choice.select_option(SCRIPT)
        assert tab.locator("#mistake-count").inner_text() == "2 of 5 mistakes"


def hover(tab: Any, truth: int, predicted: int) -> str:
    """The text shown for a cell of the matrix, given the indices of its classes."""
    figure = tab.locator("#figure-confusion")
    figure.scroll_into_view_if_needed()
    x, y = figure.evaluate(
        """(figure, [truth, predicted]) => {
            const { xaxis, yaxis } = figure._fullLayout, box = figure.getBoundingClientRect();
            return [box.x + xaxis._offset + xaxis.c2p(predicted), box.y + yaxis._offset + yaxis.c2p(truth)];
        }""",
        [truth, predicted],
    )
    tab.mouse.move(x, y)
    return str(tab.locator(".hoverlayer .hovertext").text_content())


def test_a_cell_of_the_matrix_shows_both_names_and_the_count(browser: Any, page: Page, large_page: Page) -> None:
    with opened(browser, page.path) as tab:
        assert hover(tab, 1, 0) == f"true: {FALCON}predicted: {SCRIPT}photos: 2"
    cars = stanford_cars()
    with opened(browser, large_page.path) as tab:
        assert hover(tab, 195, 0) == f"true: {cars[195]}predicted: {cars[0]}photos: 1"
        buttons = tab.locator(".modebar-btn").evaluate_all("all => all.map(button => button.dataset.title)")
        assert buttons == ["Zoom in", "Zoom out", "Reset axes"]  # no button sends the figure anywhere


def click(tab: Any, truth: int, predicted: int) -> None:
    hover(tab, truth, predicted)
    names = f"true: {CLASSES[truth]}predicted: {CLASSES[predicted]}"
    tab.wait_for_function(
        "names => document.querySelector('.hoverlayer .hovertext')?.textContent.startsWith(names)", arg=names
    )
    tab.mouse.down()
    tab.mouse.up()


def test_a_click_on_a_cell_shows_its_photos_and_so_do_the_lists(browser: Any, page: Page) -> None:
    with opened(browser, page.path) as tab:
        shown, said = tab.locator("#cell-photos .card"), tab.locator("#cell-count")
        assert shown.count() == 3  # at first the cell with the most mistakes: Corvus Nine predicted as the Falcon
        click(tab, 1, 0)
        assert [tab.locator(f"#cell-{name} option:checked").inner_text() for name in ("truth", "predicted")] == [
            FALCON,
            f"{SCRIPT} (2)",
        ]
        assert shown.locator("code").all_inner_texts() == ["06.jpg", "07.jpg"]
        click(tab, 2, 2)  # correct: pictures that the gallery does not have
        assert said.inner_text() == "4 photos"
        assert shown.locator("code").all_inner_texts() == [f"{number:02d}.jpg" for number in range(8, 12)]
        assert (
            shown.locator("img").evaluate_all(
                "images => Promise.all(images.map(image => image.decode().then(() => image.naturalWidth)))"
            )
            == [96] * 4
        )
        click(tab, 0, 3)
        assert said.inner_text() == "0 photos"
        tab.get_by_label("Photos of").select_option(NINE)
        assert tab.locator("#cell-predicted option").all_inner_texts() == [f"{FALCON} (3)", f"{NINE} (1, correct)"]
        assert shown.count() == 3
        tab.get_by_label("predicted as").select_option(f"{NINE} (1, correct)")
        assert shown.locator("code").all_inner_texts() == ["12.jpg"]


def test_photos_without_room_are_counted_and_named(browser: Any, large_page: Page) -> None:
    with opened(browser, large_page.path) as tab:
        tab.get_by_label("Photos of").select_option(stanford_cars()[5])
        tab.get_by_label("predicted as").select_option(f"{stanford_cars()[5]} (1, correct)")
        assert tab.locator("#cell-count").inner_text() == "1 photo, 0 of them shown"
        tab.get_by_text("Names of 1 more").click()
        assert tab.locator("#cell-files code").inner_text() == "05.jpg"


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing(browser: Any, page: Page, viewport: dict[str, int]) -> None:
    assert axe.faults(browser, page.path, viewport) == []


def test_markup_in_a_name_is_shown_as_text(browser: Any, page: Page) -> None:
    with opened(browser, page.path) as tab:
        assert {SCRIPT, VAN} <= set(names_in(tab))
        assert {SCRIPT, VAN} <= set(tab.locator("#figure-confusion .ytick text").all_text_contents())
        assert SCRIPT in tab.locator("#mistake-filter option").all_text_contents()
        assert tab.locator("script").count() == 4  # Plotly, the figures, the cells, and ours


def test_a_model_at_chance_level_is_reported_as_such(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "than chance" not in page.text
    read = artifacts.read_metrics(page.run / "reports" / "test")
    at_chance = replace(read, chance=Chance(read.accuracy.low, 0.2))
    monkeypatch.setattr("twincar.evaluation.report.page.artifacts.read_metrics", lambda _: at_chance)
    text = Page(page.run, report(page.run, out=page.run / "chance.html").path).text
    assert "The model is not significantly above chance.</strong>" in text


@pytest.mark.parametrize(
    ("confidence", "chance", "verdict"),
    [
        (0.69, 0.25, "on average, these agree"),
        (0.75, 0.25, "on average, these agree"),  # within the interval
        (0.75, 0.65, "on average, these agree, but the accuracy is that of chance"),
        (0.95, 0.25, "the model is overconfident"),
        (0.30, 0.25, "the model is underconfident"),
    ],
)
def test_the_mean_confidence_is_compared_with_the_accuracy(confidence: float, chance: float, verdict: str) -> None:
    metrics = replace(MEASURED, accuracy=Interval(0.7, 0.6, 0.8), chance=Chance(chance, 0.1))
    assert _calibration_verdict(confidence, metrics) == verdict


def test_darkening_is_explained_if_a_photo_is_cropped(page: Page) -> None:
    assert "dark is outside the network" in page.text  # photos of 96×64 pixels, cropped to a square
    images = ImageBudget(PreparedData.open(page.run.parent / "data").photos(), 10**6)
    engine, spec = open_engine(page.run)
    wrong = [row for row in artifacts.read_predictions(page.run / "reports/test/predictions.csv") if not row.correct]
    squashed = replace(spec, preprocessing=replace(spec.preprocessing, squash=True))
    assert any(mistake.is_cropped for mistake in show_mistakes(wrong, images, engine, spec))
    assert not any(mistake.is_cropped for mistake in show_mistakes(wrong, images, engine, squashed))
