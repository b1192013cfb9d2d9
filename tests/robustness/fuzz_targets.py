"""Every reader of a file or a request in TwinCar, as a function of bytes, with valid inputs as seeds.

A target returns, or raises an error of TwinCar's own tree; any other outcome is a fault. Side effects that must not
happen (a file opened outside the scratch folder, a network connection, a program started) are watched by `fuzz.py`.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from twincar.core.errors import DataError

Run = Callable[[bytes], None]
NAMES = ("BMW M3 Sedan 2012", "BMW M3 Coupe 2012", "Audi S4 Sedan 2012")
SIDE = 32  # pixels of the small models' input, and of photos
GIB = 2**30


@dataclass(frozen=True)
class Target:
    """One reader."""

    run: Run
    seeds: Sequence[bytes]
    """Sound inputs, and hand-made hostile ones."""
    mutator: Callable[[bytes, random.Random], bytes] | None = None
    """For inputs that changes to bytes would seldom get past the first check."""


@dataclass(frozen=True)
class Reader:
    """How a target is made, and how much of the fuzzing it gets."""

    make: Callable[[Path], Target]
    share: int
    """Of every hundred inputs, about."""
    memory: int = GIB
    """Bytes that no input may take beyond what the process held before."""


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """A picture as a file."""
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


@cache
def photos() -> tuple[bytes, ...]:
    """Small images in every format and mode, and with every peculiarity known to be decoded differently."""
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 255, (SIDE, SIDE + 16, 3), np.uint8)).resize((SIDE + 16, SIDE))
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a car" * 20
    gray16 = Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257)
    frames = [rgb, rgb.rotate(90), rgb.rotate(180)]
    return (
        encoded(rgb, "JPEG", quality=70),
        encoded(rgb, "JPEG", progressive=True, exif=exif),
        encoded(rgb.convert("CMYK"), "JPEG"),
        encoded(rgb.convert("L"), "JPEG", exif=exif),
        encoded(rgb, "PNG"),
        encoded(rgb.convert("P"), "PNG", transparency=3),
        encoded(gray16, "PNG"),
        encoded(rgb.convert("RGBA"), "PNG", exif=exif),
        encoded(rgb.convert("1"), "PNG"),
        encoded(rgb, "PNG", save_all=True, append_images=frames[1:]),
        encoded(rgb, "WEBP"),
        encoded(rgb, "WEBP", lossless=True),
        encoded(rgb, "WEBP", save_all=True, append_images=frames[1:]),
        encoded(rgb, "BMP"),
        encoded(rgb.convert("P"), "GIF", save_all=True, append_images=frames[1:]),
        encoded(rgb, "TIFF"),
        encoded(rgb, "TIFF", compression="tiff_lzw"),
        encoded(gray16, "TIFF"),
        encoded(rgb, "TIFF", compression="tiff_adobe_deflate", save_all=True, append_images=frames[1:]),
        encoded(rgb, "AVIF"),
    )


def photo(_: Path) -> Target:
    """What predict and the demo read."""
    from twincar.core.preprocess import Preprocessing, read_views

    preprocessing = Preprocessing(height=SIDE, width=SIDE)

    def run(data: bytes) -> None:
        views = read_views(data, preprocessing, tta=True)
        assert views.shape[1:] == (SIDE, SIDE, 3), views.shape
        assert views.dtype == np.uint8

    strips = [encoded(Image.new("L", size), "PNG") for size in ((1, 60_000), (60_000, 1), (3_000_000, 1))]
    return Target(run, [*photos(), *strips])


def training_photo(_: Path) -> Target:
    """What the training's loader reads."""
    from twincar.data.loading.decode import decode_reduced

    def run(data: bytes) -> None:
        pixels = decode_reduced(data, "the photo", 2.0)
        assert pixels.ndim == 3
        assert pixels.dtype == np.uint8

    return Target(run, photos())


def audited_photo(scratch: Path) -> Target:
    """What prepare and audit read."""
    from twincar.core.labels import ClassNames
    from twincar.data.sources import Source, SourceRow
    from twincar.data.validate import audit_source

    def run(data: bytes) -> None:
        rows = [SourceRow(name="a.jpg", label=0, split="train", photo=data)]
        source = Source(
            description="",
            revision="",
            classes=ClassNames(NAMES),
            fingerprint="",
            total=1,
            rows=lambda: rows,
            photo_root=None,
        )
        report = audit_source(source, keep_in=scratch / "kept", threads=1)
        if report.findings:
            raise DataError(report.findings[0].detail)

    return Target(run, photos())


