"""Data sets cut to their cars: by boxes of the source, and by a detector; what is trained on and judged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from command_line import run
from conftest import write_class_folders
from detector_files import constant_detector
from parquet_photos import write_parquet
from PIL import Image

from twincar.core.augmentation import AugmentConfig
from twincar.core.errors import DataError, PhotoError, UsageError
from twincar.core.photos import PhotoCrop, read_photo
from twincar.core.preprocess import Preprocessing
from twincar.data import cropping
from twincar.data.boxes import BoxFault
from twincar.data.cropping import BoxCropper, CarChecker, DetectedCropper
from twincar.data.dataset import Annotation, PreparedData
from twincar.data.loading.loader import EvaluationPhotos, TrainingPhotos
from twincar.data.loading.view import View, view_of
from twincar.data.prepare import PrepareOptions, prepare
from twincar.detection import Car, Detector
from twincar.detection.header import DetectorHeader

PHOTO = Image.new("RGB", (200, 100))
SIZE = Preprocessing(height=32, width=48, squash=True)
PLAIN = {"flip": 0, "rotation": 0, "brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, "blur": 0}


class Found(Detector):
    """A detector that finds the same cars everywhere, the most prominent first."""

    def __init__(self, *cars: Car) -> None:
        self.cars = cars
        self.header = DetectorHeader(classes=("car",), cars=("car",), fit="squash", threshold=0.4)

    def find(self, photo: object, *, threshold: float | None = None) -> list[Car]:  # noqa: ARG002
        least = self.header.threshold if threshold is None else threshold
        return [car for car in self.cars if car.probability >= least]

    def find_at(self, photo: object, thresholds: Iterable[float]) -> Iterator[list[Car]]:
        return (self.find(photo, threshold=least) for least in thresholds)


def test_a_margin_is_a_share_of_the_boxs_sides() -> None:
    """A box of 60×40 pixels: 10% are 6 and 4 pixels on each side."""
    assert BoxCropper(0.1)(PHOTO, (50, 30, 110, 70)) == (44, 26, 116, 74)
    assert BoxCropper(0.0)(PHOTO, (50, 30, 110, 70)) == (50, 30, 110, 70)
    assert BoxCropper(1.0)(PHOTO, (50, 30, 110, 70)) == (0, 0, 170, 100)  # up to the edge of the photo
    assert BoxCropper(0.1)(PHOTO, None) is None


def test_the_main_car_is_cut_out_whatever_the_source_says() -> None:
    small, large = Car(150, 10, 180, 40, 0.9), Car(10.5, 20.5, 110.5, 70.5, 0.6)  # 0.9·30 and 0.6·71
    assert DetectedCropper(Found(large, small), 0.0)(PHOTO, (0, 0, 9, 9)) == (10, 20, 111, 71)
    assert DetectedCropper(Found(Car(10, 10, 90, 90, 0.3)), 0.0)(PHOTO, None) is BoxFault.NO_CAR  # below the threshold
    assert DetectedCropper(Found(), 0.0)(PHOTO, (0, 0, 90, 90)) is BoxFault.NO_CAR
    assert DetectedCropper(Found(Car(0, 0, 15, 90, 1.0)), 0.0)(PHOTO, None) is BoxFault.NO_CAR  # too small to name


def test_a_photo_that_one_car_fills_is_that_car() -> None:
    """81% of the photo; half of the threshold is enough for it."""
    assert DetectedCropper(Found(Car(10, 5, 190, 95, 0.25)), 0.0)(PHOTO, None) == (0, 0, 200, 100)
    assert DetectedCropper(Found(Car(11, 6, 187, 95, 0.45)), 0.0)(PHOTO, None) == (11, 6, 187, 95)  # 78%


@pytest.mark.parametrize(
    ("box", "car", "held"),
    [
        ((50, 30, 110, 70), (50, 30, 110, 70), True),
        ((50, 30, 110, 70), (50, 30, 70, 70), True),  # a third of the box
        ((50, 30, 110, 70), (50, 30, 66, 70), False),  # 16 of 60 columns
        ((50, 30, 110, 70), (120, 30, 180, 70), False),
        (None, (120, 30, 180, 70), True),
    ],
)
def test_a_box_holds_a_car_that_the_detector_finds_in_it(
    box: tuple[int, int, int, int] | None, car: tuple[float, float, float, float], held: bool
) -> None:
    checked = CarChecker(Found(Car(*car, probability=0.9)))(PHOTO, box)
    assert checked is (None if held else BoxFault.NO_CAR)


def gradient(seed: int) -> Image.Image:
    """96×64 pixels: red tells the column, green the row."""
    rows, columns = np.indices((64, 96))
    return Image.fromarray(np.stack([columns * 2, rows * 3, np.full_like(rows, seed)], -1).astype(np.uint8))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Eight photos of 96×64 pixels, of which one has no box, and one a swapped one."""
    folder = tmp_path / "source"
    folder.mkdir()
    rows = ["filename,label,split,x1,y1,x2,y2"]
    for number in range(10):
        gradient(number).save(folder / f"{number}.png")
        box = {8: ",,,", 9: "60,40,20,10"}.get(number, f"20,10,{60 + number},40")
        rows.append(f"{number}.png,{'AB'[number % 2]},{'train' if number < 8 else 'test'},{box}")
    (folder / "cars.csv").write_text("\n".join(rows))
    return folder / "cars.csv"


