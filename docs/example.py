"""The examples of README and `docs/predict.md`: renews the answers of `predict` there, the picture that it draws, and
the heat map of `docs/explain.md`, after a change of model or detector.

    python docs/example.py

Given the folder with the drawings, it first draws the picture that comes with the package again:

    apt-get download openclipart-png && dpkg-deb --extract openclipart-png_*.deb openclipart
    python docs/example.py openclipart/usr/share/openclipart/png/transportation

The drawings are in the public domain: the Hummer is by the U.S. Army, the blue car by Jamin Ellis; their SVG files in
the package openclipart-svg state it.
"""

from __future__ import annotations

import os
import pty
import random
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

import twincar

ROOT = Path(__file__).resolve().parents[1]
README, PREDICT = ROOT / "README.md", ROOT / "docs" / "predict.md"
PICTURE = ROOT / "twincar" / "assets" / "two_cars.jpg"
COMMAND = ("predict", PICTURE.relative_to(ROOT).as_posix(), "--draw", "drawn")
ANSWERED = ROOT / "docs" / "images" / PICTURE.name
EXPLAINED = ANSWERED.with_stem(f"{PICTURE.stem}_explained")
FULL_PHOTOS = ROOT.parent / "shared" / "stanford_cars" / "full"
"""Photos of Stanford Cars, which may not be passed on; where they are missing, what is said of them stays."""
BLOCK = re.compile(r"(?<=^```text\n).*?(?=^```$)", re.DOTALL | re.MULTILINE)
SHOWN = re.compile(
    r"(?<=^```sh\n)(?P<command>twincar [^\n]+)\n```\n\n```text\n(?P<printed>.*?)(?=^```$)", re.DOTALL | re.M
)
"""A command and the text that it prints."""
CLOSING = re.compile(r"(?<=^```text\n)\d+ photos, .*?(?=^```$)", re.DOTALL | re.MULTILINE)
_ORIGIN = "Public domain: drawings of the Open Clip Art Library by the U.S. Army (Hummer) and Jamin Ellis (blue car)"
_COLUMNS = "80"
_MOST = 1 << 16  # bytes read from the terminal at once
_WIDTH, _HEIGHT = 960, 480
_LARGER = 2  # drawn at twice the size, then reduced, so that edges are smooth
_HORIZON, _KERB, _ROAD = 0.5, 0.62, 0.645  # shares of the height


def main(clipart: list[str]) -> None:
    """Renew README and the two pictures; before, the picture of the package if the drawings are there."""
    if clipart:
        _draw(Path(clipart[0]))
    with tempfile.TemporaryDirectory() as folder:
        text = answers(Path(folder) / "drawn")
        ANSWERED.write_bytes((Path(folder) / "drawn" / PICTURE.name).read_bytes())
    explained().save(EXPLAINED, quality=90, optimize=True, comment=_ORIGIN)
    README.write_text(BLOCK.sub(lambda _: text, README.read_text(encoding="utf-8"), count=1), encoding="utf-8")
    page = SHOWN.sub(lambda shown: f"{shown['command']}\n```\n\n```text\n{printed(shown['command'])}", _page())
    if FULL_PHOTOS.is_dir():
        page = CLOSING.sub(lambda _: closing_sentence(), page)
    PREDICT.write_text(page, encoding="utf-8")


def _page() -> str:
    return PREDICT.read_text(encoding="utf-8")


def printed(command: str) -> str:
    """What a command of `docs/predict.md` prints to standard output."""
    return _run(command).stdout


def closing_sentence() -> str:
    """What `predict` says in the end of photos of Stanford Cars."""
    said = _run(f"twincar predict {shlex.quote(str(FULL_PHOTOS))} --csv").stderr
    return said[re.search(r"^\d+ photos", said, re.MULTILINE).start() : said.index("Skipped")]


def _run(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *shlex.split(command)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )


def answers(drawn: Path) -> str:
    """What the command of README prints on a terminal without colours, while it draws its answers into a folder."""
    here, terminal = pty.openpty()
    command = [*COMMAND[:-1], str(drawn)]
    environment = {**os.environ, "TERM": "dumb", "COLUMNS": _COLUMNS, "PYTHONPATH": str(ROOT)}
    environment |= {"NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"}
    subprocess.run(
        [sys.executable, "-m", "twincar", *command],
        cwd=ROOT,
        env=environment,
        stdout=terminal,
        stderr=terminal,
        check=True,
    )
    os.close(terminal)
    printed = b""
    while chunk := _read(here):
        printed += chunk
    os.close(here)
    return "".join(f"{line.rstrip()}\n" for line in printed.decode().splitlines())


def explained() -> Image.Image:
    """What the bundled model's answer for the first car rests on."""
    return twincar.load().explain(PICTURE).overlay(PICTURE)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, _MOST)
    except OSError:  # how Linux says that the other end of a terminal is closed
        return b""


def _draw(clipart: Path) -> None:
    """Write the picture that comes with the package."""
    width, height = _WIDTH * _LARGER, _HEIGHT * _LARGER
    picture = _landscape(width, height)
    _put(picture, clipart / "car_jamin_ellis_.png", width=0.44, right=0.97, bottom=0.88)
    shadow = Image.new("L", picture.size)
    ImageDraw.Draw(shadow).ellipse((0.06 * width, 0.86 * height, 0.49 * width, 0.93 * height), fill=130)
    picture.paste((30, 30, 34), mask=shadow.filter(ImageFilter.GaussianBlur(14)))
    _put(picture, clipart / "hummer_03.png", width=0.45, right=0.5, bottom=0.91)
    picture.resize((_WIDTH, _HEIGHT), Image.Resampling.LANCZOS).save(
        PICTURE, quality=90, optimize=True, comment=_ORIGIN
    )


def _landscape(width: int, height: int) -> Image.Image:
    """Sky, hills, grass, kerb and road."""
    picture = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(picture)
    for y in range(height):
        share = y / height
        down = min(share / _HORIZON, 1)
        grey = int(104 - 50 * (share - _ROAD))
        sky = int(150 + 70 * down), int(190 + 40 * down), int(225 + 20 * down)
        bands = ((_HORIZON, sky), (_KERB, (118, 148, 92)), (_ROAD, (188, 186, 178)), (1.01, (grey, grey, grey + 3)))
        draw.line((0, y, width, y), fill=next(color for end, color in bands if share < end))
    chance = random.Random(4)
    for color, base, rise in (((122, 150, 140), 0.4, 0.1), ((96, 128, 98), 0.46, 0.07)):
        tops = [(x, int((base - rise * chance.random()) * height)) for x in range(0, width + 200, 190)]
        draw.polygon([(0, int(_HORIZON * height)), *tops, (width, int(_HORIZON * height))], fill=color)
    for x in range(-80, width, 300):
        draw.polygon([(x, 926), (x + 160, 926), (x + 144, 941), (x - 20, 941)], fill=(214, 210, 196))
    return picture.filter(ImageFilter.GaussianBlur(2))


def _put(picture: Image.Image, drawing: Path, *, width: float, right: float, bottom: float) -> None:
    """Put a drawing into the picture; its width and place are shares of the picture's sides."""
    car = Image.open(drawing).convert("RGBA")
    car = car.crop(car.getbbox())
    wide = round(width * picture.width)
    car = car.resize((wide, round(car.height * wide / car.width)), Image.Resampling.LANCZOS)
    picture.paste(car, (round(right * picture.width) - car.width, round(bottom * picture.height) - car.height), car)


if __name__ == "__main__":
    main(sys.argv[1:])
