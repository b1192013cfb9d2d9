"""Flat shapes in a plane, and the parts of a car made of them: lamps, grilles, badges, decals, wheels. Torch-free."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Color = tuple[int, int, int]
Shape = tuple[Array, Color]  # corners in a plane, N×2, and their colour

INK, TYRE = (22, 23, 27), (44, 44, 49)
CHROME, STEEL, LENS = (226, 229, 234), (150, 154, 162), (252, 249, 226)
AMBER, RED, PLATE, LEATHER = (244, 152, 40), (196, 26, 30), (240, 240, 232), (132, 88, 58)


def shaded(color: Color, light: float) -> Color:
    """The colour under `light`; a light of 1 leaves it unchanged."""
    red, green, blue = (min(255, max(0, round(channel * light))) for channel in color)
    return red, green, blue


def disc(radius: float, *, middle: tuple[float, float] = (0.0, 0.0), corners: int = 20, turn: float = 0.0) -> Array:
    """A regular polygon with its first corner `turn` radians from the first axis, N×2."""
    angle = turn + np.linspace(0, 2 * np.pi, corners, endpoint=False)
    points: Array = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1) + np.array(middle)
    return points


def oval(width: float, height: float, middle: tuple[float, float] = (0.0, 0.0)) -> Array:
    """An ellipse, N×2."""
    points: Array = disc(1.0) * np.array((width / 2, height / 2)) + np.array(middle)
    return points


def slab(left: float, low: float, right: float, high: float) -> Array:
    """An upright rectangle, its long sides divided so that it can bend with the skin."""
    steps = np.linspace(left, right, 5)
    return np.concatenate([np.stack([steps, np.full(5, low)], 1), np.stack([steps[::-1], np.full(5, high)], 1)])


def star(points: int, outer: float, inner: float) -> Array:
    """A star, N×2, with the first point up, of the radius `outer`, and the corners between of `inner`."""
    radius = np.where(np.arange(2 * points) % 2 == 0, outer, inner)
    return disc(1.0, corners=2 * points, turn=np.pi / 2) * radius[:, None]


def corners_of(*points: tuple[float, float]) -> Array:
    """A polygon by its corners, N×2."""
    return np.array(points)


def spokes(count: int, width: float, color: Color) -> list[Shape]:
    """The spokes of a wheel, the first one up."""
    spoke = corners_of((0.0, -width / 2), (0.28, -0.4 * width), (0.28, 0.4 * width), (0.0, width / 2))
    turns = np.pi / 2 + 2 * np.pi * np.arange(count) / count
    return [(spoke @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]), color) for a in turns]


# The parts around their centre, in metres: those of the nose in (y, z), the wheels in (x, z).
LAMPS: dict[str, list[Shape]] = {
    "round": [(disc(0.27), INK), (disc(0.23), CHROME), (disc(0.18), LENS), (disc(0.07), STEEL)],
    "slant": [
        (corners_of((-0.3, -0.17), (0.04, -0.2), (0.28, 0.08), (0.3, 0.28), (0.08, 0.16), (-0.28, -0.04)), INK),
        (corners_of((-0.18, -0.13), (0.03, -0.15), (0.23, 0.09), (0.25, 0.2), (0.08, 0.09)), LENS),
    ],
    "tall": [
        (slab(-0.14, -0.32, 0.22, 0.18), INK),
        (slab(-0.09, -0.06, 0.17, 0.13), LENS),
        (slab(-0.09, -0.27, 0.17, -0.11), AMBER),
    ],
    "slit": [(slab(-0.28, -0.1, 0.3, 0.1), INK), (slab(-0.23, -0.05, 0.26, 0.05), LENS)],
    "square": [(slab(-0.25, -0.21, 0.25, 0.21), INK), (slab(-0.2, -0.16, 0.2, 0.16), LENS)],
    "twin": [
        *[(disc(0.19, middle=m), INK) for m in ((-0.14, 0.1), (0.14, -0.1))],
        *[(disc(0.13, middle=m), LENS) for m in ((-0.14, 0.1), (0.14, -0.1))],
    ],
}
GRILLES: dict[str, list[Shape]] = {
    "none": [],
    "bars": [
        (slab(-0.36, -0.24, 0.36, 0.22), INK),
        *[(slab(y - 0.04, -0.2, y + 0.04, 0.18), CHROME) for y in (-0.28, -0.093, 0.093, 0.28)],
    ],
    "slats": [
        (slab(-0.36, -0.24, 0.36, 0.22), INK),
        *[(slab(-0.32, z - 0.035, 0.32, z + 0.035), CHROME) for z in (-0.16, 0.0, 0.15)],
    ],
    "oval": [(oval(0.74, 0.42), INK), (oval(0.64, 0.33), CHROME), (oval(0.48, 0.2), INK)],
    "shield": [
        (corners_of((-0.4, 0.28), (0.4, 0.28), (0.31, -0.1), (0.0, -0.38), (-0.31, -0.1)), INK),
        (corners_of((-0.34, 0.24), (0.34, 0.24), (0.27, -0.08), (0.0, -0.32), (-0.27, -0.08)), CHROME),
        (corners_of((-0.24, 0.17), (0.24, 0.17), (0.18, -0.05), (0.0, -0.21), (-0.18, -0.05)), INK),
    ],
    "split": [
        *[(oval(0.39, 0.48, (y, 0)), INK) for y in (-0.18, 0.18)],
        *[(oval(0.34, 0.42, (y, 0)), CHROME) for y in (-0.18, 0.18)],
        *[(oval(0.22, 0.29, (y, 0)), INK) for y in (-0.18, 0.18)],
    ],
    "mouth": [(corners_of((-0.22, 0.16), (0.22, 0.16), (0.36, -0.2), (-0.36, -0.2)), INK)],
}
_PLAQUE: Shape = (disc(0.34), INK)
BADGES: dict[str, list[Shape]] = {
    "none": [],
    "star": [_PLAQUE, (star(5, 0.32, 0.13), CHROME)],
    "cross": [_PLAQUE, (slab(-0.29, -0.09, 0.29, 0.09), CHROME), (slab(-0.09, -0.29, 0.09, 0.29), CHROME)],
    "disc": [_PLAQUE, (disc(0.29), CHROME), (disc(0.09), INK)],
}
DECALS: dict[str, list[Shape]] = {
    "none": [],
    "roundel": [(disc(0.32), INK), (disc(0.27), CHROME), (slab(-0.05, -0.16, 0.05, 0.16), INK)],
    "stripes": [
        *[(corners_of((x - 0.2, -0.3), (x, -0.3), (x + 0.2, 0.3), (x, 0.3)), INK) for x in (-0.25, 0.05, 0.35)],
        *[
            (corners_of((x - 0.13, -0.26), (x - 0.05, -0.26), (x + 0.13, 0.26), (x + 0.05, 0.26)), CHROME)
            for x in (-0.25, 0.05, 0.35)
        ],
    ],
}
_RIM: list[Shape] = [(disc(0.3), CHROME), (disc(0.26), INK)]
WHEELS: dict[str, list[Shape]] = {
    "five": [*_RIM, *spokes(5, 0.13, CHROME), (disc(0.06), STEEL)],
    "three": [*_RIM, *spokes(3, 0.17, CHROME), (disc(0.09), STEEL)],
    "fan": [*_RIM, *spokes(10, 0.05, STEEL), (disc(0.09), CHROME)],
    "dish": [(disc(0.3), CHROME), (disc(0.11), INK), (disc(0.06), CHROME)],
    "holes": [(disc(0.3), CHROME), *[(disc(0.065, middle=m), INK) for m in disc(0.19, corners=6).tolist()]],
}