def prepared(table: Path, **options: object) -> PreparedData:
    return prepare(str(table), table.parent.parent / "data", PrepareOptions(**options))  # type: ignore[arg-type]


def by_file(data: PreparedData) -> dict[str, Annotation]:
    return {annotation.file: annotation for annotation in data.annotations}


def test_cut_to_the_boxes_of_the_source(table: Path) -> None:
    data = prepared(table, crop="box", margin=0.1)
    crops = {file: annotation.crop for file, annotation in by_file(data).items()}
    assert crops["0.png"] == (16, 7, 64, 43)  # 20, 10, 60, 40 with 4 columns and 3 rows on each side
    assert crops["8.png"] is None
    assert crops["9.png"] is None
    manifest = data.manifest
    assert (data.framing, manifest["margin"], manifest["detector"]) == ("car", 0.1, None)
    assert manifest["kept_whole"] == {"no box": 1, "swapped box": 1}
    assert any("swapped in 1 box (line 11)" in note for note in manifest["notes"])
    assert sorted(path.name for path in data.folder.iterdir()) == ["annotations.csv", "classes.json", "manifest.json"]


@pytest.mark.parametrize("kind", [pa.list_(pa.int32(), 4), pa.list_(pa.float64())])
def test_boxes_of_a_parquet_file_are_left_top_right_bottom(tmp_path: Path, kind: pa.DataType) -> None:
    boxes = [[4, 8, 64, 56]] * 8  # of photos of 96×64 pixels
    boxes[1], boxes[2] = [64, 8, 4, 56], None
    source = write_parquet(tmp_path / "source" / "parquet", 8, pa.array(boxes, kind))
    data = prepared(source, crop="box", margin=0.0)
    assert sorted(str(annotation.crop) for annotation in data.annotations) == ["(4, 8, 64, 56)"] * 5 + ["None"] * 2
    assert data.manifest["kept_whole"] == {"no box": 1, "swapped box": 1}


def test_a_column_of_another_kind_is_no_box(tmp_path: Path) -> None:
    source = write_parquet(tmp_path / "source" / "parquet", 8, pa.array([["left", "top"]] * 8))
    assert all(annotation.box is None for annotation in prepared(source).annotations)


def test_without_a_crop_photos_stay_as_they_are(table: Path) -> None:
    data = prepared(table)
    assert (data.framing, data.manifest["margin"], data.manifest["kept_whole"]) == ("photo", None, {})
    assert all(annotation.crop is None for annotation in data.annotations)
    assert data.photo(by_file(data)["0.png"]) == data.path(by_file(data)["0.png"])


def test_what_is_judged_is_the_crop(table: Path) -> None:
    data = prepared(table, crop="box", margin=0.0)
    annotation = by_file(data)["0.png"]
    seen = np.asarray(read_photo(data.photo(annotation)))
    np.testing.assert_array_equal(seen, np.asarray(gradient(0))[10:40, 20:60])
    photos = EvaluationPhotos(data, [annotation], SIZE)
    np.testing.assert_array_equal(photos[0][0], SIZE(gradient(0).crop((20, 10, 60, 40))))


