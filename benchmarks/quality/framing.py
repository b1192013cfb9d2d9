"""How well a model names cars in every kind of framing, and what it makes of pictures without a car.

python -m benchmarks.quality.framing [MODEL] --data DATA [--split test] [--count 300] [--detect auto]
    [--full FOLDER] [--no-car FOLDER]

DATA is a prepared data set whose photos are cut to the car. Each frame changes all of them in one way; each row is
scored on the same photos. FOLDER of --full holds `boxes.csv` (`filename,label,...`) and `photos/`; that of --no-car
holds pictures in which there is no car. Drawn pictures without a car are always scored.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np
from PIL import Image, ImageFilter

from benchmarks.measuring import Section
from twincar.core.options import Detect, DetectOptions
from twincar.core.photos import read_photo
from twincar.data.dataset import PreparedData
from twincar.data.toy.non_cars import non_car_images
from twincar.inference.classifier import Classifier
from twincar.inference.results import Prediction
from twincar.metrics.classification import wilson

Frame = Callable[[Image.Image, np.random.Generator], Image.Image]

_GREY = (128, 128, 128)
_BLUR = 0.1  # radius of the blur of made-up surroundings, as a share of the photo's shorter side
_DRAWN = 60  # pictures without a car


@dataclass
class Tally:
    """What came of the photos in one frame."""

    right: list[bool] = field(default_factory=list)
    accepted: list[bool] = field(default_factory=list)

    def add(self, prediction: Prediction | None, label: str) -> None:
        """Count one prediction; None where none could be given."""
        self.right.append(prediction is not None and prediction.top1 is not None and prediction.top1.name == label)
        self.accepted.append(prediction is not None and prediction.answer is not None)

    def row(self, name: str) -> list[str]:
        """Accuracy, share accepted, and share right of the accepted, with 95% intervals (Wilson)."""
        accepted = [right for right, taken in zip(self.right, self.accepted, strict=True) if taken]
        return [name, str(len(self.right)), _share(self.right), _share(self.accepted), _share(accepted)]


def bordered(share: float) -> Frame:
    """A border of blurred surroundings: the photo's sides are longer by this share."""

    def frame(photo: Image.Image, _: np.random.Generator) -> Image.Image:
        width, height = (round(side * (1 + share)) for side in photo.size)
        return _placed(photo, _blurred(photo, (width, height)), (0.5, 0.5))

    return frame


def tighter(share: float) -> Frame:
    """The photo's sides are shorter by this share."""

    def frame(photo: Image.Image, _: np.random.Generator) -> Image.Image:
        width, height = photo.size
        left, top = width * share / 2, height * share / 2
        return photo.crop((round(left), round(top), round(width - left), round(height - top)))

    return frame


