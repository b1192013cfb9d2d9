"""The embedded toy cars as a source: the photos are drawn in the folder of the prepared data set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from twincar.core.errors import UsageError
from twincar.core.files import sha256_of
from twincar.core.labels import ClassNames
from twincar.core.progress import Progress
from twincar.data.sources.base import Source, check_split_words
from twincar.data.sources.table import open_table
from twincar.data.toy.cars import CLASS_NAMES, draw_data_set


def open_toycars(seed_text: str, splits: tuple[str, ...]) -> Source:
    """The toy cars, drawn with a seed.

    Raises:
        UsageError: the seed is not a whole number.
    """
    check_split_words(splits)
    if not seed_text.isdecimal():
        raise UsageError(f"Expected toycars or toycars:SEED with a whole number, but found 'toycars:{seed_text}'.")
    seed = int(seed_text)
    source = Source(
        description=f"toycars:{seed}",
        revision="",
        classes=ClassNames(CLASS_NAMES),
        fingerprint=sha256_of(f"toycars {seed}".encode()),
        total=0,
        rows=tuple,
        photo_root=None,
    )

    def make(folder: Path, on_photo: Progress | None) -> Source:
        draw_data_set(folder, seed=seed, on_photo=on_photo)
        drawn = open_table(folder / "photos.csv", splits)
        (folder / "photos.csv").unlink()  # annotations.csv has the same content and more
        return replace(source, classes=drawn.classes, total=drawn.total, rows=drawn.rows, photo_root=drawn.photo_root)

    return replace(source, make=make)
