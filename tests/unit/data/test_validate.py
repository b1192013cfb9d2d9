from __future__ import annotations

import csv
import io
import json
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from conftest import draw_car, encoded
from PIL import Image

from twincar.core.errors import Defect
from twincar.core.files import sha256_of
from twincar.core.labels import ClassNames
from twincar.data import validate as audit
from twincar.data.sources import Source, SourceRow, open_source
from twincar.data.validate import AuditReport, audit_source

CLASSES = ClassNames(("A", "B"))


PHOTO = draw_car(0, 0)
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8))
WHOLE = encoded(PHOTO)
CUT = WHOLE[: len(WHOLE) // 2]
END = b"\xff\xd9"


def row(photo: bytes | Path, name: str = "train/A/1.jpg", **values: object) -> SourceRow:
    return SourceRow(**{"name": name, "label": 0, "split": "train", "photo": photo, **values})  # type: ignore[arg-type]


def audit_rows(*rows: SourceRow, **options: object) -> AuditReport:
    source = Source(
        description="",
        revision="",
        classes=CLASSES,
        fingerprint="",
        total=len(rows),
        rows=lambda: rows,
        photo_root=None,
    )
    return audit_source(source, **options)  # type: ignore[arg-type]


def bomb() -> bytes:
    """A PNG of few bytes and 169 megapixels."""
    return encoded(Image.new("1", (13_000, 13_000)), "PNG")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("photo", "defect"),
    [
        (b"", Defect.EMPTY),
        (CUT, Defect.TRUNCATED),
        (CUT + END, Defect.TRUNCATED),
        (encoded(NOISE, progressive=True)[:3000] + END, Defect.TRUNCATED),
        (encoded(NOISE.convert("CMYK"))[:3000] + END, Defect.TRUNCATED),
        (encoded(NOISE, "PNG")[:-500], Defect.TRUNCATED),
        (b"<html>no such photo</html>", Defect.NOT_AN_IMAGE),
        (bomb(), Defect.TOO_LARGE),
        (encoded(Image.new("RGB", (60, 15))), Defect.TOO_SMALL),
        (encoded(Image.new("RGB", (16, 97))), Defect.ODD_SHAPE),
    ],
)
def test_each_defect_of_a_photo(photo: bytes, defect: Defect) -> None:
    report = audit_rows(row(photo))
    assert report.valid == ()
    assert report.counts() == {defect: 1}
    (found,) = report.rows()
    assert (found["file"], found["defect"]) == ("train/A/1.jpg", str(defect))
    assert found["detail"].startswith("Expected ")


def test_pillow_alone_would_take_a_cut_jpeg_for_whole() -> None:
    Image.open(io.BytesIO(CUT + END)).load()


@pytest.mark.parametrize(
    "photo",
    [
        WHOLE,
        WHOLE + b"what some cameras append",
        encoded(PHOTO, progressive=True),
        encoded(PHOTO.convert("L")),
        encoded(PHOTO.convert("CMYK")),
        encoded(PHOTO.convert("P"), "PNG"),
        encoded(PHOTO, "WEBP"),
        encoded(Image.new("RGB", (16, 96))),
    ],
)
def test_photos_that_are_sound(photo: bytes) -> None:
    report = audit_rows(row(photo))
    assert report.findings == ()
    assert report.valid[0].sha256 == sha256_of(photo)


def test_jpegs_that_the_strict_decoder_cannot_do_are_left_to_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "twincar.core.photo_formats.simplejpeg.decode_jpeg", Mock(side_effect=ValueError("unsupported"))
    )
    assert audit_rows(row(WHOLE)).findings == ()


def test_size_and_box_are_those_of_the_upright_photo() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    (photo,) = audit_rows(row(encoded(PHOTO, exif=exif), box=(-3, 10, 70, 90))).valid
    assert PHOTO.size == (96, 64)
    assert (photo.width, photo.height) == (64, 96)
    assert photo.box == (0, 10, 64, 90)
    assert audit_rows(row(WHOLE, box=(96, 0, 99, 9))).valid[0].box is None


