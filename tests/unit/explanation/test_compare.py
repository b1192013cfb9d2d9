"""The comparison of two classes: the photos that are shown, the counts, and the page."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import axe
import numpy as np
import pytest
from conftest import CLASSES, PHONE, draw_car
from golden_copies import words_of
from PIL import Image
from small_backbone import BACKBONE

from twincar.core.errors import LabelError, PhotoError, UsageError
from twincar.core.files import write_csv, write_text
from twincar.core.labels import ClassNames
from twincar.core.preprocess import Preprocessing
from twincar.data.dataset import PreparedData
from twincar.data.prepare import PrepareOptions, prepare
from twincar.evaluation.results import ComparedPair
from twincar.explanation.compare import compare
from twincar.models.checkpoint import save_model
from twincar.models.network import CarNet
from twincar.models.spec import ModelSpec

SEDAN, COUPE, VAN, SUV = (name.replace("/", "-") for name in CLASSES)  # names of their folders


@pytest.fixture(scope="module")
def run(small_run: Path, small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with given predictions for the 12 test photos, 3 of each class: 2 sedans are predicted as coupes, at 0.9
    and 0.7, 1 coupe as a sedan, at 0.6, and 1 coupe as a van; all others are correct."""
    copied = tmp_path_factory.mktemp("compare") / "run"
    shutil.copytree(small_run, copied, ignore=shutil.ignore_patterns("reports"))
    data = PreparedData.open(small_data)
    wrong = {(SEDAN, 0): (COUPE, 0.9), (SEDAN, 1): (COUPE, 0.7), (COUPE, 0): (SEDAN, 0.6), (COUPE, 2): (VAN, 0.5)}
    rows = []
    for index, annotation in enumerate(data.split("test")):
        truth = data.classes[annotation.label or 0]
        top1, confidence = wrong.get((truth, index % 3), (truth, 0.8))
        rows.append({"file": annotation.file, "truth": truth, "top1": top1, "probability1": confidence})
    write_csv(copied / "reports/test/predictions.csv", rows)
    return copied


def test_the_most_confused_pairs_and_their_counts(run: Path) -> None:
    comparison = compare(run, split="test")
    assert comparison.page.name == "twins.html"
    twins, second = comparison.pairs
    assert twins == ComparedPair(
        first=SEDAN,
        second=COUPE,
        split="test",
        photos_first=3,
        photos_second=3,
        right_first=1,
        right_second=1,
        first_as_second=2,
        second_as_first=1,
        confidence_first_as_second=pytest.approx(0.8),
        confidence_second_as_first=pytest.approx(0.6),
        page="twins.html",
        pngs=["aurora-falcon-sedan-2012--aurora-falcon-coupe-2012.png"],
    )
    assert (second.first, second.second, second.confidence_second_as_first) == (COUPE, VAN, None)


def test_the_page_shows_examples_and_mistakes_and_is_one_file(run: Path, golden: Callable[[str, str], None]) -> None:
    comparison = compare(run, [SEDAN, COUPE], split="test")
    page = comparison.page.read_text()
    golden("compare", words_of(page))
    # one correct sedan, two wrong ones, one wrong coupe, one correct one: photo, Grad-CAM++ and two contrasts of each
    assert page.count('src="data:image/webp;base64,') == 5 * 4
    assert page.count("src=") == 5 * 4
    assert "://" not in page
    with Image.open(comparison.page.with_suffix(".png")) as picture:
        assert picture.height > picture.width / 2


def test_a_class_that_is_never_predicted_correctly_is_shown_too(run: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(run, tmp_path / "run"))
    table = copied / "reports/test/predictions.csv"
    write_text(table, table.read_text().replace(f",{VAN},0.8", f",{SUV},0.8"))
    page = compare(copied, [VAN, COUPE], split="test").page.read_text()
    assert f"{VAN}: never predicted correctly" in page
    assert f"{COUPE}: most confident correct predictions" in page


def test_axe_finds_nothing_on_the_page(browser: Any, run: Path) -> None:
    assert axe.faults(browser, compare(run, [SEDAN, COUPE], split="test").page, PHONE) == []


