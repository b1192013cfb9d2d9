from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_car, encoded
from PIL import Image, ImageCms

from twincar.core.errors import Defect, PhotoError
from twincar.core.labels import ClassNames
from twincar.core.photo_formats import HEAD, PHOTO_SUFFIXES, is_heic, is_photo_data, reads_heic
from twincar.core.photos import decode_photo
from twincar.data.loading.decode import decode_reduced
from twincar.data.sources import Source, SourceRow
from twincar.data.validate import audit_source

END = b"\xff\xd9"
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8))
FLAT = draw_car(0, 0)


def verdicts(data: bytes) -> set[str]:
    """What predict, training and audit each make of a photo: 'whole', or a defect."""

    def verdict(decode: object) -> str:
        try:
            decode()  # type: ignore[operator]
        except PhotoError as error:
            return str(error.defect)
        return "whole"

    rows = [SourceRow(name="a.jpg", label=0, split="train", photo=data)]
    source = Source(
        description="", revision="", classes=ClassNames(("A",)), fingerprint="", total=1, rows=lambda: rows,
        photo_root=None,
    )  # fmt: skip
    audited = [str(found.defect) for found in audit_source(source, threads=1).findings] or ["whole"]
    return {verdict(lambda: decode_photo(data)), verdict(lambda: decode_reduced(data, "a", 2.0)), *audited}


JPEGS = {
    "plain": encoded(NOISE),
    "flat": encoded(FLAT),
    "optimized": encoded(FLAT, optimize=True),
    "progressive": encoded(NOISE, progressive=True),
    "gray": encoded(NOISE.convert("L")),
    "CMYK": encoded(NOISE.convert("CMYK")),
    "restarts": encoded(NOISE, restart_marker_blocks=4),
}


def with_odd_scan_header(data: bytes) -> bytes:
    """As some phones write it: the spectral selection of a sequential scan is 0 to 0 in place of 0 to 63."""
    scan = data.index(b"\xff\xda")
    length = struct.unpack(">H", data[scan + 2 : scan + 4])[0]
    return data[: scan + length - 1] + b"\0\0\0" + data[scan + length + 2 :]


@pytest.mark.parametrize("kind", JPEGS)
def test_a_jpeg_is_whole_if_every_pixel_is_there_whoever_looks(kind: str) -> None:
    data = JPEGS[kind]
    assert data.endswith(END)
    appended = data + b"a trailer" + data[:400]  # such as a second, smaller picture
    for whole in (data, data[:-2], data[:-1], data[:-2] + bytes(7) + END, appended):
        assert verdicts(whole) == {"whole"}
        np.testing.assert_array_equal(np.asarray(decode_photo(whole)), np.asarray(decode_photo(data)))
    for part in (0.5, 0.7, 0.9):
        cut = data[: int(part * len(data))]
        for truncated in (cut, cut + END, cut + END + b"a trailer" + data):
            assert verdicts(truncated) == {str(Defect.TRUNCATED)}


def test_a_jpeg_with_an_odd_scan_header_is_whole_only_if_its_end_is_there() -> None:
    data = with_odd_scan_header(JPEGS["plain"])
    assert verdicts(data) == verdicts(data[:-2]) == {"whole"}
    np.testing.assert_array_equal(np.asarray(decode_photo(data)), np.asarray(decode_photo(JPEGS["plain"])))
    for part in (0.5, 0.99):
        cut = data[: int(part * len(data))]
        assert verdicts(cut) == verdicts(cut + END) == verdicts(cut + END + data) == {str(Defect.TRUNCATED)}


def test_damage_in_the_middle_is_no_harmless_warning() -> None:
    data = bytearray(JPEGS["restarts"])
    marker = data.index(b"\xff\xd3", data.index(b"\xff\xda"))
    del data[marker - 40 : marker]
    assert verdicts(bytes(data)) == {str(Defect.TRUNCATED)}


def test_pixels_are_those_of_pillow() -> None:
    for kind in ("plain", "progressive", "gray", "restarts"):
        expected = np.asarray(Image.open(io.BytesIO(JPEGS[kind])).convert("RGB"))
        np.testing.assert_array_equal(np.asarray(decode_photo(JPEGS[kind])), expected)
    cmyk = np.asarray(Image.open(io.BytesIO(JPEGS["CMYK"])).convert("RGB")).astype(int)
    assert np.abs(np.asarray(decode_photo(JPEGS["CMYK"])) - cmyk).max() <= 1


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_a_png_with_a_large_profile_or_text_is_whole_up_to_a_bound() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert verdicts(encoded(FLAT, "PNG", icc_profile=profile + bytes(2 << 20))) == {"whole"}
    plain = encoded(FLAT, "PNG")

    def with_text(size: int) -> bytes:
        text = png_chunk(b"zTXt", b"prompt\0\0" + zlib.compress(bytes(size)))
        return plain[:33] + text + plain[33:]

    assert verdicts(with_text(8 << 20)) == {"whole"}
    assert verdicts(with_text(17 << 20)) == {str(Defect.TOO_LARGE)}
    with pytest.raises(PhotoError, match="at most 16 MiB of text or colour profile"):
        decode_photo(with_text(17 << 20))


def test_the_first_bytes_tell_a_photo() -> None:
    for form in ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "GIF", "TIFF"):
        assert is_photo_data(encoded(FLAT, form)[:HEAD]), form
    for other in (
        b"",
        b"BM, he said, and went on for quite a while, to nobody's joy",
        b"II",
        b"RIFF____WAVE",
        b"<html>",
    ):
        assert not is_photo_data(other)
    movie = b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41" + bytes(32)
    assert not is_photo_data(movie)
    assert {".jfif", ".heic"} <= PHOTO_SUFFIXES


def heic(image: Image.Image, **options: object) -> bytes:
    pytest.importorskip("pillow_heif")
    assert reads_heic()
    return encoded(image, "HEIF", **options)


def test_heic_is_read_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGB", (64, 32), "black")
    image.paste("white", (0, 0, 32, 32))
    data = heic(image, exif=exif.tobytes(), quality=90)
    assert is_heic(data)
    assert is_photo_data(data[:HEAD])
    upright = np.asarray(decode_photo(data))
    assert upright.shape == (64, 32, 3)
    assert upright[:28].mean() > 240 > 15 > upright[36:].mean()
    assert verdicts(data) == {"whole"}
    assert verdicts(data[: len(data) - 20]) == {str(Defect.NOT_AN_IMAGE)}  # libheif opens no part of one


def test_damaged_heic_is_called_heic() -> None:
    pytest.importorskip("pillow_heif")
    with pytest.raises(PhotoError, match="it is a damaged HEIC file"):
        decode_photo(b"\0\0\0\x24ftypheic\0\0\0\0mif1MiHEmiafMiHBheic" + bytes(range(1, 200)))


def test_heic_without_its_package_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twincar.core.photos.reads_heic", lambda: False)
    with pytest.raises(PhotoError, match=r"it is HEIC.*pip install 'twincar\[heic\]'") as refused:
        decode_photo(b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf" + bytes(100))
    assert refused.value.defect is Defect.UNSUPPORTED


def test_avif_is_no_heic(tmp_path: Path) -> None:
    data = encoded(FLAT, "AVIF")
    assert not is_heic(data)
    (tmp_path / "a").write_bytes(data)
    assert decode_photo(data).size == FLAT.size
