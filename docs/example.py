"""Draws the picture that comes with the package, from two drawings of the Open Clip Art Library in the public domain.

    apt-get download openclipart-png && dpkg-deb --extract openclipart-png_*.deb openclipart
    python docs/example.py openclipart/usr/share/openclipart/png/transportation

The Hummer is by the U.S. Army, the blue car by Jamin Ellis; their SVG files carry the dedication.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

import twincar

PICTURE = Path(twincar.__file__).with_name("assets") / "two_cars.jpg"
_WIDTH, _HEIGHT = 960, 480
_LARGER = 2  # drawn at twice the size, then reduced, so that edges are smooth
_HORIZON, _KERB, _ROAD = 0.5, 0.62, 0.645  # shares of the height


def main(clipart: Path) -> None:
    """Write the picture."""
    width, height = _WIDTH * _LARGER, _HEIGHT * _LARGER
    picture = _landscape(width, height)
    _put(picture, clipart / "car_jamin_ellis_.png", width=0.44, right=0.97, bottom=0.88)
    shadow = Image.new("L", picture.size)
    ImageDraw.Draw(shadow).ellipse((0.06 * width, 0.86 * height, 0.49 * width, 0.93 * height), fill=130)
    picture.paste((30, 30, 34), mask=shadow.filter(ImageFilter.GaussianBlur(14)))
    _put(picture, clipart / "hummer_03.png", width=0.45, right=0.5, bottom=0.91)
    picture.resize((_WIDTH, _HEIGHT), Image.Resampling.LANCZOS).save(PICTURE, quality=90, optimize=True)


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
    main(Path(sys.argv[1]))