def devkit(scratch: Path) -> Target:
    """The MATLAB files of the original release."""
    from scipy.io import savemat

    from twincar.data.sources import open_source

    def as_mat(content: dict[str, object], **options: object) -> bytes:
        data = io.BytesIO()
        savemat(data, content, **options)
        return data.getvalue()

    def annotations(names: Sequence[str], **options: object) -> bytes:
        kinds = [(f"bbox_{side}", "O") for side in ("x1", "y1", "x2", "y2")] + [("class", "O"), ("fname", "O")]
        rows = [(1, 1, 20, 20, place % 3 + 1, name) for place, name in enumerate(names)]
        return as_mat({"annotations": np.array([rows], np.dtype(kinds))}, **options)

    folder = scratch / "devkit"
    (folder / "cars_train").mkdir(parents=True)
    for number in range(3):
        (folder / "cars_train" / f"{number}.jpg").write_bytes(photos()[0])
    meta = as_mat({"class_names": np.array([NAMES], dtype=object)})
    sound = annotations(["0.jpg", "1.jpg", "2.jpg"])
    outside = annotations([str(scratch / "secret.jpg"), "../../secret.jpg", "/etc/passwd", "a\0b"])
    squeezed = annotations(["0.jpg", "1.jpg", "2.jpg"], do_compression=True)
    old = as_mat({"class_names": np.array(["a", "b"])}, format="4")

    def run(data: bytes) -> None:
        of_meta, content = data[:1] == b"m", data[1:]
        (folder / "cars_meta.mat").write_bytes(content if of_meta else meta)
        (folder / "cars_train_annos.mat").write_bytes(sound if of_meta else content)
        look_at(open_source(str(folder)))

    return Target(run, [b"m" + meta, b"m" + old, b"a" + sound, b"a" + outside, b"a" + squeezed])


def look_at(source: object) -> None:
    """Audit all that a source lists; refused if nothing in it is valid."""
    from twincar.data.validate import audit_source

    report = audit_source(source, threads=1)  # type: ignore[arg-type]
    if not report.valid:
        raise DataError("nothing is sound")


def table(scratch: Path) -> Target:
    """A CSV file of photos."""
    from twincar.data.sources import open_source

    folder = scratch / "table"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(photos()[0])
    (folder / "b.jpg").write_bytes(photos()[0])
    path = folder / "labels.csv"

    def run(data: bytes) -> None:
        path.write_bytes(data)
        look_at(open_source(str(path)))

    rows = f"a.jpg,{NAMES[0]},train,0,0,9,9\nb.jpg,{NAMES[0]},test,1,1,20,20.5\n"
    sound = f"filename,label,split,x1,y1,x2,y2\n{rows}"
    outside = "\n".join(
        [
            "filename,label",
            *(
                f"{name},A 2012"
                for name in (
                    scratch / "secret.jpg",
                    "../secret.jpg",
                    "..\\secret.jpg",
                    "/etc/passwd",
                    "http://127.0.0.1:9/a.jpg",
                    "~/a.jpg",
                )
            ),
        ]
    )
    return Target(run, [sound.encode(), outside.encode(), b'filename,label\n\xef\xbb\xbfa.jpg,"A"\n'])


def class_list(scratch: Path) -> Target:
    """Class names as text, JSON or MATLAB."""
    from scipy.io import savemat

    from twincar.data.sources import read_class_file

    kinds = {b"t": ".txt", b"j": ".json", b"m": ".mat"}
    mat = io.BytesIO()
    savemat(mat, {"class_names": np.array([NAMES], dtype=object)})

    def run(data: bytes) -> None:
        path = scratch / f"classes{kinds.get(data[:1], '.txt')}"
        path.write_bytes(data[1:])
        classes = read_class_file(path)
        assert [classes.index(name) for name in classes.names] == list(range(len(classes)))
        assert json.dumps(classes.to_rows())

    rows = json.dumps([{"index": place, "name": name} for place, name in enumerate(NAMES)]).encode()
    return Target(
        run, [b"t" + "\n".join(NAMES).encode(), b"j" + rows, b"j" + json.dumps(NAMES).encode(), b"m" + mat.getvalue()]
    )