def test_each_defect_of_a_row(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(WHOLE)
    (tmp_path / "folder").mkdir()
    outside = [
        row(tmp_path / "1.jpg", name) for name in ("../1.jpg", "a/../../1.jpg", str(tmp_path / "1.jpg"), "C:/1.jpg")
    ]
    unknown = [
        row(tmp_path / "1.jpg", "2.jpg", label=label, split=split) for label, split in [("C", "test"), ("", "val")]
    ]
    report = audit_rows(
        *outside,
        *unknown[:1],
        row(tmp_path / "1.jpg", "3.jpg", label=None),
        row(tmp_path / "gone.jpg", "gone.jpg"),
        row(tmp_path / "folder", "folder"),
        row(tmp_path, ""),
        row(tmp_path, ""),
    )
    assert report.valid == ()
    assert report.counts() == {
        Defect.OUTSIDE: 4,
        Defect.MISSING: 3,
        Defect.UNKNOWN_LABEL: 2,
        Defect.NOT_AN_IMAGE: 1,
    }
    assert list(report.counts()) == [Defect.OUTSIDE, Defect.MISSING, Defect.UNKNOWN_LABEL, Defect.NOT_AN_IMAGE]


def test_a_test_half_without_labels_is_sound() -> None:
    assert audit_rows(row(WHOLE, label=None, split="test")).valid[0].label is None


def test_of_a_repeated_row_the_first_stays() -> None:
    report = audit_rows(row(WHOLE), row(WHOLE, "été.jpg"), row(WHOLE), row(WHOLE, "été.jpg"))
    assert [photo.file for photo in report.valid] == ["train/A/1.jpg", "été.jpg"]
    assert report.counts() == {Defect.REPEATED: 2}


def test_of_a_file_with_two_labels_nothing_stays() -> None:
    report = audit_rows(row(WHOLE), row(WHOLE, label=1), row(WHOLE), row(WHOLE, "2.jpg"))
    assert [photo.file for photo in report.valid] == ["2.jpg"]
    assert report.counts() == {Defect.REPEATED: 3}
    assert "'A', 'B'" in report.findings[0].detail


def test_a_row_without_a_label_contradicts_nothing() -> None:
    report = audit_rows(row(WHOLE, label=""), row(WHOLE, "2.jpg"))
    assert [photo.file for photo in report.valid] == ["2.jpg"]
    report = audit_rows(row(WHOLE), row(WHOLE, label=""))
    assert (len(report.valid), report.counts()) == (1, {Defect.REPEATED: 1})


def test_photos_are_told_in_order_and_the_valid_ones_kept(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    photos = [encoded(draw_car(0, number)) for number in range(20)]
    photos[3] = b""
    rows = [row(photo, f"{number}.jpg") for number, photo in enumerate(photos)]
    audit_rows(
        *rows,
        on_photo=lambda done, total: told.append((done, total)),
        keep_in=tmp_path,
        threads=3,
    )
    assert told == [(number + 1, 20) for number in range(20)]
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert kept == {f"{number}.jpg": photo for number, photo in enumerate(photos) if number != 3}


def test_rows_are_read_no_further_than_a_few_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    read, done = [0], [0]

    def rows() -> Iterator[SourceRow]:
        for number in range(60):
            read[0] += 1
            assert read[0] - done[0] <= 12
            yield row(WHOLE, f"{number}.jpg")

    def slow(photo: SourceRow, **_: object) -> tuple[audit.Finding, list[object]]:
        time.sleep(0.001)
        return audit.Finding(photo.name, Defect.EMPTY, ""), []

    monkeypatch.setattr(audit, "_check", slow)
    source = Source(description="", revision="", classes=CLASSES, fingerprint="", total=60, rows=rows, photo_root=None)
    audit_source(source, on_photo=lambda count, _: done.__setitem__(0, count))
    assert done == [60]


def test_memory_holds_rows_not_photos() -> None:
    """Sixty photos of 200 kB, 12 MB in all, of which a few at a time are in memory."""

    def rows() -> Iterator[SourceRow]:
        for number in range(60):
            yield row(WHOLE + number.to_bytes(200_000), f"{number}.jpg")

    source = Source(description="", revision="", classes=CLASSES, fingerprint="", total=60, rows=rows, photo_root=None)
    tracemalloc.start()
    try:
        assert len(audit_source(source).valid) == 60
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6e6


def test_an_interrupt_passes_through_and_leaves_no_thread() -> None:
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        audit_rows(*(row(WHOLE, f"{number}.jpg") for number in range(40)), on_photo=Mock(side_effect=KeyboardInterrupt))
    assert threading.active_count() == before


def test_real_messy_photos(real_photos: Path) -> None:
    truth = json.loads((real_photos / "messy" / "truth.json").read_text())
    expected = {
        "truncated": Defect.TRUNCATED,
        "empty": Defect.EMPTY,
        "not_an_image": Defect.NOT_AN_IMAGE,
        "missing_file": Defect.MISSING,
        "outside_root": Defect.OUTSIDE,
        "unknown_label": Defect.UNKNOWN_LABEL,
        "repeated_row": Defect.REPEATED,
        "decompression_bomb": Defect.TOO_LARGE,
        "tiny": Defect.TOO_SMALL,
    }
    report = audit_source(open_source(str(real_photos / "messy")))
    assert {(found.file, found.defect) for found in report.findings} == {
        (entry["file"], defect) for kind, defect in expected.items() for entry in truth[kind]
    }
    with (real_photos / "messy" / "annotations.csv").open(encoding="utf-8", newline="") as file:
        assert len(report.valid) + len(report.findings) == len(list(csv.DictReader(file)))


def test_real_photos_have_no_defect(real_photos: Path) -> None:
    report = audit_source(open_source(str(real_photos / "devkit_sample")))
    assert report.findings == ()
    assert len(report.valid) == 784
    assert np.mean([photo.box == (0, 0, photo.width, photo.height) for photo in report.valid]) == 1
