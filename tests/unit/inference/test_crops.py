"""Cars are found, cut out and named one by one, or the photo is taken whole."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from bmw_model import bmw_classifier
from colour_model import BLUE, GREEN, RED, YELLOW, ColourDetector, paint, paint_street, write_model
from PIL import Image

from twincar.core.options import DetectOptions
from twincar.core.preprocess import Preprocessing
from twincar.detection import Car, Detector
from twincar.inference import crops
from twincar.inference.classifier import Classifier
from twincar.inference.crops import CarFinder, Crop, iterate_crops, prepare_crops
from twincar.inference.results import Failure, by_photo, photo_dict, table_columns, table_row

STREET = {GREEN: (20, 20, 60, 50), RED: (100, 60, 300, 180), BLUE: (330, 100, 390, 170)}
"""By area: red, blue, green."""


@pytest.fixture(autouse=True)
def colour_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crops, "load_detector", lambda _: ColourDetector())


@pytest.fixture
def classifier(tmp_path: Path) -> Classifier:
    return Classifier.load(write_model(tmp_path / "colours.onnx", framing="car"))


@pytest.fixture
def street(tmp_path: Path) -> Path:
    return paint_street(tmp_path / "street.png", STREET)


def finder(*cars: Car, margin: float = 0.0) -> CarFinder:
    """Finds the same cars in every photo."""

    class Fixed(ColourDetector):
        def find(self, _: Image.Image, *, threshold: float | None = None) -> list[Car]:
            least = self.header.threshold if threshold is None else threshold
            return sorted((car for car in cars if car.probability >= least), key=lambda car: -car.prominence)

        def find_at(self, photo: Image.Image, thresholds: Iterable[float]) -> Iterator[list[Car]]:
            return (self.find(photo, threshold=least) for least in thresholds)

    return CarFinder(cast(Detector, Fixed()), margin)


def boxes(finder: CarFinder, size: tuple[int, int] = (100, 80), cars: Any = "all") -> list[Any]:
    return [(crop.box, crop.is_car) for crop in finder.crops(Image.new("RGB", size), cars)]


def test_each_car_is_named_with_its_box_the_most_prominent_first(classifier: Classifier, street: Path) -> None:
    found = classifier.predict_cars(street)
    assert [(car.top1.name, car.box, car.car, car.car_count) for car in found] == [
        ("BMW M3 Sedan 2012", STREET[RED], 1, 3),
        (found[1].top1.name, STREET[BLUE], 2, 3),
        ("Volvo C30 Hatchback 2012", STREET[GREEN], 3, 3),
    ]
    assert "script" in found[1].top1.name
    main = classifier.predict(street)
    assert (main.top1.name, main.box, main.car, main.car_count) == ("BMW M3 Sedan 2012", STREET[RED], 1, 3)


def test_a_crop_is_named_as_the_same_photo_that_was_cut_before(classifier: Classifier, street: Path) -> None:
    never = Classifier(classifier.engine, classifier.spec)
    cut = never.predict(Image.open(street).crop(STREET[BLUE]))
    assert classifier.predict_cars(street)[1].topk == cut.topk
    assert never.predict(street).box is None


def test_where_no_car_is_found_nothing_is_named(classifier: Classifier, tmp_path: Path) -> None:
    wall = paint(tmp_path / "wall.png", YELLOW)
    (found,) = classifier.predict_cars(wall)
    assert (found.answer, found.status, found.box) == (None, "no car found", None)
    assert (found.car, found.car_count, found.top1, found.topk, found.levels) == (None, 0, None, (), ())
    assert (found.make, found.model, found.body, found.year, found.confidence) == ("", "", "", None, None)
    row = photo_dict([found])
    assert (row["car"], row["car_count"], row["cars"], row["topk"], row["levels"]) == (None, 0, [], [], {})
    assert set(table_row(found)) - {"photo", "levels"} <= set(table_columns(1))
    assert {name for name, value in table_row(found).items() if value} == {"photo", "status"}
    whole = Classifier(classifier.engine, classifier.spec).predict(wall)
    assert (whole.car, whole.car_count, len(whole.topk)) == (1, 1, 5)
    explained = classifier.explain(wall)
    assert (explained.target, explained.prediction) == (whole.top1.name, replace(found))


@pytest.mark.parametrize(
    ("framing", "detect", "cut"),
    [
        *[("car", "auto", True), ("car", "never", False), ("car", "always", True)],
        *[("photo", "auto", False), ("photo", "never", False), ("photo", "always", True)],
    ],
)
def test_photos_are_cut_for_models_of_crops_and_where_it_is_asked_for(
    framing: Any, detect: Any, cut: bool, tmp_path: Path, street: Path
) -> None:
    model = write_model(tmp_path / "m.onnx", framing=framing)
    classifier = Classifier.load(model, detection=DetectOptions(detect=detect))
    assert (classifier.predict(street).box is not None) == cut


def test_a_photo_of_one_car_from_edge_to_edge_is_taken_whole() -> None:
    """The threshold of the detector is 0.4: half of it is enough for a box of at least 80% of the photo."""
    assert boxes(finder(Car(5, 5, 95, 77, 0.2))) == [((0, 0, 100, 80), True)]  # 81%
    assert boxes(finder(Car(5, 5, 95, 77, 0.19))) == [(None, False)]
    assert boxes(finder(Car(5, 5, 95, 75, 0.39))) == [(None, False)]  # 79%
    assert boxes(finder(Car(5, 5, 95, 75, 0.41))) == [((5, 5, 95, 75), True)]
    behind = Car(60, 0, 100, 30, 0.9)  # 15%
    assert boxes(finder(Car(5, 5, 95, 77, 0.8), behind)) == [((0, 0, 100, 80), True)]
    assert boxes(finder(Car(5, 5, 95, 77, 0.2), behind)) == [((60, 0, 100, 30), True)]  # the sure one is more prominent


def test_a_box_around_the_whole_photo_gives_way_to_a_car_within_that_is_far_surer() -> None:
    """As for a photo with black bars; from 1.4 times its probability on."""
    within = (30, 20, 70, 60)
    assert boxes(finder(Car(0, 0, 100, 80, 0.6), Car(*within, 0.84))) == [(within, True)]
    assert boxes(finder(Car(0, 0, 100, 80, 0.6), Car(*within, 0.83))) == [((0, 0, 100, 80), True)]


def test_the_main_car_or_all_with_the_margin_of_the_model() -> None:
    near, far = Car(10, 10, 60, 50, 0.9), Car(70, 20, 90, 30, 0.5)
    assert boxes(finder(far, near)) == [((10, 10, 60, 50), True), ((70, 20, 90, 30), True)]
    assert boxes(finder(far, near), cars="main") == [((10, 10, 60, 50), True)]
    assert boxes(finder(near, margin=0.1), cars="main") == [((5, 6, 65, 54), True)]
    assert boxes(finder(near, margin=1), cars="main") == [((0, 0, 100, 80), True)]


def test_what_the_network_sees_is_told_in_pixels_of_the_photo() -> None:
    """Of a crop of 40×20 pixels from (10, 30), a square input sees the 20 pixels in the middle."""
    photo = Image.new("RGB", (100, 80))
    crop = Crop((10, 30, 50, 50))
    assert crop.visible_box(photo, Preprocessing(height=32, width=32, crop=1)) == (20, 30, 40, 50)
    assert crop.visible_box(photo, Preprocessing(height=32, width=32, squash=True)) == (10, 30, 50, 50)


def test_a_map_of_a_car_covers_its_box(classifier: Classifier, street: Path) -> None:
    explained = classifier.explain(street)
    assert explained.visible_box == STREET[RED]
    assert explained.prediction.box == STREET[RED]


def test_a_car_of_too_few_pixels_has_no_name(classifier: Classifier, tmp_path: Path) -> None:
    """A quarter of 32 pixels, on the shorter side of the cut, whatever the size of the photo."""
    for size, status in (((8, 60), "named"), ((7, 60), "too small"), ((60, 7), "too small")):
        photo = paint_street(tmp_path / "street.png", {RED: (50, 50, 50 + size[0], 50 + size[1])})
        (car,) = classifier.predict_cars(photo)
        assert (car.status, car.top1.name) == (status, "BMW M3 Sedan 2012")
        assert (car.make, bool(car.levels)) == (("", False) if status == "too small" else ("BMW", True))


def test_a_car_that_the_edge_cuts_off_has_no_name(classifier: Classifier, tmp_path: Path) -> None:
    """0.575 times as wide as high, at the left edge; a car that is complete, or too small, keeps what it has."""
    for box, status in (
        ((0, 50, 23, 90), "cut off"),
        ((50, 50, 73, 90), "named"),
        ((0, 50, 24, 90), "named"),
        ((0, 50, 7, 90), "too small"),
    ):
        (car,) = classifier.predict_cars(paint_street(tmp_path / "street.png", {RED: box}))
        assert (car.box, car.status, car.top1.name) == (box, status, "BMW M3 Sedan 2012")
        assert (car.make, bool(car.levels)) == (("BMW", True) if status == "named" else ("", False))
    whole = Classifier(classifier.engine, classifier.spec).predict(Image.new("RGB", (40, 80), RED))
    assert whole.status == "named"


def test_an_overlay_is_the_map_over_the_car_and_dark_around_it(classifier: Classifier, street: Path) -> None:
    """By hand: 0.2 of the photo and 0.8 of plasma's last colour where a map is 1; 0.35 of the photo outside of it."""
    explained = replace(classifier.explain(street), heatmap=np.ones((2, 3), np.float32))
    left, top, right, bottom = map(int, explained.visible_box)
    photo, drawn = np.asarray(Image.open(street), float), np.asarray(explained.overlay(street), float)
    expected = 0.35 * photo
    expected[top:bottom, left:right] = 0.2 * photo[top:bottom, left:right] + 0.8 * np.array([240, 249, 33])
    np.testing.assert_allclose(drawn, expected, atol=1)