@pytest.mark.parametrize("cache", [False, True])
def test_training_shows_the_crop_and_what_surrounds_it(table: Path, cache: bool) -> None:
    """The columns that an input shows are those of its red values: 20 to 60 or so, with a loose box a fifth more."""
    data = prepared(table, crop="box", margin=0.0)
    crop = data.split("train")[0].crop
    assert crop
    left, right, loose = crop[0], crop[2], (crop[2] - crop[0]) / 5

    def columns(jitter: tuple[float, float]) -> tuple[float, float]:
        augment = AugmentConfig(**PLAIN, box_jitter=jitter, crop_scale=(1.0, 1.0), crop_ratio=(1.2, 1.4))
        photos = TrainingPhotos(data, augment, SIZE, 0, cache=cache)
        reds = [photos[0, epoch, 0][0][..., 0] / 2 for epoch in range(30)]
        return min(red.min() for red in reds), max(red.max() for red in reds)

    low, high = columns((0.0, 0.0))
    assert low == pytest.approx(left, abs=1)
    assert high == pytest.approx(right - 1, abs=1)
    low, high = columns((0.0, 0.2))
    assert left - loose - 0.5 <= low < left - loose / 2
    assert right + loose / 2 < high <= right + loose - 0.5


def test_a_view_is_the_crop_and_what_its_edges_may_reach() -> None:
    annotation = Annotation(
        file="a", label=0, split="train", width=200, height=100, box=None, crop=(50, 30, 110, 70), sha256=""
    )
    assert view_of(annotation, AugmentConfig()) == View((200, 100), (50, 30, 110, 70), (0, 0, 60, 40))
    loose = view_of(annotation, AugmentConfig(box_jitter=(0.1, 0.5)))
    assert loose == View((200, 100), (20, 10, 140, 90), (30, 20, 90, 60))
    assert (loose.size, loose.box_size) == ((120, 80), (60, 40))
    whole = view_of(replace(annotation, crop=None), AugmentConfig(box_jitter=(0.1, 0.5)))
    assert whole == View((200, 100), (0, 0, 200, 100), (0, 0, 200, 100))


def test_a_view_of_a_photo_that_is_decoded_smaller(tmp_path: Path) -> None:
    """A JPEG of 800×400 pixels, red right of column 400, decoded at a quarter."""
    pixels = np.zeros((400, 800, 3), np.uint8)
    pixels[:, 400:] = (255, 0, 0)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=95)
    found = View((800, 400), (200, 100, 600, 300), (0, 0, 400, 200)).decode(tmp_path / "a.jpg", 4.0)
    assert found.shape == (50, 100, 3)
    assert found[:, :45, 0].max() < 30
    assert found[:, 55:, 0].min() > 225


def test_a_photo_that_has_shrunk_since_is_refused(tmp_path: Path) -> None:
    gradient(0).save(tmp_path / "a.png")
    with pytest.raises(PhotoError, match=r"at least 100×40 pixels.*found 96×64. Prepare the data set again"):
        read_photo(PhotoCrop(tmp_path / "a.png", (20, 10, 100, 40)))


def test_the_box_within_the_crop() -> None:
    annotation = Annotation(
        file="a", label=0, split="train", width=200, height=100, box=(50, 30, 110, 70), crop=(40, 35, 100, 90),
        sha256="",
    )  # fmt: skip
    assert annotation.box_in_crop == (10, 0, 60, 35)
    assert replace(annotation, crop=None).box_in_crop == (50, 30, 110, 70)
    assert replace(annotation, crop=(0, 0, 40, 30)).box_in_crop is None


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    """It finds one car in every photo, from a quarter to three quarters of its width and height."""
    path = tmp_path / "detector.onnx"
    path.write_bytes(constant_detector([[0.25, 0.25, 0.75, 0.75]], [[0.0, 0.9]]))
    return path


