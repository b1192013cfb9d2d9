"""How many cars of labelled photos a detector finds, how many of its finds are cars, and how long a photo takes.

OMP_NUM_THREADS=1 python -m benchmarks.quality.detection FOLDER [--main-cars FOLDER] [--detector FILE.onnx]

A folder holds `photos/` and `boxes.csv` with the columns filename, x1, y1, x2, y2 (pixels), and kind (car, bus, truck)
unless all are cars. A car is found if any find has an IoU of at least 0.5 with it. A find is right if it has an IoU of
at least 0.4 with any labelled vehicle. It is a second box if another find meets the same vehicle: both have an IoU of
at least 0.3 with it, and less with any other. Recall counts the cars, and precision and second boxes the finds, that
cover at least 1% or 4%.
`--main-cars` is for photos with one labelled car each, which the most prominent find is compared with.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.measuring import Section, peak_memory
from twincar.core.photos import read_photo
from twincar.detection import Car, Detector, load_detector, main_car
from twincar.detection.suppression import iou
from twincar.metrics.classification import wilson

SHARES = (0.04, 0.01)
"""Least share of the photo."""
THRESHOLDS = (0.3, 0.33, 0.36, 0.39, 0.42, 0.45, 0.5)
_FOUND, _RIGHT, _MEETS, _TIGHT = 0.5, 0.4, 0.3, 0.7
Boxes = NDArray[np.float32]


@dataclass(frozen=True)
class Labelled:
    """A photo with the boxes of its vehicles, as left, top, right, bottom."""

    path: Path
    cars: Boxes
    vehicles: Boxes
    """Cars and all others."""


@dataclass
class Tally:
    """Cars and finds."""

    cars: int = 0
    found: int = 0
    finds: int = 0
    right: int = 0
    second: int = 0

    def add(self, photo: Labelled, size: tuple[int, int], finds: Boxes, share: float) -> None:
        """Count those that cover at least `share` of the photo."""
        least = share * size[0] * size[1]
        cars, large = photo.cars[_areas(photo.cars) >= least], finds[_areas(finds) >= least]
        self.cars += len(cars)
        self.finds += len(large)
        self.found += int((_best(cars, finds) >= _FOUND).sum())
        self.right += int((_best(large, photo.vehicles) >= _RIGHT).sum())
        self.second += _second_boxes(large, photo.vehicles)

    def cells(self) -> list[str]:
        """Recall and precision with their 95% intervals."""
        return [_share(self.found, self.cars), _share(self.right, self.finds)]

    def short(self) -> str:
        """Recall, precision and second boxes."""
        return f"{self.found / max(self.cars, 1):.3f}, {self.right / max(self.finds, 1):.3f}, {self.second}"


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.detection",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="labelled photos")
    parser.add_argument("--main-cars", type=Path, help="photos with one labelled car each")
    parser.add_argument("--detector", type=Path, help="a detector file; the bundled one unless given")
    arguments = parser.parse_args()
    detector, photos = load_detector(arguments.detector), read_labels(arguments.folder)
    for share in SHARES:
        print(measure_finds(detector, photos, share).to_markdown())
    if arguments.main_cars:
        print(measure_main_cars(detector, read_labels(arguments.main_cars)).to_markdown())
    print(measure_speed(detector, photos).to_markdown())


def read_labels(folder: Path) -> list[Labelled]:
    """The photos of a folder, in the order of their names; those without a labelled vehicle as well."""
    vehicles: dict[str, list[tuple[bool, list[float]]]] = defaultdict(list)
    with (folder / "boxes.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            box = [float(row[side]) for side in ("x1", "y1", "x2", "y2")]
            vehicles[row["filename"]].append((row.get("kind", "car") == "car", box))
    return [
        Labelled(
            path,
            _boxes([box for is_car, box in vehicles[path.name] if is_car]),
            _boxes([box for _, box in vehicles[path.name]]),
        )
        for path in sorted((folder / "photos").iterdir())
    ]


def measure_finds(detector: Detector, photos: list[Labelled], share: float) -> Section:
    """Recall and precision by threshold, of every other photo, of the others, and of all."""
    default = detector.header.threshold
    thresholds = sorted({*THRESHOLDS, default})
    tallies = [(Tally(), Tally()) for _ in thresholds]
    for number, photo in enumerate(photos):
        image = read_photo(photo.path)
        for halves, cars in zip(tallies, detector.find_at(image, thresholds), strict=True):
            halves[number % 2].add(photo, image.size, _boxes([_box(car) for car in cars]), share)
    rows = []
    for threshold, halves in zip(thresholds, tallies, strict=True):
        every = Tally(*(getattr(halves[0], name) + getattr(halves[1], name) for name in vars(halves[0])))
        name = f"{threshold}, the default" if threshold == default else str(threshold)
        rows.append([name, *every.cells(), str(every.finds), str(every.second), *(half.short() for half in halves)])
    header = [
        "threshold",
        "recall",
        "precision",
        "finds",
        "second boxes",
        "the same on every other photo",
        "on the others",
    ]
    note = f"{every.cars} cars in {len(photos)} photos."
    return Section(f"Cars of at least {share:.0%} of the photo", header, rows, [note])


def measure_main_cars(detector: Detector, photos: list[Labelled]) -> Section:
    """IoU of the main car's box with the labelled one; 0 where none is found."""
    overlaps = []
    for photo in photos:
        car = main_car(detector.find(read_photo(photo.path)))
        overlaps.append(float(_best(photo.cars[:1], _boxes([_box(car)] if car else []))[0]))
    near = int(np.sum(np.array(overlaps) > _TIGHT))
    row = [str(len(photos)), str(near), f"{np.mean(overlaps):.3f}", f"{np.median(overlaps):.3f}"]
    return Section("The main car", ["photos", f"IoU above {_TIGHT}", "mean IoU", "median IoU"], [row])