def test_a_stream_keeps_the_order_and_failures_keep_their_places(classifier: Classifier, street: Path) -> None:
    photos: list[Any] = [street, b"no photo", Image.new("RGB", (50, 50), "white"), street, street]
    expected = [1, 2, 3, "failed", None, *[1, 2, 3] * 2]
    for size in (1, 2, 4, 32):
        found = list(classifier.stream(photos, cars="all", batch_size=size))
        assert ["failed" if isinstance(item, Failure) else item.car for item in found] == expected
    main = list(classifier.stream(photos))
    assert [item.status for item in main] == [
        "named",
        "unreadable",
        "no car found",
        "named",
        "named",
    ]
    assert [item.car for item in main if not isinstance(item, Failure)] == [1, None, 1, 1]
    for answers, counts in ((found, [3, 0, 1, 3, 3]), (main, [1, 0, 1, 1, 1])):
        grouped = list(by_photo(answers))
        assert [0 if isinstance(cars, Failure) else len(cars) for cars in grouped] == counts


def test_json_is_a_photo_with_its_cars_and_a_table_has_a_row_a_car(classifier: Classifier, street: Path) -> None:
    cars = classifier.predict_cars(street)
    row = photo_dict(cars)
    assert (row["photo"], row["box"], row["answer"]) == (str(street), list(STREET[RED]), "BMW M3 Sedan 2012")
    assert [car["box"] for car in row["cars"]] == [list(STREET[colour]) for colour in (RED, BLUE, GREEN)]
    assert row["cars"][0]["topk"] == row["topk"]
    assert not {"photo", "car_count"} & row["cars"][0].keys()
    flat = table_row(cars[2])
    assert [flat[name] for name in ("car", "car_count", "left", "top", "right", "bottom")] == [3, 3, *STREET[GREEN]]
    assert [flat[f"class_{rank}"] for rank in (1, 2, 3, 4, 5)] == [candidate.name for candidate in cars[2].topk]
    assert flat["probability_1"] == pytest.approx(cars[2].top1.probability, abs=1e-6)
    assert flat["confidence"] == pytest.approx(1, abs=1e-6)  # a Volvo C30 Hatchback of one of two years
    assert flat.keys() - {"levels"} == set(table_columns(5)) - {"error"}


