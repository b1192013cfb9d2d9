"""Photo formats: how they are recognized, and what Pillow alone does not do. Torch-free.

Shapes: h×w pixels of a photo.
"""

from __future__ import annotations

import re
import struct
from functools import cache

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "GIF", "TIFF")
"""Pillow's readers that are used besides that of HEIC; rarer formats would only add attack surface."""

PHOTO_SUFFIXES = frozenset(
    {
        ".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp", ".png", ".webp", ".avif", ".bmp", ".gif", ".tif",
        ".tiff", ".heic", ".heif", ".hif",
    }
)  # fmt: skip
"""Suffixes of files that are taken for photos without reading them."""

OTHER_SUFFIXES = frozenset(
    {
        ".txt", ".md", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".html", ".htm", ".log",
        ".ini", ".db", ".py", ".ipynb", ".mat", ".npy", ".npz", ".parquet", ".pdf", ".zip", ".tar", ".gz",
        ".7z", ".rar", ".mp4", ".mov", ".avi", ".mkv", ".webm", ".mp3", ".wav", ".svg", ".psd", ".xcf", ".ico",
        ".lnk", ".url", ".sha256", ".md5",
    }
)  # fmt: skip
"""Suffixes of files that are not photos, so that they need not be read."""

RAW_SUFFIXES = frozenset(
    {
        ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".orf", ".rw2", ".raf", ".pef", ".srw",
        ".raw", ".rwl", ".3fr", ".iiq",
    }
)  # fmt: skip
"""Suffixes of raw files of cameras; some begin as TIFF files do, and would yield a small preview only."""

LEFTOVER_SUFFIXES = frozenset(
    {
        ".part", ".partial", ".crdownload", ".download", ".tmp", ".temp", ".bak", ".orig", ".old", ".swp",
    }
)  # fmt: skip
"""Suffixes of unfinished downloads and of backups."""

HEAD = 64
"""Bytes at the beginning of a file that are read to recognize its format."""

MAX_TEXT_BYTES = 16 << 20
"""Largest profile or text of a PNG file, against decompression bombs. Pillow's default, 1 MiB, refuses real photos."""

PngImagePlugin.MAX_TEXT_CHUNK = MAX_TEXT_BYTES

_ORIENTATION = 0x0112  # in EXIF
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_BEGINNINGS = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF.{4}WEBP|II\*\0|MM\0\*"
    rb"|BM.{4}\0{4}.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0",
    re.DOTALL,
)
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}

_END = b"\xff\xd9"
# The warnings of libjpeg that mean lost pixels; others are about headers, or about bytes that are not needed.
_PIXELS_MISSING = re.compile("[Pp]remature end|bad Huffman code|bad arithmetic code|instead of RST")
_MARKER = re.compile(rb"\xff+([^\x00\x01\xff\xd0-\xd7])", re.DOTALL)
_MOST_MARKERS = 10_000
_SAMPLED = 1_000_000  # pixels
_PADS = (bytes(64), bytes.fromhex("5ac3960f") * 16)


def is_photo_data(head: bytes) -> bool:
    """Whether a file that begins with these `HEAD` bytes is in a photo format."""
    return bool(_BEGINNINGS.match(head) or _brands(head) & (_AVIF_BRANDS | _HEIC_BRANDS))


def is_heic(data: bytes) -> bool:
    """Whether it is a HEIC photo (HEIF compressed by HEVC), as phones make them."""
    brands = _brands(data)
    return bool(brands & _HEIC_BRANDS) and not brands & _AVIF_BRANDS


def _brands(data: bytes) -> set[bytes]:
    """The major brand and the compatible brands of an ISO media file; empty for any other file."""
    if data[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(data[:4], "big"), HEAD)
    return {data[8:12], *(data[start : start + 4] for start in range(16, end - 3, 4))}