def measure_speed(detector: Detector, photos: list[Labelled]) -> Section:
    """Processor time a photo without its decoding, and memory beyond what the process held before."""
    images = [read_photo(photo.path) for photo in photos[:100]]
    before = peak_memory()
    detector.find(images[0])
    seconds = []
    for image in images:
        start = time.process_time()
        detector.find(image)
        seconds.append(time.process_time() - start)
    low, middle, high = np.percentile(seconds, [10, 50, 90]) * 1000
    size = np.median([image.width * image.height for image in images]) / 1e6
    row = [f"{middle:.0f} ms ({low:.0f} to {high:.0f})", f"{size:.2f}", f"{(peak_memory() - before) / 1e6:.0f} MB"]
    note = "The median, and the 10th and 90th percentile, of the processor time of all threads."
    return Section("Speed", ["a photo", "megapixels", "memory added"], [row], [note])


def _share(part: int, whole: int) -> str:
    if not whole:
        return "–"
    interval = wilson(part / whole, whole)
    return f"{part / whole:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def _box(car: Car) -> list[float]:
    return [car.left, car.top, car.right, car.bottom]


def _boxes(rows: list[list[float]]) -> Boxes:
    return np.array(rows, np.float32).reshape(-1, 4)


def _areas(boxes: Boxes) -> Boxes:
    areas: Boxes = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return areas


def _best(boxes: Boxes, others: Boxes) -> Boxes:
    """Largest IoU of each box with any of the others; 0 without others."""
    best: Boxes = iou(boxes, others).max(axis=1, initial=0)
    return best


def _second_boxes(finds: Boxes, vehicles: Boxes) -> int:
    """How many of the finds meet a vehicle that another one of them meets."""
    met = finds[_best(finds, vehicles) >= _MEETS]
    return len(met) - len(set(iou(met, vehicles).argmax(axis=1).tolist())) if len(met) else 0


if __name__ == "__main__":
    main()
