from __future__ import annotations

import contextlib
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_car, encoded
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torchvision import transforms

from twincar.core.errors import Defect, PhotoError
from twincar.core.photos import decode_photo, read_photo
from twincar.core.preprocess import Preprocessing, iterate_batches
from twincar.data.loading.decode import decode_reduced


@settings(max_examples=40, deadline=None)
@given(width=st.integers(20, 700), height=st.integers(20, 700), size=st.sampled_from([64, 96, 224]))
def test_equals_torchvision_to_the_pixel(width: int, height: int, size: int) -> None:
    photo = Image.fromarray(np.random.default_rng(width * height).integers(0, 256, (height, width, 3), np.uint8))
    ours = Preprocessing(height=size, width=size)(photo)
    theirs = transforms.CenterCrop(size)(transforms.Resize(round(size / 0.875))(photo))
    np.testing.assert_array_equal(ours, np.asarray(theirs))


def test_rectangles_and_squashing_have_the_size_asked_for() -> None:
    photo = draw_car(0, 0, (101, 67))
    for squash in (False, True):
        assert Preprocessing(height=48, width=80, squash=squash)(photo).shape == (48, 80, 3)
    squashed = Preprocessing(height=48, width=80, squash=True)
    np.testing.assert_array_equal(squashed(photo), np.asarray(photo.resize((80, 48), Image.Resampling.BILINEAR)))


def test_a_quarter_of_the_shorter_side_is_the_least_of_a_photo() -> None:
    sizes = ((144, 224), (224, 144), (10, 9), (3, 3))
    assert [Preprocessing(height=h, width=w).least_side for h, w in sizes] == [36, 36, 3, 1]


def test_seen_box_is_what_is_in_the_crop() -> None:
    """A photo whose red channel counts columns and green rows tells where its pixels went."""
    columns, rows = np.meshgrid(np.arange(240), np.arange(120))
    photo = Image.fromarray(np.stack([columns, rows, 0 * rows], axis=2).astype(np.uint8))
    preprocessing = Preprocessing(height=60, width=60, crop=0.75)
    left, top, right, bottom = preprocessing.visible_box(240, 120)
    assert (left, top, right, bottom) == pytest.approx((75, 15, 165, 105))  # 80 of 120 high, the middle 60 of 160×80
    crop = preprocessing(photo).astype(float)
    assert crop[30, 0, 0] == pytest.approx(left, abs=2)
    assert crop[30, -1, 0] == pytest.approx(right, abs=2)
    assert crop[0, 30, 1] == pytest.approx(top, abs=2)
    assert crop[-1, 30, 1] == pytest.approx(bottom, abs=2)
    assert Preprocessing(height=60, width=60, squash=True).visible_box(240, 120) == (0, 0, 240, 120)


def test_views_are_the_photo_its_mirror_and_a_wider_crop() -> None:
    photo = draw_car(1, 1)
    preprocessing = Preprocessing(height=32, width=32)
    plain, mirrored, wide, _ = preprocessing.views(photo)
    np.testing.assert_array_equal(plain, preprocessing(photo))
    np.testing.assert_array_equal(mirrored[:, ::-1], plain)
    np.testing.assert_array_equal(wide, Preprocessing(height=32, width=32, crop=1.0)(photo))
    assert len(Preprocessing(height=32, width=32, squash=True).views(photo)) == 2


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "LA", "1", "I;16", "RGBA"])
def test_other_kinds_of_pixels_are_read_right(mode: str) -> None:
    gray = Image.new("L", (40, 30), 128)
    image = (
        Image.fromarray(np.full((30, 40), 128 * 257, np.uint16))
        if mode == "I;16"
        else gray.convert("RGB").convert(mode)
    )
    form = "TIFF" if mode == "CMYK" else "PNG"
    result = np.asarray(decode_photo(encoded(image, form)))
    assert result.shape == (30, 40, 3)
    assert abs(float(result.mean()) - 128) < (128 if mode == "1" else 3)


def test_transparent_parts_become_white() -> None:
    image = Image.new("RGBA", (10, 10), (255, 0, 0, 0))
    assert np.asarray(decode_photo(encoded(image, "PNG"))).min() == 255


def test_exif_turns_the_photo_upright() -> None:
    image = Image.new("RGB", (40, 20), "black")
    image.paste("white", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned 90° clockwise: the left half comes to the top
    upright = np.asarray(decode_photo(encoded(image, exif=exif)))
    assert upright.shape == (40, 20, 3)
    assert upright[:15].mean() > 240
    assert upright[25:].mean() < 15


XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "PNG", "TIFF"])
def test_xmp_turns_the_photo_upright_in_training_too(form: str) -> None:
    image = Image.new("RGB", (40, 20), "black")
    image.paste("white", (0, 0, 20, 20))
    if form == "PNG":
        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", XMP.decode())
        data = encoded(image, form, pnginfo=text)
    elif form == "TIFF":
        data = encoded(image, form, tiffinfo={700: XMP})
    else:
        data = encoded(image, form, xmp=XMP)
    for upright in (np.asarray(decode_photo(data)), decode_reduced(data, "a", 1.0)):
        assert upright.shape == (40, 20, 3)
        assert upright[:15].mean() > 240
        assert upright[25:].mean() < 15


