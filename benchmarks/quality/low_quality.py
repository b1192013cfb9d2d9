"""How well a model names cars in photos that are soft, strongly compressed, or of few pixels.

python -m benchmarks.quality.low_quality [MODEL] --data DATA [--split val]

DATA is a prepared data set; all photos of the split are named in each quality. Soft photos are made like those of the
official test half of Stanford Cars: squashed to 180×170 pixels, compressed at quality 75, resized to their own shape
with 115 pixels on the shorter side, and compressed again. An answer is a class that has at least 80% and is not
rejected as an unknown car. Photos of few pixels are answered too here, so that the table shows what 'too small'
prevents.

Shapes: N photos, K classes.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.measuring import Section
from twincar.core.options import CONFIDENCE, FALSE_REJECTION, DetectOptions
from twincar.core.photos import read_photo
from twincar.core.preprocess import iterate_batches
from twincar.data.dataset import PreparedData
from twincar.evaluation.split_predictions import labelled_split
from twincar.inference.classifier import Classifier
from twincar.metrics.classification import wilson

Change = Callable[[Image.Image], Image.Image]

_SQUASHED = (180, 170)  # pixels, width and height
_SOFT_SIDE = 115  # pixels of the shorter side
_BATCH = 32


def softened(quality: int) -> Change:
    """Made like the official test photos, compressed at this quality in the end."""

    def change(photo: Image.Image) -> Image.Image:
        squashed = compressed(photo.resize(_SQUASHED, Image.Resampling.BILINEAR), 75)
        return compressed(squashed.resize(_size(photo, _SOFT_SIDE), Image.Resampling.BICUBIC), quality)

    return change


def shrunk(side: int) -> Change:
    """This many pixels on the shorter side; a photo that has no more stays as it is."""

    def change(photo: Image.Image) -> Image.Image:
        return photo if min(photo.size) <= side else photo.resize(_size(photo, side), Image.Resampling.BICUBIC)

    return change


def compressed(photo: Image.Image, quality: int) -> Image.Image:
    """Compressed as JPEG and read again."""
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


CHANGES: dict[str, Change] = {
    "as stored": lambda photo: photo,
    **{f"soft, JPEG quality {quality}": softened(quality) for quality in (75, 60, 45)},
    **{f"{side} pixels on the shorter side": shrunk(side) for side in (64, 48, 32, 24)},
}


def measure(classifier: Classifier, data: PreparedData, split: str) -> Section:
    """A row for each quality: accuracy, share answered, and share right of the answers, with 95% intervals (Wilson)."""
    annotations, labels = labelled_split(data, split, classifier.spec.classes)
    rows = []
    for name, change in CHANGES.items():
        changed = (change(read_photo(data.photo(annotation))) for annotation in annotations)
        logits = compute_logits(classifier, changed)
        right, answered = judge(classifier, logits, labels)
        rows.append([name, str(len(labels)), share(right), share(answered), share(right[answered])])
    header = ["photos", "number", "accuracy", "answered", "right of these"]
    least = classifier.spec.preprocessing.least_side
    note = f"A car of fewer than {least} pixels on its shorter side is 'too small' for this model."
    return Section(f"Low quality: {data.name}, {split}", header, rows, [note])


def compute_logits(classifier: Classifier, photos: Iterable[Image.Image]) -> NDArray[np.float32]:
    """Logits, N×K."""
    batches = iterate_batches(photos, classifier.spec.preprocessing, batch_size=_BATCH)
    return np.concatenate([classifier.engine.logits(batch[:, 0]) for batch in batches])


def judge(
    classifier: Classifier, logits: NDArray[np.float32], labels: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether the most likely class is the right one, and whether it is an answer; N each."""
    calibration = classifier.spec.calibration
    sure = calibration.probabilities(logits).max(axis=1) >= CONFIDENCE
    known = calibration.in_distribution_score(logits) >= FALSE_REJECTION
    return logits.argmax(axis=1) == labels, sure & known


def share(hits: NDArray[np.bool_]) -> str:
    """A share with its interval."""
    return str(wilson(float(hits.mean()), len(hits))) if len(hits) else "-"


def _size(photo: Image.Image, side: int) -> tuple[int, int]:
    """Width and height with this many pixels on the shorter side."""
    scale = side / min(photo.size)
    return round(photo.width * scale), round(photo.height * scale)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="a model of any kind; the bundled one unless given")
    parser.add_argument("--data", type=Path, required=True, help="prepared data set of photos that are cut to the car")
    parser.add_argument("--split", default="val")
    asked = parser.parse_args()
    classifier = Classifier.load(asked.model, detection=DetectOptions(detect="never"))
    print(measure(classifier, PreparedData.open(asked.data), asked.split).to_markdown())


if __name__ == "__main__":
    main()