@cache
def reads_heic() -> bool:
    """Register the HEIC reader with Pillow if its package is installed; returns whether it is."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
    return True


def decode_jpeg(
    data: bytes, *, min_height: int = 0, min_width: int = 0, fast: bool = False
) -> NDArray[np.uint8] | None:
    """The pixels of a JPEG photo as they are stored, RGB, h×w×3; None if only Pillow can read this kind of JPEG.

    A photo that lacks only its end marker counts as whole, and so does one with warnings about its headers only.

    Args:
        data: the file.
        min_height: pixels; the photo may be decoded at a reduced scale, but not below this.
        min_width: the same for the width.
        fast: use a faster transform, by which the last bit of a pixel may be wrong.

    Raises:
        ValueError: pixels are missing or damaged.
    """
    options = {"min_height": min_height, "min_width": min_width, "fastdct": fast}
    for attempt in (data, data + _END):
        try:
            return np.asarray(simplejpeg.decode_jpeg(attempt, strict=True, **options), np.uint8)
        except ValueError as error:
            warning = str(error)
        if not warning.startswith("Premature end of JPEG file"):
            break
    if _PIXELS_MISSING.search(warning):
        raise ValueError(warning)
    try:
        pixels = np.asarray(simplejpeg.decode_jpeg(attempt, strict=False, **options), np.uint8)
    except ValueError:
        return None
    # The decoder reports its first warning only, so missing pixels after it have to be found in another way.
    if _breaks_off(attempt):
        raise ValueError("premature end of data segment")
    return pixels


def _breaks_off(data: bytes) -> bool:
    """Whether pixels change with the bytes after the last scan: a truncated scan takes its missing bits from there."""
    end = _end_of_scans(data)
    first, second = (simplejpeg.decode_jpeg(data[:end] + pad + _END, strict=False) for pad in _PADS)
    return not np.array_equal(first, second)


def _end_of_scans(data: bytes) -> int:
    """The offset where the photo's end marker is or should be; data appended after it may contain other photos."""
    offset = 2
    for _ in range(_MOST_MARKERS):
        found = _MARKER.search(data, offset)
        if not found or found[1] == b"\xd9":
            return found.start() if found else len(data)
        length = struct.unpack(">H", data[found.end() : found.end() + 2].rjust(2, b"\0"))[0]
        offset = found.end() + length
    return len(data)


def orientation_of(image: Image.Image) -> int:
    """The orientation of a photo, 1 to 8 as EXIF numbers it; from XMP if EXIF has none."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # with damaged EXIF the orientation is unknown, but the pixels are fine
        return 1
    return orientation if isinstance(orientation, int) and orientation in _TURNS else 1


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a photo of any mode to upright RGB; transparent parts become white.

    Formats with 32-bit integers or floating-point numbers do not define white. It is then the smallest of 1 (for
    floating-point numbers only), 255, 65535 and 2^31 - 1 that 99% of the pixels do not exceed; single pixels may exceed
    it after sharpening. Larger values are clipped, and NaN becomes black.
    """
    turned = upright(image, orientation_of(image))
    if turned.mode.startswith("I;16"):
        # Pillow's own conversion clips 16-bit values instead of scaling them.
        turned = Image.fromarray((np.asarray(turned) >> 8).astype(np.uint8))
    elif turned.mode in ("I", "F"):
        turned = Image.fromarray(_to_8_bit(np.asarray(turned)))
    if turned.has_transparency_data:
        layer = turned.convert("RGBA")
        background = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(background, layer).convert("RGB")
    return turned.convert("RGB")


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Turn a photo upright, given its `orientation_of`."""
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _to_8_bit(values: NDArray[np.float32] | NDArray[np.int32]) -> NDArray[np.uint8]:
    whites = (1, 255, 65535, 2**31 - 1)[0 if values.dtype.kind == "f" else 1 :]
    levels = values.astype(np.float32)
    np.nan_to_num(levels, copy=False)
    step = max(1, round((levels.size / _SAMPLED) ** 0.5))  # the quantile of all pixels would need a copy of them
    high = np.quantile(levels[::step, ::step], 0.99)
    white = next((white for white in whites if high <= white), whites[-1])
    np.clip(levels, 0, white, out=levels)
    levels *= 255 / white
    return np.rint(levels, out=levels).astype(np.uint8)