def test_where_exif_and_xmp_differ_exif_counts() -> None:
    exif = Image.Exif()
    exif[0x0112] = 1
    data = encoded(Image.new("RGB", (40, 20)), exif=exif, xmp=XMP)
    assert decode_photo(data).size == (40, 20)
    assert decode_reduced(data, "a", 1.0).shape == (20, 40, 3)


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        (np.array([0.0, 0.5, 1.0], np.float32), [0, 128, 255]),
        (np.array([-0.2, 0.5, np.nan], np.float32), [0, 128, 0]),
        (np.array([0.0, 100.0, 255.0], np.float32), [0, 100, 255]),
        (np.array([0.0, 25700.0, 65535.0], np.float32), [0, 100, 255]),
        (np.array([0, 1, 255], np.int32), [0, 1, 255]),
        (np.array([0, 25700, 65535], np.int32), [0, 100, 255]),
        (np.array([0, 2**30, 2**31 - 1], np.int32), [0, 128, 255]),
    ],
)
def test_levels_of_a_tiff_are_scaled_by_the_range_they_fill(values: np.ndarray, levels: list[int]) -> None:
    data = encoded(Image.fromarray(np.tile(values, (20, 1))), "TIFF")
    assert np.asarray(decode_photo(data))[0, :, 0].tolist() == levels


def test_a_single_pixel_beyond_white_does_not_make_a_photo_black() -> None:
    values = np.full((20, 20), 0.5, np.float32)
    values[0, 0] = 1.4
    pixels = np.asarray(decode_photo(encoded(Image.fromarray(values), "TIFF")))
    assert (pixels[0, 0, 0], pixels[5, 5, 0]) == (255, 128)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", len(body) - 4)
        + body
        + struct.pack(">I", zlib.crc32(body))
        + struct.pack(">I", 9)
        + b"IDAT"
    )


@pytest.mark.parametrize(
    ("data", "defect"),
    [
        (b"", Defect.EMPTY),
        (b"hello", Defect.NOT_AN_IMAGE),
        (b"\xff\xd8\xff", Defect.NOT_AN_IMAGE),
        (b"PK\x03\x04" + b"\0" * 100, Defect.NOT_AN_IMAGE),
        (png_header(30_000, 30_000), Defect.TOO_LARGE),
        (png_header(100, 100), Defect.TRUNCATED),
    ],
)
def test_defects_are_told_apart(data: bytes, defect: Defect) -> None:
    with pytest.raises(PhotoError) as caught:
        decode_photo(data)
    assert caught.value.defect is defect


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_half_a_file_is_no_photo(form: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    data = encoded(noise, form)
    decode_photo(data)
    with pytest.raises(PhotoError):
        decode_photo(data[: len(data) // 2])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_bytes_raise_nothing_else(data: st.DataObject) -> None:
    whole = encoded(draw_car(0, 0), data.draw(st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])))
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(PhotoError):
        assert decode_photo(bytes(damaged)).mode == "RGB"


def test_missing_files_and_folders_are_told(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match="no such file"):
        read_photo(tmp_path / "none.jpg")
    with pytest.raises(PhotoError, match="folder"):
        read_photo(tmp_path)
    with pytest.raises(PhotoError, match="cannot be read"):
        read_photo("nul\0byte.jpg")


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")  # nobody writes into it: reading would wait for ever
    for path in (tmp_path / "pipe.jpg", Path("/dev/zero")):
        with pytest.raises(PhotoError, match="it is not a regular file"):
            read_photo(path)


def test_a_photo_that_grows_while_it_is_read_is_read_no_further_than_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twincar.core.photos.MAX_BYTES", 1000)
    path = tmp_path / "grows.jpg"
    path.write_bytes(bytes(1_000_000))
    true_size = os.fstat
    monkeypatch.setattr(
        os, "fstat", lambda number: os.stat_result((*true_size(number)[:6], 10, *true_size(number)[7:]))
    )
    with pytest.raises(PhotoError, match="it is larger") as refused:
        read_photo(path)
    assert refused.value.defect is Defect.TOO_LARGE


def test_arrays_are_checked() -> None:
    assert read_photo(np.zeros((4, 5, 3), np.uint8)).size == (5, 4)
    assert read_photo(np.zeros((4, 5), np.uint8)).mode == "RGB"
    with pytest.raises(PhotoError, match="float64"):
        read_photo(np.zeros((4, 5, 3)))  # type: ignore[arg-type]


def test_photos_are_in_batches_in_their_order() -> None:
    preprocessing, photos = Preprocessing(height=32, width=32), [draw_car(0, number) for number in range(7)]
    batches = list(iterate_batches(photos, preprocessing, batch_size=3))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(batches)[:, 0], [preprocessing(photo) for photo in photos])


def test_a_bad_photo_is_an_error_after_the_batches_before_it() -> None:
    photos = [encoded(draw_car(0, number)) for number in range(7)]
    photos[4] = b"bad"
    batches = iterate_batches(photos, Preprocessing(height=32, width=32), batch_size=3)
    assert len(next(batches)) == 3
    with pytest.raises(PhotoError, match="not an image"):
        next(batches)


def test_batches_look_ahead_a_little_only() -> None:
    asked = 0

    def photos():  # type: ignore[no-untyped-def]
        nonlocal asked
        for number in range(1000):
            asked += 1
            yield encoded(draw_car(0, number % 3))

    next(iter(iterate_batches(photos(), Preprocessing(height=32, width=32), batch_size=4)))
    assert asked <= 12


def test_photo_errors_survive_pickling() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(PhotoError(Defect.EMPTY, "nothing")))
    assert (error.defect, str(error)) == (Defect.EMPTY, "nothing")
