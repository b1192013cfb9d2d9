"""How many photos are training photos that were cut out otherwise, which `twincar audit --deep` misses.

python -m benchmarks.quality.cut_copies PREDICTIONS.csv --photos DATA --training DATA [--out COPIES.csv]

PREDICTIONS is the `predictions.csv` of photos with some margin, the test photos of --photos. Each is compared with the
training and validation photos of its class and of the five that the model finds the most likely, and with their mirror
images: up to 16% are cut from each of its sides, and grey thumbnails are correlated. Copies in other classes are
missed. COPIES is the list of the copies.

Shapes: N photos, T = 36×24 pixels of a thumbnail.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.measuring import Section
from twincar.core.files import write_csv
from twincar.core.photos import read_photo
from twincar.data.dataset import Annotation, PreparedData

Floats = NDArray[np.float32]

_THUMBNAIL = (36, 24)  # pixels, width and height
_COARSE = (0.0, 0.06, 0.12)  # shares that are cut from a side
_FINE = (0.0, 0.03, 0.06, 0.09, 0.12, 0.16)
_WORTH_A_LOOK = 0.85  # correlation at the coarse shares from which the fine ones are tried
COPY = 0.964
"""Correlation of a copy: of the pairs of Stanford Cars with more, all that were looked at show the same photo."""


@dataclass(frozen=True)
class Match:
    """The training photo that is most like a photo."""

    correlation: float
    file: str
    label: str


class TrainingPhotos:
    """Thumbnails of the training and validation photos, by class."""

    def __init__(self, data: PreparedData) -> None:
        self._data = data
        self._photos: dict[str, list[Annotation]] = {}
        for annotation in data.annotations:
            if annotation.label is not None and annotation.split in ("train", "val"):
                self._photos.setdefault(data.classes[annotation.label], []).append(annotation)
        self._of_class = cache(self._read)

    def nearest(self, photo: Image.Image, classes: Sequence[str]) -> Match:
        """The most similar photo of these classes."""
        first = self._nearest(photo, classes, _COARSE)
        return first if first.correlation < _WORTH_A_LOOK else self._nearest(photo, [first.label], _FINE)

    def _nearest(self, photo: Image.Image, classes: Sequence[str], shares: Sequence[float]) -> Match:
        cuts = np.stack([thumbnail(photo, cut) for cut in product(shares, repeat=4)])
        best = Match(0.0, "", "")
        for name in classes:
            for photos in self._of_class(name):
                correlations = (photos @ cuts.T).max(axis=1, initial=0)
                if len(photos) and correlations.max() > best.correlation:
                    file = self._photos[name][int(correlations.argmax())].file
                    best = Match(float(correlations.max()), file, name)
        return best

    def _read(self, name: str) -> tuple[Floats, Floats]:
        """Thumbnails of a class as they are and mirrored, N×T each."""
        images = [read_photo(self._data.photo(annotation)) for annotation in self._photos.get(name, [])]
        mirrored = [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in images]
        plain, other = ([thumbnail(image) for image in way] for way in (images, mirrored))
        size = _THUMBNAIL[0] * _THUMBNAIL[1]
        return np.array(plain, np.float32).reshape(-1, size), np.array(other, np.float32).reshape(-1, size)


def thumbnail(photo: Image.Image, cut: Sequence[float] = (0, 0, 0, 0)) -> Floats:
    """Grey pixels, T, with mean 0 and length 1; `cut` is what left, top, right and bottom lose, as shares."""
    left, top, right, bottom = cut
    width, height = photo.size
    box = (left * width, top * height, (1 - right) * width, (1 - bottom) * height)
    small = photo.convert("L").resize(_THUMBNAIL, Image.Resampling.BILINEAR, box=box)
    pixels = np.asarray(small, np.float32).ravel()
    pixels -= pixels.mean()
    return pixels / max(float(np.linalg.norm(pixels)), 1e-9)


@dataclass(frozen=True)
class Found:
    """A photo, whether it was named right, and its copy."""

    file: str
    label: str
    right: bool
    match: Match

    @classmethod
    def of(cls, row: dict[str, str], photo: Image.Image, training: TrainingPhotos) -> Self:
        """For a row of `predictions.csv`."""
        listed = [row[f"top{rank}"] for rank in range(1, 6) if row.get(f"top{rank}")]
        match = training.nearest(photo, list(dict.fromkeys([row["truth"], *listed])))
        return cls(row["file"], row["truth"], row["correct"] == "1", match)

    @property
    def kind(self) -> str:
        """'no copy', or the class that the copy has."""
        if self.match.correlation < COPY:
            return "no copy"
        return "copy of the same class" if self.match.label == self.label else "copy of another class"


def section(found: Sequence[Found]) -> Section:
    """Photos and accuracy of each kind."""
    kinds = {kind: [photo.right for photo in found if photo.kind == kind] for kind in sorted({p.kind for p in found})}
    rows = [[kind, str(len(right)), f"{np.mean(right):.3f}"] for kind, right in kinds.items()]
    return Section("Training photos cut otherwise", ["photos", "number", "accuracy"], rows)


def main() -> None:
    """Print the table, and write the list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=Path)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--training", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    data, training = PreparedData.open(asked.photos), TrainingPhotos(PreparedData.open(asked.training))
    files = {annotation.file: annotation for annotation in data.split("test")}
    with asked.predictions.open(encoding="utf-8", newline="") as file:
        found = [Found.of(row, read_photo(data.photo(files[row["file"]])), training) for row in csv.DictReader(file)]
    print(section(found).to_markdown())
    if asked.out:
        copies = [photo for photo in found if photo.kind != "no copy"]
        columns = ("photo", "label", "copy", "label_of_the_copy")
        cells = [(photo.file, photo.label, photo.match.file, photo.match.label) for photo in copies]
        rows = [dict(zip(columns, row, strict=True)) for row in cells]
        write_csv(asked.out, rows)
        print(f"{len(copies)} of {len(found)} photos are copies: {asked.out}")


if __name__ == "__main__":
    main()
