"""Cache of decoded training photos: one memory-mapped file, so that an epoch decodes no JPEG.

Each photo is stored as `fit_photo` returns it, no larger than its smallest crop needs. The file's name and first line
identify the data and all settings on which the pixels depend; its last 32 bytes are the SHA-256 of the rest. It is
renamed only when it is complete, so a build that is killed leaves no file that could be used.

    first line    JSON: what the pixels depend on; padded with spaces to `_HEADER` bytes
    photos        one after another, h×w×3 uint8, in the order of the annotations
    last          SHA-256, 32 bytes
"""

from __future__ import annotations

import hashlib
import json
import logging
import mmap
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from twincar.core.augmentation import AugmentConfig
from twincar.core.errors import StorageError, UsageError, storage_errors
from twincar.core.files import atomic_path, clear_unfinished, sha256_of
from twincar.core.preprocess import Preprocessing
from twincar.data.dataset import ANNOTATIONS, CACHE, Annotation, PreparedData
from twincar.data.loading.augment import Fit, fit_of, fit_photo
from twincar.data.loading.view import view_of

log = logging.getLogger(__name__)

_FORMAT = 2  # raise it when `fit_photo` or the decoding changes the pixels
_HEADER = 4096
_DIGEST = hashlib.sha256().digest_size
Decode = Callable[[int, Fit], NDArray[np.uint8]]
"""Decodes a photo, given its index in the annotations and its fit, to RGB pixels of at least that resolution."""


class PhotoCache:
    """Photos ready for `augment_fitted`, by their index in the annotations."""

    def __init__(self, path: Path, sizes: Sequence[tuple[int, int]]) -> None:
        self.path = path
        self.sizes = sizes
        self.starts = list(accumulate((3 * width * height for width, height in sizes), initial=_HEADER))

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """The pixels of a photo, RGB, h×w×3, read-only."""
        width, height = self.sizes[index]
        return self._bytes[self.starts[index] : self.starts[index + 1]].reshape(height, width, 3)

    def __reduce__(self) -> tuple[type[PhotoCache], tuple[Path, Sequence[tuple[int, int]]]]:
        return PhotoCache, (self.path, self.sizes)  # a spawned worker maps the file itself

    @cached_property
    def _bytes(self) -> NDArray[np.uint8]:
        with self.path.open("rb") as file:
            return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)


def open_cache(
    data: PreparedData,
    annotations: Sequence[Annotation],
    augment: AugmentConfig,
    preprocessing: Preprocessing,
    decode: Decode,
) -> PhotoCache:
    """Open the cache of these photos; it is built first if it is missing or damaged, after logging its size.

    Raises:
        UsageError: the crops differ too much in size for one fitted photo.
        PhotoError: a photo cannot be decoded.
        StorageError: the disk has too little space, or cannot be written to.
    """
    fits = _fits(annotations, augment, preprocessing)
    header = _header(data, annotations, augment, preprocessing)
    cache = PhotoCache(
        data.folder / CACHE / f"photos-{sha256_of(header)[:16]}.bin", [(f.width, f.height) for f in fits]
    )
    size = cache.starts[-1] + _DIGEST
    if _is_whole(cache.path, header, size):
        return cache
    with storage_errors(cache.path):
        cache.path.parent.mkdir(exist_ok=True)
    clear_unfinished(cache.path.parent)
    _announce(cache.path, size, len(fits))
    _build(cache.path, header, fits, decode)
    return cache


def _fits(annotations: Sequence[Annotation], augment: AugmentConfig, preprocessing: Preprocessing) -> list[Fit]:
    fits = []
    for annotation in annotations:
        view = view_of(annotation, augment)
        fit = fit_of(augment, view.size, view.box_size, height=preprocessing.height, width=preprocessing.width)
        if fit is None:
            raise UsageError(
                "A cache holds each photo once for all its crops, but these differ too much in size with "
                f"augment.box_jitter {augment.box_jitter}, augment.crop_scale {augment.crop_scale} and "
                f"augment.crop_ratio {augment.crop_ratio}. Narrow them, or train without --cache."
            )
        fits.append(fit)
    return fits


def _header(
    data: PreparedData, annotations: Sequence[Annotation], augment: AugmentConfig, preprocessing: Preprocessing
) -> bytes:
    """The first line of the file: which photos these are, and all that the pixels depend on."""
    depends_on = {
        "twincar cache": _FORMAT,
        "data": data.manifest["sha256"][ANNOTATIONS],
        "photos": sha256_of(
            "\n".join(annotation.file for annotation in annotations).encode("utf-8", "surrogateescape")
        ),
        "input": [preprocessing.height, preprocessing.width],
        "crop": [augment.box_jitter, augment.crop_scale, augment.crop_ratio],
    }
    return json.dumps(depends_on).encode().ljust(_HEADER - 1) + b"\n"


def _is_whole(path: Path, header: bytes, size: int) -> bool:
    """Whether the file exists, has this header, and matches its hash."""
    if not path.exists():
        return False
    with path.open("rb") as file:
        if path.stat().st_size == size and file.read(_HEADER) == header:
            digest = hashlib.sha256(header)
            for block in _blocks(file, size - _HEADER - _DIGEST):
                digest.update(block)
            if file.read() == digest.digest():
                return True
    log.warning("The cache %s is damaged; it is built again.", path)
    return False


def _blocks(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size and (block := file.read(min(size, 1 << 20))):
        size -= len(block)
        yield block


def _announce(path: Path, size: int, photos: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < size:
        raise StorageError(
            f"Expected {size / 1e9:.2f} GB free for the cache of decoded photos in {path.parent}, but found "
            f"{free / 1e9:.2f} GB. Make room, or train without --cache."
        )
    log.info("Building the cache of %d decoded photos, %.2f GB: %s", photos, size / 1e9, path)


def _build(path: Path, header: bytes, fits: Sequence[Fit], decode: Decode) -> None:
    hidden = not sys.stderr.isatty() or not log.isEnabledFor(logging.INFO)
    bar = track(list(enumerate(fits)), "Decoding photos", console=Console(stderr=True), transient=True, disable=hidden)
    digest = hashlib.sha256(header)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(header)
        for index, fit in bar:
            pixels = fit_photo(decode(index, fit), fit).tobytes()
            digest.update(pixels)
            file.write(pixels)
        file.write(digest.digest())