def test_crops_are_cut_one_after_the_other() -> None:
    """200 cars in a large photo: no more than one crop is there at a time, and of each the input is kept."""
    photo = Image.new("RGB", (2000, 1500))
    many = [Car(x * 90, y * 140, x * 90 + 300, y * 140 + 300, 0.9) for x in range(20) for y in range(10)]
    alive: list[int] = []
    crops: list[weakref.ref[Image.Image]] = []
    cut = Crop.cut

    def counting(self: Crop, whole: Image.Image) -> Image.Image:
        alive.append(sum(crop() is not None for crop in crops))
        crop = cut(self, whole)
        crops.append(weakref.ref(crop))
        return crop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Crop, "cut", counting)
        prepared = prepare_crops(photo, "x", Preprocessing(height=32, width=32), finder(*many), cars="all")
    assert [item.crop.number for item in prepared] == list(range(1, 201))
    assert {item.views.shape for item in prepared} == {(1, 32, 32, 3)}
    assert max(alive) <= 1


def test_no_more_photos_are_read_ahead_than_allowed() -> None:
    read: list[int] = []

    def photos() -> Any:
        for number in range(50):
            read.append(number)
            yield Image.new("RGB", (8, 8))

    def prepare(photo: Image.Image, name: str) -> Any:
        return prepare_crops(photo, name, Preprocessing(height=8, width=8))

    items = iterate_crops(photos(), prepare, ahead=5)
    next(items)
    assert len(read) == 6
    assert len(list(items)) == 49


def test_views_of_test_time_augmentation_are_of_the_crop(classifier: Classifier, street: Path) -> None:
    assert classifier.predict(street, tta=True).top1.name == "BMW M3 Sedan 2012"


def test_no_car_found_is_told_of_a_model_without_calibration_too() -> None:
    bare = bmw_classifier([0.97, 0.01, 0.01, 0.01])
    classifier = Classifier(bare.engine, bare.spec, finder=finder())
    assert classifier.predict(Image.new("RGB", (9, 9))).status == "no car found"
