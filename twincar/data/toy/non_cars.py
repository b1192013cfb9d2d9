"""Draw far-OOD images, to measure whether a model rejects them: noise, text, plain colours, scenes. Torch-free.

Each image has its own random stream, so it does not depend on the number or order of the others. H×W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from twincar.data.toy.cars import draw_empty_scene
from twincar.data.toy.shapes import Color, shaded

WIDTH, HEIGHT = 256, 192
"""Size of every image, pixels; a scene without a car has the size of a toy photo."""
_CONSONANTS, _VOWELS = list("bcdfghjklmnprstvwz"), list("aeiou")
_PAPERS: tuple[tuple[Color, Color], ...] = (
    ((252, 252, 248), (24, 24, 28)),
    ((244, 236, 214), (70, 50, 36)),
    ((28, 32, 40), (214, 222, 226)),
    ((226, 238, 250), (30, 60, 140)),
)
"""The colours of papers and of the ink on each, RGB."""


def non_car_images(count: int, seed: int = 0) -> Iterator[tuple[str, Image.Image]]:
    """Draw `count` RGB images without a car, each with its kind, a key of `KINDS`; the kinds alternate.

    The same seed gives the same images, and a larger count begins with the images of a smaller one.
    """
    for number in range(count):
        kind = list(KINDS)[number % len(KINDS)]
        yield kind, KINDS[kind](np.random.default_rng((seed, number)))


def _noise(rng: np.random.Generator) -> Image.Image:
    """Noise of different cell sizes, coloured or gray, sometimes black and white or in blocks."""
    channels = rng.choice([1, 3])
    cell = int(rng.choice([1, 1, 2, 8, 32]))
    grain = rng.normal(128, rng.uniform(20, 90), (HEIGHT // cell, WIDTH // cell, channels))
    if rng.random() < 0.2:
        grain = np.where(grain > 128, 255, 0)
    pixels = np.broadcast_to(grain, (*grain.shape[:2], 3)).clip(0, 255).astype(np.uint8)
    way = Image.Resampling.NEAREST if rng.random() < 0.5 else Image.Resampling.BICUBIC
    return Image.fromarray(pixels).resize((WIDTH, HEIGHT), way)


def _text(rng: np.random.Generator) -> Image.Image:
    """A page of invented words, sometimes with a heading or rows of numbers."""
    paper, ink = _PAPERS[rng.integers(len(_PAPERS))]
    image = Image.new("RGB", (WIDTH, HEIGHT), paper)
    draw, size = ImageDraw.Draw(image), int(rng.integers(8, 22))
    font, row, margin = ImageFont.load_default(size), int(rng.integers(4, 16)), int(rng.integers(6, 24))
    if rng.random() < 0.5:
        draw.text((margin, row), _words(rng, 2).title(), fill=ink, font=ImageFont.load_default(2 * size))
        row += 3 * size
    while row < HEIGHT - size:
        line = " ".join(map(str, rng.integers(0, 9999, 20))) if rng.random() < 0.15 else _words(rng, 20)
        room = (WIDTH - 2 * margin) * rng.uniform(0.8, 1.0)
        while draw.textlength(line, font) > room:
            line = line.rpartition(" ")[0]
        draw.text((margin, row), line, fill=ink, font=font)
        row += round(1.4 * size)
    return image


def _words(rng: np.random.Generator, count: int) -> str:
    def word() -> str:
        syllables = rng.integers(1, 4)
        return "".join(rng.choice(_CONSONANTS) + rng.choice(_VOWELS) for _ in range(syllables))

    return " ".join(word() for _ in range(count))


def _plain(rng: np.random.Generator) -> Image.Image:
    """A single colour, or a gradient of two to four colours."""
    corners = rng.integers(0, 256, (2, 2, 3))
    if rng.random() < 0.4:
        corners[:] = corners[0, 0]
    elif rng.random() < 0.5:
        corners[:, 1] = corners[:, 0]
    down, right = np.linspace(0, 1, HEIGHT)[:, None, None], np.linspace(0, 1, WIDTH)[None, :, None]
    upper, lower = (row[0] * (1 - right) + row[1] * right for row in corners)
    return Image.fromarray((upper * (1 - down) + lower * down).astype(np.uint8))


def _scene(rng: np.random.Generator) -> Image.Image:
    """A scene without a car, a room, or a picture of plain shapes."""
    return (draw_empty_scene, _room, _shapes)[rng.integers(3)](rng)


def _room(rng: np.random.Generator) -> Image.Image:
    """A wall and a floor with a window, a picture, a table and a lamp."""
    wall, floor, wood = (_color(rng, low, high) for low, high in ((150, 240), (80, 180), (60, 150)))
    image = Image.new("RGB", (WIDTH, HEIGHT), wall)
    draw, skirting = ImageDraw.Draw(image), int(rng.uniform(0.6, 0.8) * HEIGHT)
    draw.rectangle((0, skirting, WIDTH, HEIGHT), fill=floor)
    for x in range(int(rng.integers(-40, 0)), WIDTH, 36):  # boards, towards a point on the wall
        draw.line((x, HEIGHT, WIDTH / 2 + 0.6 * (x - WIDTH / 2), skirting), fill=shaded(floor, 0.85), width=2)
    for left in (int(rng.integers(8, 40)), int(rng.integers(150, 190))):
        width, height, top = int(rng.integers(36, 60)), int(rng.integers(36, 70)), int(rng.integers(10, 40))
        draw.rectangle((left, top, left + width, top + height), fill=_color(rng, 90, 255), outline=wood, width=4)
        if rng.random() < 0.5:
            draw.line((left + width / 2, top, left + width / 2, top + height), fill=wood, width=3)
            draw.line((left, top + height / 2, left + width, top + height / 2), fill=wood, width=3)
    left, right, top = (
        int(rng.integers(20, 70)),
        int(rng.integers(160, 230)),
        int(rng.integers(skirting - 40, skirting)),
    )
    for x in (left + 6, right - 14):
        draw.rectangle((x, top, x + 8, HEIGHT - 12), fill=shaded(wood, 0.7))
    draw.rectangle((left, top, right, top + 9), fill=wood)
    lamp, shade = int(rng.integers(left + 20, right - 20)), _color(rng, 150, 255)
    draw.rectangle((lamp - 2, top - 40, lamp + 2, top), fill=shaded(wood, 0.6))
    draw.polygon((lamp - 18, top - 34, lamp + 18, top - 34, lamp + 9, top - 62, lamp - 9, top - 62), fill=shade)
    return image


def _shapes(rng: np.random.Generator) -> Image.Image:
    """Rectangles, ellipses and triangles strewn over a plain ground."""
    image = Image.new("RGB", (WIDTH, HEIGHT), _color(rng, 0, 256))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(4, 16)):
        x, y = rng.uniform((0, 0), (WIDTH, HEIGHT))
        wide, high = rng.uniform(8, 70, 2)
        color = _color(rng, 0, 256)
        if rng.random() < 1 / 3:
            draw.polygon((x, y - high, x + wide, y + high, x - wide, y + high), fill=color)
        elif rng.random() < 1 / 2:
            draw.rectangle((x - wide, y - high, x + wide, y + high), fill=color)
        else:
            draw.ellipse((x - wide, y - high, x + wide, y + high), fill=color)
    return image


def _color(rng: np.random.Generator, low: int, high: int) -> Color:
    red, green, blue = rng.integers(low, high, 3).tolist()
    return red, green, blue


KINDS: Mapping[str, Callable[[np.random.Generator], Image.Image]] = MappingProxyType(
    {"noise": _noise, "text": _text, "plain": _plain, "scene": _scene}
)
"""The kinds of images and the functions that draw them."""