def test_cut_to_what_a_detector_finds(tmp_path: Path, detector: Path) -> None:
    source = write_class_folders(tmp_path / "source", {"train": 3})
    data = prepare(str(source), tmp_path / "data", PrepareOptions(crop="detect", margin=0.0, detector=detector))
    assert {annotation.crop for annotation in data.annotations} == {(24, 16, 72, 48)}  # of 96×64 pixels
    assert (data.framing, data.manifest["crop"], data.manifest["kept_whole"]) == ("car", "detect", {})
    again = prepare(str(source), tmp_path / "data", PrepareOptions(crop="detect", margin=0.0, detector=detector))
    assert again.manifest == data.manifest
    with pytest.raises(UsageError, match="was made with another --detector"):
        prepare(str(source), tmp_path / "data", PrepareOptions(crop="detect", margin=0.0))


def test_photos_within_tables_are_stored_once_and_whole(tmp_path: Path, detector: Path) -> None:
    write_parquet(tmp_path / "source", 8)
    data = prepare(str(tmp_path / "source"), tmp_path / "data", PrepareOptions(crop="detect", detector=detector))
    annotation = data.annotations[0]
    assert annotation.crop is not None
    assert read_photo(data.path(annotation)).size == (annotation.width, annotation.height)
    files = [path for path in (data.folder / "photos").rglob("*") if path.is_file()]
    assert len(files) == len(data.annotations)


def test_photos_in_which_no_car_is_found_are_kept_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Picky(Found):
        """Finds a car in photos of the first class only, which are red."""

        def find(self, photo: object, *, threshold: float | None = None) -> list[Car]:  # noqa: ARG002
            red, _, blue = np.asarray(photo).reshape(-1, 3).mean(0)
            return list(self.cars) if red > blue else []

    monkeypatch.setattr(cropping, "load_detector", lambda _: Picky(Car(10, 10, 80, 60, 0.9)))
    folder = tmp_path / "source"
    for name, color in (("A", (200, 0, 0)), ("B", (0, 0, 200))):
        for number in range(3):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (96, 64), (color[0], number, color[2])).save(folder / name / f"{number}.png")
    data = prepare(str(folder), tmp_path / "data", PrepareOptions(crop="detect"))
    assert data.manifest["kept_whole"] == {"no car found": 3}
    assert {annotation.file for annotation in data.annotations if annotation.crop} == {f"A/{n}.png" for n in range(3)}
    assert any("finds none in 3 photos" in note for note in data.manifest["notes"])


def test_a_source_without_boxes_cannot_be_cut_to_them(tmp_path: Path) -> None:
    source = write_class_folders(tmp_path / "source", {"train": 2})
    with pytest.raises(DataError, match=r"--crop box, but found 8 no box. Add --crop detect"):
        prepare(str(source), tmp_path / "data", PrepareOptions(crop="box"))
    assert not (tmp_path / "data").exists()


def test_strict_stops_at_a_box_that_cannot_be_used(table: Path) -> None:
    with pytest.raises(DataError, match=r"swapped in 1 box \(line 11\).*without --strict"):
        prepared(table, crop="box", strict=True)
    assert prepared(table, strict=True).framing == "photo"  # where boxes are not used, they do not matter


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": -0.1}, r"margin of 0 to 1.*-0\.1"),
        ({"margin": 1.1}, "margin"),
        ({"crop": "box", "detector": Path("x.onnx")}, "--crop detect with a detector"),
        ({"crop": "detect", "detector": Path("gone.onnx")}, r"gone\.onnx"),
    ],
)
def test_options_that_do_not_go_together(table: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        prepared(table, **options)


def test_on_the_command_line(table: Path, tmp_path: Path) -> None:
    result = run("prepare", table, "--out", tmp_path / "data", "--crop", "box", "--margin", "0.1")
    assert result.returncode == 0
    assert "cut to the car: 8 photos, with a margin of 10%" in result.stdout
    assert "kept whole: 1 swapped box" in result.stdout


def test_audit_with_the_detector(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cropping, "load_detector", lambda _: Found(Car(20, 10, 62, 40, 0.9)))
    assert "finds none" not in run("audit", table, "--detect").stdout
    monkeypatch.setattr(cropping, "load_detector", lambda _: Found())
    result = run("audit", table, "--detect")
    assert "finds none in 10 photos (lines 2, 3, 4, 5, 6, 7 and 4 more); look at them." in result.stdout
    assert result.returncode == 1
    assert run("audit", table, "--detect", "--deep").returncode == 2