def on_grey(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Somewhere in a grey picture three times as wide and high."""
    return _placed(photo, Image.new("RGB", (3 * photo.width, 3 * photo.height), _GREY), rng.uniform(size=2).tolist())


def on_blur(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Somewhere in its own blurred enlargement, three times as wide and high."""
    return _placed(photo, _blurred(photo, (3 * photo.width, 3 * photo.height)), rng.uniform(size=2).tolist())


def at_edge(share: float) -> Frame:
    """In blurred surroundings, of which the left or right edge leaves this share of the photo."""

    def frame(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
        wide = bordered(0.6)(photo, rng)
        left = (wide.width - photo.width) // 2
        if rng.uniform() < 0.5:
            return wide.crop((0, 0, left + round(share * photo.width), wide.height))
        return wide.crop((left + round((1 - share) * photo.width), 0, *wide.size))

    return frame


def letterboxed(photo: Image.Image, _: np.random.Generator) -> Image.Image:
    """Padded to a black square."""
    side = max(photo.size)
    return _placed(photo, Image.new("RGB", (side, side)), (0.5, 0.5))


FRAMES: dict[str, Frame] = {
    "tight": lambda photo, _: photo,
    "sides 15% longer": bordered(0.15),
    "sides 30% longer": bordered(0.30),
    "sides 10% shorter": tighter(0.10),
    "sides 20% shorter": tighter(0.20),
    "in a grey picture three times as large": on_grey,
    "in a blurred picture three times as large": on_blur,
    "letterboxed to a square": letterboxed,
    "half of the car at the edge": at_edge(0.5),
    "a quarter of the car at the edge": at_edge(0.25),
}


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.framing", description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", help="a model of any kind; the bundled one unless given")
    parser.add_argument("--data", type=Path, required=True, help="prepared data set of photos that are cut to the car")
    parser.add_argument("--split", default="test")
    parser.add_argument("--count", type=int, default=300, help="photos for each frame")
    parser.add_argument("--detect", choices=get_args(Detect), default="auto", help="whether the cars are found first")
    parser.add_argument("--full", type=Path, help="folder of full photos: boxes.csv and photos/")
    parser.add_argument("--no-car", type=Path, help="folder of pictures without a car")
    arguments = parser.parse_args()
    classifier = Classifier.load(arguments.model, detection=DetectOptions(detect=arguments.detect))
    data = PreparedData.open(arguments.data)
    photos = _some(data, arguments.split, arguments.count)
    print(measure_frames(classifier, photos, f"{data.name}, {arguments.split}").to_markdown())
    print(measure_pictures(classifier, arguments.full, arguments.no_car).to_markdown())


def measure_frames(classifier: Classifier, photos: Sequence[tuple[Path, str]], name: str) -> Section:
    """A row for each frame."""
    rows = []
    for title, frame in FRAMES.items():
        rng, tally = np.random.default_rng(0), Tally()
        for prediction, (_, label) in zip(
            classifier.stream(frame(read_photo(path), rng) for path, _ in photos), photos, strict=True
        ):
            tally.add(prediction if isinstance(prediction, Prediction) else None, label)
        rows.append(tally.row(title))
    rows.append(_side_by_side(classifier, photos).row("two cars side by side, each"))
    return Section(f"Framing: {name}", ["photos", "number", "accuracy", "accepted", "right of these"], rows)


def measure_pictures(classifier: Classifier, full: Path | None, no_car: Path | None) -> Section:
    """Full photos with their classes, and pictures without a car, of which none should be accepted."""
    rows = []
    if full:
        tally = Tally()
        with (full / "boxes.csv").open(encoding="utf-8", newline="") as file:
            labels = {row["filename"]: row["label"] for row in csv.DictReader(file)}
        for file_name, label in labels.items():
            tally.add(classifier.predict(full / "photos" / file_name), label)
        rows.append(tally.row("full photos"))
    drawn = (image.convert("RGB") for _, image in non_car_images(_DRAWN))
    rows.append(_without_cars(classifier, drawn).row("drawn pictures without a car"))
    if no_car:
        pictures = (read_photo(path) for path in sorted(no_car.iterdir()))
        rows.append(_without_cars(classifier, pictures).row("pictures without a car"))
    return Section("Whole pictures", ["photos", "number", "accuracy", "accepted", "right of these"], rows)


def _side_by_side(classifier: Classifier, photos: Sequence[tuple[Path, str]]) -> Tally:
    """Each photo beside the next one, at the same height: both cars must be named, each in its half."""
    tally = Tally()
    for (left, left_label), (right, right_label) in zip(photos[::2], photos[1::2], strict=False):
        first, second = (_of_height(read_photo(path), 224) for path in (left, right))
        both = Image.new("RGB", (first.width + second.width, 224))
        both.paste(first, (0, 0))
        both.paste(second, (first.width, 0))
        cars = classifier.predict_cars(both)
        halves = [[car for car in cars if _is_left(car, first.width) is side] for side in (True, False)]
        for found, label in zip(halves, (left_label, right_label), strict=True):
            tally.add(found[0] if found else None, label)
    return tally


def _is_left(car: Prediction, middle: int) -> bool | None:
    return None if car.box is None else (car.box[0] + car.box[2]) / 2 < middle


def _without_cars(classifier: Classifier, pictures: Iterable[Image.Image]) -> Tally:
    tally = Tally()
    for prediction in classifier.stream(pictures):
        tally.add(prediction if isinstance(prediction, Prediction) else None, label="")
    return tally


def _some(data: PreparedData, split: str, count: int) -> list[tuple[Path, str]]:
    """Photos that are spread evenly over the split, with their class names."""
    rows = data.labelled_split(split)
    chosen = np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)
    order = np.random.default_rng(0).permutation(chosen)
    return [(data.path(rows[i]), data.classes.names[rows[i].label or 0]) for i in order]


def _placed(photo: Image.Image, canvas: Image.Image, at: Sequence[float]) -> Image.Image:
    """The photo on a canvas, at a share of the free width and height."""
    left, top = (
        round((outer - inner) * share) for outer, inner, share in zip(canvas.size, photo.size, at, strict=True)
    )
    canvas.paste(photo, (left, top))
    return canvas


def _blurred(photo: Image.Image, size: tuple[int, int]) -> Image.Image:
    return photo.filter(ImageFilter.GaussianBlur(_BLUR * min(photo.size))).resize(size, Image.Resampling.BILINEAR)


def _of_height(photo: Image.Image, height: int) -> Image.Image:
    return photo.resize((max(1, round(photo.width * height / photo.height)), height), Image.Resampling.BILINEAR)


def _share(hits: Sequence[bool]) -> str:
    if not hits:
        return "-"
    return str(wilson(sum(hits) / len(hits), len(hits)))


if __name__ == "__main__":
    main()