def test_pairs_of_all_pages_are_listed_for_the_report(run: Path) -> None:
    shutil.rmtree(run / "reports/compare", ignore_errors=True)
    compare(run, split="test")
    compare(run, [VAN, SUV], split="test")
    compare(run, split="test", count=1)  # the second pair is no longer on this page
    listed = json.loads((run / "reports/compare/compare.json").read_text())["pairs"]
    assert [(row["first"], row["second"], row["page"]) for row in listed] == [
        (SEDAN, COUPE, "twins.html"),
        (VAN, SUV, "borealis-c-v-van-2009--corvus-nine-suv-2011.html"),
    ]
    for row in listed:
        assert (run / "reports/compare" / row["page"]).is_file()
        assert all((run / "reports/compare" / png).is_file() for png in row["pngs"])


def test_a_given_photo_is_added(run: Path, tmp_path: Path) -> None:
    draw_car(0, 0).save(tmp_path / "my car.jpg")
    comparison = compare(run, [SEDAN, COUPE], photo=tmp_path / "my car.jpg", split="test")
    assert comparison.page.name == "aurora-falcon-sedan-2012--aurora-falcon-coupe-2012--my-car.html"
    page = comparison.page.read_text()
    assert page.index("my car.jpg: ") < page.index("most confident correct")
    most_likely = compare(run, photo=tmp_path / "my car.jpg", split="test").pairs[0]
    assert f"my car.jpg: {most_likely.first}" in (run / "reports/compare" / most_likely.page).read_text()
    with pytest.raises(PhotoError):
        compare(run, photo=tmp_path / "gone.jpg", split="test")


def test_class_names_in_any_spelling_and_refused_names(run: Path) -> None:
    assert compare(run, ["borealis C/V van 2009", SUV.upper()], split="test").pairs[0].first == VAN
    with pytest.raises(LabelError, match="similar names are Aurora Falcon Coupe 2012"):
        compare(run, ["Aurora Falcon Cope 2012", SUV])
    with pytest.raises(UsageError, match="two different classes, but found 'Borealis C-V Van 2009' twice"):
        compare(run, [VAN, "borealis c/v van 2009"])
    with pytest.raises(UsageError, match="two classes, or none, but found 1"):
        compare(run, [VAN])


def test_a_model_with_one_class_is_refused(tmp_path: Path) -> None:
    size = Preprocessing(height=64, width=64)
    spec = ModelSpec(backbone=BACKBONE, head="linear", classes=ClassNames((VAN,)), preprocessing=size)
    write_text(tmp_path / "run/config.yaml", "data: nowhere\n")
    save_model(tmp_path / "run/best.safetensors", CarNet(spec.backbone, 1, head="linear"), spec)
    with pytest.raises(UsageError, match="at least two classes"):
        compare(tmp_path / "run")


def test_markup_in_a_class_name_is_escaped(tmp_path: Path) -> None:
    names = ("<script>alert(1)</script>", 'Tom & Jerry\'s "Van" 2009')
    rows = []
    for number, split in enumerate(["train"] * 4 + ["test"] * 4):
        draw_car(number % 2, number).save(tmp_path / f"{number}.jpg")
        rows.append({"filename": f"{number}.jpg", "label": names[number % 2], "split": split})
    write_csv(tmp_path / "cars.csv", rows)
    write_text(tmp_path / "classes.txt", "\n".join(names) + "\n")
    data = prepare(str(tmp_path / "cars.csv"), tmp_path / "data", PrepareOptions(classes_file=tmp_path / "classes.txt"))
    spec = ModelSpec(
        backbone=BACKBONE,
        head="linear",
        classes=ClassNames(names),
        preprocessing=Preprocessing(height=64, width=64),
    )
    write_text(tmp_path / "run/config.yaml", f"data: {data.folder}\n")
    save_model(tmp_path / "run/best.safetensors", CarNet(spec.backbone, 2, head="linear").eval(), spec)
    page = compare(tmp_path / "run", names, split="test").page
    assert page.name == "script-alert-1-script--tom-jerry-s-van-2009.html"
    text = page.read_text()
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert np.asarray(Image.open(page.with_suffix(".png"))).std() > 0
