"""The scene around a toy car: sky, horizon, road, and sometimes an obstacle before the car. Torch-free."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from twincar.data.toy.faces import project
from twincar.data.toy.shapes import Array, Color, disc, shaded

SUPERSAMPLING = 3
"""Factor by which photos are drawn larger and then reduced, for smooth edges."""
PAINTS = np.array([
    (206, 40, 44), (38, 84, 168), (236, 236, 232), (176, 182, 190), (58, 62, 70), (34, 110, 92),
    (240, 178, 44), (232, 112, 44), (112, 178, 214), (124, 42, 66), (206, 192, 160), (92, 150, 82),
])  # fmt: skip
"""Colours of cars and coats."""


class _Skyline:
    """Draws objects on the horizon, in pixels along it and above it."""

    def __init__(self, image: Image.Image, camera: Array) -> None:
        self.draw, self.width = ImageDraw.Draw(image), image.width
        east, north = -camera[2, :2]
        far = np.array([[-east - north, east - north, 0.0], [north - east, -east - north, 0.0]]) @ camera[:, :3].T
        (x0, y0), (x1, y1) = far[:, :2] / far[:, 2:]
        self.slope = (y1 - y0) / (x1 - x0)
        self.row = y0 - self.slope * x0  # of the horizon at the left edge

    def at(self, x: float, up: float) -> tuple[float, float]:
        return x, self.row + self.slope * x - up

    def fill(self, color: Color, *points: tuple[float, float]) -> None:
        self.draw.polygon([number for point in points for number in self.at(*point)], fill=color)

    def block(self, color: Color, left: float, low: float, right: float, high: float) -> None:
        self.fill(color, (left, low), (right, low), (right, high), (left, high))

    def ball(self, color: Color, x: float, up: float, radius: float) -> None:
        column, row = self.at(x, up)
        self.draw.ellipse((column - radius, row - radius, column + radius, row + radius), fill=color)


def _houses(rng: np.random.Generator, sky: _Skyline) -> None:
    walls = ((196, 170, 146), (170, 150, 140), (206, 200, 186), (160, 166, 176))
    x = -rng.uniform(0, 60)
    while x < sky.width:
        wide, high = rng.uniform(70, 150), rng.uniform(60, 190)
        sky.block(shaded(walls[rng.integers(4)], rng.uniform(0.8, 1.1)), x, -4, x + wide, high)
        if high < 110:
            sky.fill((138, 82, 70), (x - 6, high), (x + wide + 6, high), (x + wide / 2, high + 40))
        pane = shaded((92, 108, 124), rng.uniform(0.7, 1.5))
        for up in np.arange(18, high - 24, 34):
            for left in np.arange(x + 14, x + wide - 20, 30):
                sky.block(pane, left, up, left + 14, up + 20)
        x += wide + rng.choice([0, 0, 20])


def _trees(rng: np.random.Generator, sky: _Skyline) -> None:
    x = -rng.uniform(0, 40)
    while x < sky.width + 40:
        size, trunk, leaf = rng.uniform(24, 52), rng.uniform(6, 30), rng.uniform(0.7, 1.25)
        sky.block((96, 74, 56), x - 5, -8, x + 5, trunk + size)
        for aside, up, radius, light in (
            (-0.5, 0.8, 0.8, 0.85),
            (0.5, 0.9, 0.8, 0.92),
            (0, 1.3, 0.9, 1),
            (-0.2, 1.6, 0.55, 1.1),
        ):
            sky.ball(shaded((74, 120, 66), leaf * light), x + aside * size, trunk + up * size, radius * size)
        x += rng.uniform(30, 130)


def _hills(rng: np.random.Generator, sky: _Skyline) -> None:
    x = np.linspace(0, sky.width, 24)
    for height, color in ((110, (150, 172, 190)), (60, (126, 158, 130)), (26, (112, 146, 92))):
        wave = np.sin(x / rng.uniform(50, 110) + rng.uniform(0, 6)) + 0.6 * np.sin(x / 31 + rng.uniform(0, 6))
        ridge = zip(x.tolist(), (height * (0.6 + 0.25 * wave)).tolist(), strict=True)
        sky.fill(color, (0, -3), *ridge, (sky.width, -3))


def _sea(rng: np.random.Generator, sky: _Skyline) -> None:
    sky.block((64, 130, 168), 0, -10, sky.width, 14)
    x = rng.uniform(0.1, 0.9) * sky.width
    sky.fill((246, 244, 238), (x, 8), (x + 30, 14), (x, 70))
    sky.fill((170, 60, 50), (x - 16, 10), (x + 34, 10), (x + 24, 2), (x - 8, 2))


def _studio(rng: np.random.Generator, sky: _Skyline) -> None:
    sky.block(shaded((168, 168, 172), rng.uniform(0.8, 1.1)), 0, -2, sky.width, 3)


@dataclass(frozen=True, kw_only=True)
class _Scene:
    skyline: Callable[[np.random.Generator, _Skyline], None]
    verge: Color
    road: Color
    zenith: Color = (104, 164, 222)
    haze: Color = (214, 230, 240)


_SCENES = (
    _Scene(skyline=_houses, verge=(176, 172, 166), road=(104, 106, 112)),
    _Scene(skyline=_trees, verge=(122, 160, 86), road=(112, 112, 116)),
    _Scene(skyline=_hills, verge=(140, 168, 96), road=(124, 120, 114)),
    _Scene(skyline=_sea, verge=(222, 204, 160), road=(126, 124, 122)),
    _Scene(skyline=_studio, verge=(206, 206, 210), road=(194, 194, 198), zenith=(196, 196, 202), haze=(232, 232, 236)),
)


def draw_scene(rng: np.random.Generator, image: Image.Image, camera: Array) -> Color:
    """Draw the background of the car, and return the colour of the ground."""
    scene = _SCENES[rng.integers(len(_SCENES))]
    verge, road = shaded(scene.verge, rng.uniform(0.85, 1.1)), shaded(scene.road, rng.uniform(0.8, 1.15))
    sky, width, height = _Skyline(image, camera), image.width, image.height
    lowest = int(max(sky.at(0, 0)[1], sky.at(width, 0)[1]))  # row of the skyline
    rows = np.linspace(scene.zenith, scene.haze, max(2, lowest)) * rng.uniform(0.9, 1.03)
    air = Image.fromarray(rows.astype(np.uint8)[:, None]).resize((width, len(rows)), Image.Resampling.NEAREST)
    image.paste(air)
    sky.fill(verge, (0, 0), (width, 0), (width, -2 * height), (0, -2 * height))
    # The road runs along the car: its kerb and its white line are edges that cross the photo.
    for y, color in ((-1.75, shaded(road, 1.3)), (-1.6, road), (1.75, shaded(road, 1.45)), (1.9, road)):
        (x0, y0), (x1, y1) = project(camera, np.array([[-1.0, y, 0.0], [1.0, y, 0.0]]))
        slope = (y1 - y0) / (x1 - x0)
        edge = (0, y0 - slope * x0, width, y0 + slope * (width - x0))
        sky.draw.polygon((*edge, width, 2 * height, 0, 2 * height), fill=color)
    scene.skyline(rng, sky)
    return road


def draw_obstacle(rng: np.random.Generator, box: tuple[int, int, int, int]) -> list[tuple[Array, Color]]:
    """Sometimes a pole, a bush or a pedestrian before the car: polygons in pixels of the drawing."""
    kind = rng.integers(20)
    x, foot = SUPERSAMPLING * rng.uniform(box[0], box[2]), SUPERSAMPLING * (box[3] + rng.uniform(0, 6))
    unit = SUPERSAMPLING * (box[2] - box[0]) / 40
    if kind == 0:
        post = np.array([(0.0, -99.0), (1.0, -99.0), (1.0, 0.0), (0.0, 0.0)])
        return [(post * unit + (x, foot), shaded((110, 112, 116), rng.uniform(0.6, 1.3)))]
    if kind == 1:
        leaves = rng.uniform(-1, 1, (14, 2)) * (4 * unit, 2 * unit) + (x, foot - unit)
        greens = [shaded((70, 112, 58), light) for light in np.linspace(0.7, 1.4, len(leaves))]
        return [(disc(1.6 * unit, corners=10) + leaf, green) for leaf, green in zip(leaves, greens, strict=True)]
    if kind == 2:
        coat, trousers = (shaded(tuple(PAINTS[index].tolist()), 0.8) for index in rng.integers(len(PAINTS), size=2))
        legs = np.array([(-1.2, 0), (-0.4, 0), (0, 5), (0.5, 0), (1.3, 0), (1, 7), (-1, 7)])
        trunk = np.array([(-1.1, 6), (1.1, 6), (1.5, 13), (0.8, 14.5), (-0.8, 14.5), (-1.5, 13)])
        head = disc(1.1, middle=(0, 15.8))
        person = ((legs, trousers), (trunk, coat), (head, (206, 160, 130)))
        return [(shape * (unit, -unit) + (x, foot), color) for shape, color in person]
    return []
