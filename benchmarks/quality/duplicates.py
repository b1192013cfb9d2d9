"""How fast photos are hashed and compared, and which duplicates are found.

python -m benchmarks.quality.duplicates DATA [--photos 120] [--hashed 2000] [--compared 16185]

The hashes compared are those of DATA with a quarter of their bits changed at random, by default as many as Stanford
Cars has photos.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageEnhance

from benchmarks.measuring import Section, peak_memory
from twincar.auditing.duplicates import find_duplicates
from twincar.auditing.signatures import BITS, Signatures, sign_photo
from twincar.data.dataset import Annotation, PreparedData

STANFORD_CARS = 16_185  # photos
_Change = Callable[[Image.Image], Image.Image]


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.duplicates", description=__doc__.splitlines()[0]
    )
    parser.add_argument("data", type=Path, help="prepared data set")
    parser.add_argument("--photos", type=int, default=120, help="of which copies are made")
    parser.add_argument("--hashed", type=int, default=2000, help="photos whose hashing is timed")
    parser.add_argument("--compared", type=int, default=STANFORD_CARS, help="photos that are compared")
    arguments = parser.parse_args()
    data = PreparedData.open(arguments.data)
    print(measure_speed(data, arguments.hashed, arguments.compared).to_markdown())
    print(measure_copies(data, arguments.photos).to_markdown())


def measure_speed(data: PreparedData, hashed: int, compared: int) -> Section:
    """Photos hashed per second and core; seconds to compare `compared` photos."""
    cv2.setNumThreads(1)
    chosen = _some(data, hashed)
    photos = [(data.path(photo).read_bytes(), photo.file, photo.width, photo.height) for photo in chosen]
    wall, cpu = time.perf_counter(), time.process_time()
    signed = [sign_photo(*photo) for photo in photos]
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    rows = [
        ["hashing one photo after another", f"{len(photos) / wall:.0f} photos/s", f"{len(photos) / cpu:.0f} a core"]
    ]
    many = _as_many(signed, compared)
    wall, cpu, memory = time.perf_counter(), time.process_time(), peak_memory()
    groups = find_duplicates(many, [str(place) for place in range(len(many))])
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    rows.append([f"comparing {len(many):,} photos", f"{wall:.1f} s", f"{cpu:.1f} s of all cores"])
    added = (peak_memory() - memory) / 1e6
    note = f"{len(groups)} groups among the {len(many):,}; the comparison added {added:.0f} MB to the process."
    return Section(f"Hashing and comparing, {data.folder.name}", ["work", "elapsed", "processor"], rows, [note])


def measure_copies(data: PreparedData, count: int) -> Section:
    """Share of copies of each kind that are found."""
    kinds: dict[str, tuple[_Change, int]] = {
        "JPEG quality 30": (lambda image: image, 30),
        "JPEG quality 10": (lambda image: image, 10),
        "half the size": (lambda image: image.resize((image.width // 2, image.height // 2)), 80),
        "mirrored, quality 50": (lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 50),
        "brighter by 30%": (lambda image: ImageEnhance.Brightness(image).enhance(1.3), 85),
        "contrast less by 30%": (lambda image: ImageEnhance.Contrast(image).enhance(0.7), 85),
        "grey": (lambda image: image.convert("L"), 85),
        "cut by 2% of each side": (lambda image: _cut(image, 0.02), 85),
        "cut by 4%": (lambda image: _cut(image, 0.04), 85),
        "cut by 5%": (lambda image: _cut(image, 0.05), 85),
        "cut by 10%": (lambda image: _cut(image, 0.10), 85),
    }
    rows = []
    for kind, (change, quality) in kinds.items():
        found = 0
        for photo in _some(data, count):
            original = data.path(photo).read_bytes()
            copy = change(Image.open(io.BytesIO(original)).convert("RGB"))
            encoded = io.BytesIO()
            copy.save(encoded, "JPEG", quality=quality)
            pair = [
                sign_photo(original, "", photo.width, photo.height),
                sign_photo(encoded.getvalue(), "", copy.width, copy.height),
            ]
            found += len(find_duplicates(_as_many(pair, 2, changed=0), ["original", "copy"]))
        rows.append([kind, f"{found} of {count}"])
    return Section(f"Copies found, {data.folder.name}", ["copy", "found"], rows)


def _some(data: PreparedData, count: int) -> list[Annotation]:
    places = np.random.default_rng(0).choice(len(data.annotations), min(count, len(data.annotations)), replace=False)
    return [data.annotations[place] for place in places]


def _cut(image: Image.Image, share: float) -> Image.Image:
    x, y = int(image.width * share / 2), int(image.height * share / 2)
    return image.crop((x, y, image.width - x, image.height - y))


def _as_many(signed: list[Signatures], count: int, changed: float = 0.25) -> Signatures:
    """Signatures repeated up to `count`, a share of the bits of each hash changed."""
    names = ("hashes", "thumbnails", "brightness", "sharpness")
    joined = Signatures(*(np.concatenate([getattr(one, name) for one in signed]) for name in names))
    many = joined.take([place % len(signed) for place in range(count)])
    flips = np.random.default_rng(0).random((count, 1, BITS)) < changed
    return replace(many, hashes=many.hashes ^ np.packbits(flips, axis=2))


if __name__ == "__main__":
    main()
