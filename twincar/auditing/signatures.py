"""Signatures of photos for comparison: a perceptual hash, a thumbnail, brightness and sharpness.

A photo is decoded once, at a reduced size. The signatures of a prepared data set are cached in its folder by the
SHA-256 of the photos, so that a second audit decodes new photos only.

Shapes: N photos, B = 256 bits of a hash, T = 64 pixels of a thumbnail's side.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twincar.core.errors import StorageError
from twincar.core.files import atomic_path, clear_unfinished
from twincar.core.machine import available_cores
from twincar.core.parallel import map_ahead
from twincar.core.photos import read_photo_bytes
from twincar.core.progress import Progress
from twincar.data.dataset import Annotation
from twincar.data.loading.decode import decode_reduced

log = logging.getLogger(__name__)

BITS = 256
"""Length of a hash. With 64 bits, similar studio photos collide: about 170 pairs of different box crops of Stanford
Cars are as near as a copy that was cropped by 2%; with 256 bits, none is."""
THUMBNAIL = 64
"""Side of a thumbnail, pixels."""
CACHE_NAME = "signatures-1.npz"  # change the number when the computation changes
_SQUARE = 128  # side of the grey square from which everything is computed, pixels
_AHEAD = 8  # photos that each thread may compute ahead


@dataclass(frozen=True)
class Signatures:
    """The signatures of N photos, in their order."""

    hashes: NDArray[np.uint8]
    """Perceptual hashes of the photo and of its mirror image, N×2×B/8, bits packed."""
    thumbnails: NDArray[np.uint8]
    """The whole photo in grey, resized to a square, N×T×T."""
    brightness: NDArray[np.float32]
    """Mean grey level, 0 to 1; N."""
    sharpness: NDArray[np.float32]
    """Variance of the Laplacian of the grey 128×128 square (Pech-Pacheco et al., 2000), grey levels squared; N."""

    def __len__(self) -> int:
        return len(self.hashes)

    def take(self, indices: Sequence[int]) -> Signatures:
        """The signatures of the photos at `indices`."""
        return Signatures(*(getattr(self, field.name)[np.asarray(indices, np.int64)] for field in fields(self)))


def sign_photos(
    annotations: Sequence[Annotation],
    photo_root: Path,
    *,
    cache: Path | None = None,
    on_photo: Progress | None = None,
) -> Signatures:
    """The signatures of photos.

    Args:
        annotations: N photos.
        photo_root: the folder that their names are relative to.
        cache: a file with the signatures of earlier audits; new ones are added to it.
        on_photo: called with photos done and in all.

    Raises:
        PhotoError: a photo no longer exists, or cannot be decoded.
    """
    digests = [annotation.sha256 for annotation in annotations]
    known, signatures = _read_cache(cache)
    new = {digest: annotation for digest, annotation in zip(digests, annotations, strict=True) if digest not in known}
    total, done = len(annotations), len(annotations) - len(new)
    parts = [] if signatures is None else [signatures]
    threads = available_cores()

    def sign(annotation: Annotation) -> Signatures:
        path = photo_root / annotation.file
        return sign_photo(read_photo_bytes(path), str(path), annotation.width, annotation.height)

    for signed in map_ahead(sign, new.values(), threads=threads, ahead=threads * _AHEAD):
        parts.append(signed)
        done += 1
        if on_photo:
            on_photo(done, total)
    known |= {digest: len(known) + index for index, digest in enumerate(new)}
    joined = _join(parts)
    if cache and new:
        _write_cache(cache, list(known), joined)
    return joined.take([known[digest] for digest in digests])


def sign_photo(data: bytes, name: str, width: int, height: int) -> Signatures:
    """The signature of one photo of `width`×`height` pixels, as arrays with N = 1.

    Raises:
        PhotoError: it cannot be decoded.
    """
    pixels = decode_reduced(data, name, max(1.0, min(width, height) / _SQUARE))
    square = cv2.resize(pixels, (_SQUARE, _SQUARE), interpolation=cv2.INTER_AREA)
    gray = cv2.cvtColor(square, cv2.COLOR_RGB2GRAY)
    image = Image.fromarray(gray)
    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    bits = [imagehash.phash(view, hash_size=int(BITS**0.5)).hash.ravel() for view in (image, mirrored)]
    thumbnail = cv2.resize(gray, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return Signatures(
        hashes=np.packbits(bits, axis=1)[None],
        thumbnails=thumbnail[None].astype(np.uint8),
        brightness=np.array([gray.mean() / 255], np.float32),
        sharpness=np.array([cv2.Laplacian(gray, cv2.CV_32F).var()], np.float32),
    )


def _join(parts: Sequence[Signatures]) -> Signatures:
    if not parts:
        return Signatures(
            np.zeros((0, 2, BITS // 8), np.uint8),
            np.zeros((0, THUMBNAIL, THUMBNAIL), np.uint8),
            np.zeros(0, np.float32),
            np.zeros(0, np.float32),
        )
    return Signatures(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Signatures)))


def _read_cache(cache: Path | None) -> tuple[dict[str, int], Signatures | None]:
    """The index of each photo in the cache by its SHA-256, and their signatures."""
    if cache is None or not cache.exists():
        return {}, None
    try:
        with np.load(cache) as file:
            signatures = Signatures(*(file[field.name] for field in fields(Signatures)))
            digests = [row.tobytes().hex() for row in file["sha256"]]
        if len(digests) != len(signatures):
            raise ValueError("its arrays differ in length")
    except Exception as error:  # NumPy and zipfile raise many kinds; the cache is then computed again
        log.warning("The file %s is damaged (%s); the signatures are computed again.", cache, error)
        return {}, None
    return {digest: index for index, digest in enumerate(digests)}, signatures


def _write_cache(cache: Path, digests: Sequence[str], signatures: Signatures) -> None:
    keys = np.frombuffer(bytes.fromhex("".join(digests)), np.uint8).reshape(len(digests), -1)
    arrays = {field.name: getattr(signatures, field.name) for field in fields(signatures)}
    try:
        clear_unfinished(cache.parent)
        with atomic_path(cache) as temporary, temporary.open("wb") as file:
            np.savez(file, sha256=keys, **arrays)
    except StorageError:  # the cache saves time only
        log.warning("%s cannot be written; the next audit will compute the signatures of the photos again.", cache)