def parquet(scratch: Path) -> Target:
    """Files of a hub data set."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from twincar.data.sources import open_source
    from twincar.data.validate import audit_source

    folder = scratch / "parquet"
    folder.mkdir()
    path = folder / "train-00000-of-00001.parquet"

    def made(paths: Sequence[str], **options: object) -> bytes:
        cells = [{"bytes": photos()[0], "path": name} for name in paths]
        names = json.dumps({"info": {"features": {"label": {"names": NAMES}}}})
        content = pa.table({"image": cells, "label": [place % 3 for place in range(len(cells))]})
        data = io.BytesIO()
        pq.write_table(content.replace_schema_metadata({"huggingface": names}), data, **options)
        return data.getvalue()

    def run(data: bytes) -> None:
        path.write_bytes(data)
        report = audit_source(open_source(str(folder)), keep_in=scratch / "kept", threads=1)
        if not report.valid:
            raise DataError("nothing is sound")

    outside = made(["../../../secret.jpg", "/etc/passwd", "a/../../b", "..", "c\0d.jpg"])
    return Target(
        run,
        [
            made(["a.jpg", "b.jpg"]),
            made(["a.jpg"], compression="none", use_dictionary=False),
            made(["a.jpg", "b.jpg"], compression="zstd"),
            outside,
        ],
    )


def config(scratch: Path) -> Target:
    """A YAML file of settings."""
    from twincar.core.config import TrainConfig

    path = scratch / "config.yaml"

    def run(data: bytes) -> None:
        path.write_bytes(data)
        made = TrainConfig.resolve(yaml_file=path)
        path.write_text(made.to_yaml(), encoding="utf-8")
        assert TrainConfig.resolve(yaml_file=path) == made

    laughs = "a0: &a0 [lol, lol]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    merges = "a0: &a0 {x: 1}\n" + "".join(
        f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 12)
    )
    hostile = [
        "!!python/object/apply:os.system ['touch canary']",
        "[" * 5000,
        "a: " * 3000,
        "recipe: [1]",
        "epochs: 1e999",
        "seed: " + "9" * 6000,
        "a: 2024-99-99",
        "1: 2",
        laughs,
        merges,
        "augment: &a {flip: *a}",
    ]
    return Target(
        run, [TrainConfig().to_yaml().encode(), b"recipe: toycars\nepochs: 3\n", *(text.encode() for text in hostile)]
    )


def settings(_: Path) -> Target:
    """Settings of the command line."""
    from twincar.core.config import TrainConfig, parse_settings

    def run(data: bytes) -> None:
        words = data.decode("utf-8", "surrogateescape").split("\x1f")  # as a command line brings them
        TrainConfig.resolve(flags=parse_settings(words))

    return Target(
        run,
        [
            b"ema_decay=0.99\x1faugment.flip=0",
            b"epochs=3",
            b"augment={flip: 0}",
            b"augment.crop_scale=[0.5, 1]",
            b"a" + b".a" * 3000 + b"=1",
            b"epochs=" + b"[" * 3000,
            b"recipe=[1]",
            b"seed=" + b"9" * 6000,
        ],
    )


def exclusions(scratch: Path) -> Target:
    """A list of photos to leave out."""
    from twincar.data.exclusions import read_exclusions

    path = scratch / "findings.csv"

    def run(data: bytes) -> None:
        path.write_bytes(data)
        read_exclusions(path)

    return Target(run, [b"file,action,reason,detail\na.jpg,exclude,twin,of b\nb.jpg,look,,\n", b"file\na.jpg\n"])


def open_set(scratch: Path) -> Target:
    """A split into known and unseen classes."""
    from twincar.core.labels import ClassNames
    from twincar.data.open_set_split import read_open_set

    path = scratch / "split.json"

    def run(data: bytes) -> None:
        path.write_bytes(data)
        split = read_open_set(path, ClassNames(NAMES))
        assert not any("/" in difficulty or "\\" in difficulty for difficulty in split.unseen.values())

    return Target(
        run,
        [
            json.dumps({"known_classes": [0, NAMES[1]], "unknown_classes": {"Hard": [2]}}).encode(),
            b'{"known_classes": [0], "unknown_classes": {"../../x": [1]}}',
        ],
    )


READERS: dict[str, Reader] = {
    "photo": Reader(photo, 14, 3 * GIB),
    "training photo": Reader(training_photo, 7, 3 * GIB),
    "audited photo": Reader(audited_photo, 5, 3 * GIB),
    "devkit (.mat)": Reader(devkit, 5),
    "table (.csv)": Reader(table, 6),
    "class list": Reader(class_list, 5),
    "parquet": Reader(parquet, 4),
    "config (.yaml)": Reader(config, 7),
    "settings": Reader(settings, 5),
    "exclusions (.csv)": Reader(exclusions, 4),
    "open set (.json)": Reader(open_set, 4),
}
