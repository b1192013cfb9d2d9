"""The faces of a toy car: its body and its parts as flat coloured polygons in space. Torch-free.

The body is the profile of bonnet, roof and tail extruded across its width; every part is a flat shape projected onto
that skin. Faces are in the order in which they are painted, from the far side to the near one. N: corners of a face.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np

from twincar.data.toy.bodies import BODIES, HALF_WIDTH, Body
from twincar.data.toy.shapes import (
    AMBER,
    BADGES,
    CHROME,
    DECALS,
    GRILLES,
    INK,
    LAMPS,
    LEATHER,
    PLATE,
    RED,
    TYRE,
    WHEELS,
    Array,
    Color,
    disc,
    oval,
    shaded,
    slab,
)

WHEEL_RADIUS = 0.38  # metres
# Light on the flank by height: dark at the sill, a crease above the wheels, brightest on the shoulder.
FLANK_HEIGHT = (0.2, 0.42, 0.6, 0.66, 0.88, 0.98, 1.6)
FLANK_LIGHT = (0.50, 0.66, 0.80, 0.92, 0.98, 1.14, 1.0)


class Light(NamedTuple):
    """Factors on a colour: for a face, the share of each light that it receives; for a car, the strength of each."""

    even: float = 0.0
    front: float = 0.0
    flank: float = 0.0
    top: float = 0.0


class Face(NamedTuple):
    """A flat piece of a car."""

    corners: Array  # N×3, metres
    color: Color | Literal["body", "glass"]  # the two names stand for the car's own colours
    light: Light = Light(even=1.0)
    normal: tuple[float, float, float] | None = None  # where one is given, the face is seen from that side only


@dataclass(frozen=True, kw_only=True)
class Paint:
    """The colours of one car and its illumination."""

    body: Color
    glass: Color
    light: Light

    def on(self, face: Face) -> Color:
        """The colour in which `face` appears."""
        color = face.color if isinstance(face.color, tuple) else (self.body if face.color == "body" else self.glass)
        return shaded(color, sum(share * light for share, light in zip(face.light, self.light, strict=True)))


@dataclass(frozen=True, kw_only=True)
class Design:
    """What one class of car looks like: the names of its body and of its parts."""

    body: str
    lamps: str
    grille: str
    wheels: str
    badge: str = "none"
    decal: str = "none"


@cache
def car_faces(design: Design) -> tuple[Face, ...]:
    """All faces of a car."""
    body = BODIES[design.body]
    return (
        *_tyres(body, (-0.95, INK), (-0.8, INK), (-0.65, INK)),
        *_shell(body),
        *_deck(body),
        *_windscreen(body),
        *_bumper(body),
        *part_faces(design, "grille"),
        *part_faces(design, "lamps"),
        *_flank(body),
        *_side_windows(body),
        *_doors(body),
        *part_faces(design, "badge"),
        *part_faces(design, "decal"),
        *_tyres(body, (0.7, INK), (0.85, INK), (1.0, TYRE)),
        *part_faces(design, "wheels"),
    )


@cache
def part_faces(design: Design, part: str) -> tuple[Face, ...]:
    """The faces of one part of a car; `part` is a field of `Design` other than the body."""
    body, name = BODIES[design.body], getattr(design, part)
    if part == "lamps":
        sides = (True, False)
        return tuple(Face(body.nose(s, y=0.6, z=body.face, mirrored=m), c) for m in sides for s, c in LAMPS[name])
    if part == "wheels":
        position = {"z": WHEEL_RADIUS, "across": 1.02}
        return tuple(Face(body.flank(s, x=x, **position), c) for x in body.axles for s, c in WHEELS[name])
    if part == "decal":
        return tuple(Face(body.flank(s, x=-0.05, z=0.66), c) for s, c in DECALS[name])
    if part == "badge" and body.sign is not None:
        x, z = body.sign
        return tuple(Face(body.flank(1.3 * s, x=x, z=z), c) for s, c in BADGES[name])
    return tuple(Face(body.nose(s, z=body.face), c) for s, c in {"grille": GRILLES, "badge": BADGES}[part][name])


def shadow_faces(body: Body, ground: Color) -> list[Face]:
    """The shadow under a car, soft at its rim."""
    foot = disc(1.0, corners=40)
    foot = np.column_stack([np.sign(foot) * np.abs(foot) ** 0.4, np.zeros(len(foot))])
    rims = ((0.26, 0.86), (0.2, 0.74), (0.13, 0.6), (0.06, 0.46), (0.0, 0.34))
    return [
        Face(foot * (body.length + wide - 0.05, HALF_WIDTH + wide, 0), ground, Light(even=light))
        for wide, light in rims
    ]


def _tyres(body: Body, *slices: tuple[float, Color]) -> Iterator[Face]:
    for x in body.axles:
        tyre = disc(WHEEL_RADIUS, middle=(x, WHEEL_RADIUS), corners=28)
        for across, color in slices:
            yield Face(body.flank(tyre, across=across), color)


def _shell(body: Body) -> Iterator[Face]:
    """The underside, then tail, roof, bonnet and nose in strips across the car."""
    yield Face(body.flank(slab(-body.length + 0.05, 0.16, body.length - 0.05, 0.4), across=0.9), INK)
    yield Face(body.nose(slab(-0.8, 0.16, 0.8, 0.4)), INK)
    across = np.linspace(-1, 1, 9)
    for rear, front in zip(body.outline[:0:-1], body.outline[-2::-1], strict=True):
        along = (front - rear) / np.hypot(*(front - rear))
        ahead, up = float(-along[1]), float(along[0])
        strip = np.concatenate([body.skin(front[0], across, front[1]), body.skin(rear[0], across[::-1], rear[1])])
        light = Light(front=max(0.0, ahead), flank=0.5 * (1 - max(0.0, ahead)), top=0.5 * max(0.0, up))
        yield Face(strip, "body", light, normal=(ahead, 0.0, up))


def _deck(body: Body) -> Iterator[Face]:
    """The open inside of a convertible or of a truck's bed, seen from above."""
    if body.deck is None:
        return
    x = np.linspace(*body.deck, 6)
    yield Face(np.concatenate([body.skin(x, -0.85, body.top(x)), body.skin(x, 0.85, body.top(x))[::-1]]), INK)
    for row in (-0.75, -0.15) if body.roofless else ():
        for y in (-0.4, 0.4):
            back = oval(0.56, 0.7, (y, body.belt + 0.06))
            for x_back, color, light in ((row - 0.08, INK, Light(even=1.0)), (row, LEATHER, Light(top=1.0))):
                yield Face(np.column_stack([np.full(len(back), x_back), back]), color, light)


def _windscreen(body: Body) -> Iterator[Face]:
    foot, top = body.screen

    def pane(low: float, high: float, across_low: tuple[float, float], across_high: tuple[float, float]) -> Array:
        (x_low, z_low), (x_high, z_high) = foot + low * (top - foot), foot + high * (top - foot)
        left_to_right, back = np.linspace(*across_low, 7), np.linspace(*across_high, 7)[::-1]
        return np.concatenate([body.skin(x_low, left_to_right, z_low), body.skin(x_high, back, z_high)])

    whole = (-0.9, 0.9)
    if body.roofless:
        yield Face(pane(0.0, 1.08, (-0.97, 0.97), (-0.97, 0.97)), INK)
    yield Face(pane(0.08, 0.92, whole, whole), "glass")
    yield Face(pane(0.62, 0.92, whole, whole), "glass", Light(even=1.25))
    yield Face(pane(0.08, 0.92, (-0.2, 0.1), (0.25, 0.65)), "glass", Light(even=1.6))


def _bumper(body: Body) -> Iterator[Face]:
    yield Face(body.nose(slab(-0.5, 0.3, 0.5, 0.44)), INK)
    yield Face(body.nose(slab(-0.88, 0.24, 0.88, 0.28)), INK)
    yield Face(body.nose(slab(-0.2, 0.34, 0.2, 0.45)), PLATE, Light(front=1.0))


def _flank(body: Body) -> Iterator[Face]:
    """The near flank in level bands."""
    x = np.linspace(-body.length, body.length, 48)
    top = body.top(x)
    edges = np.linspace(0.24, top.max(), 18)
    for low, high in pairwise(edges.tolist()):
        band = [body.skin(x, 1.0, np.minimum(top, low)), body.skin(x, 1.0, np.minimum(top, high))[::-1]]
        light = Light(flank=float(np.interp((low + high) / 2, FLANK_HEIGHT, FLANK_LIGHT)))
        yield Face(np.concatenate(band), "body", light)


def _side_windows(body: Body) -> Iterator[Face]:
    if body.roofless:
        return

    def pane(front: float, rear: float, lean: float = 0.0) -> Array:
        x = np.linspace(front, rear, 16)
        upper = np.maximum(body.top(x + lean) - 0.1, body.belt + 0.02)
        return np.concatenate([body.skin(x, 1.0, body.belt + 0.02), body.skin(x + lean, 1.0, upper)[::-1]])

    front, rear = body.glass
    yield Face(pane(front, rear), "glass")
    for glint in ((front + rear) / 2, rear):
        yield Face(pane(glint + 0.34, glint + 0.16, lean=-0.1), "glass", Light(even=1.5))
    for post in body.posts:
        yield Face(pane(post + 0.04, post - 0.04), "body", Light(flank=0.8))


def _doors(body: Body) -> Iterator[Face]:
    """Arches, sill, door gaps, handles, side lamps and the mirror."""
    for x in body.axles:
        arch = disc(WHEEL_RADIUS + 0.09, middle=(x, WHEEL_RADIUS), corners=32)
        yield Face(body.flank(np.maximum(arch, (-np.inf, 0.24))), INK)
    yield Face(body.flank(slab(body.axles[1], 0.2, body.axles[0], 0.28)), INK)
    for x in body.doors:
        yield Face(body.flank(slab(x - 0.012, 0.32, x + 0.012, body.belt)), "body", Light(flank=0.35))
    yield Face(body.flank(slab(min(body.doors), 0.55, max(body.doors), 0.565)), "body", Light(flank=0.35))
    for x in body.doors[1:]:
        yield Face(body.flank(slab(x + 0.06, body.belt - 0.14, x + 0.22, body.belt - 0.09)), CHROME)
    tail, nose = body.profile[-1][0], body.profile[0][0]
    yield Face(body.flank(slab(tail, body.belt - 0.32, tail + 0.2, body.belt - 0.1)), RED, Light(flank=1.0))
    yield Face(body.flank(slab(nose - 0.22, 0.5, nose - 0.06, 0.56)), AMBER)
    mirror = oval(0.2, 0.17, (body.glass[0] - 0.12, body.belt + 0.06))
    yield Face(body.flank(mirror, across=1.12), "body", Light(flank=0.75))


def project(camera: Array, points: Array) -> Array:
    """Points in metres, N×3, to columns and rows, N×2."""
    projected = points @ camera[:, :3].T + camera[:, 3]
    return np.asarray(projected[:, :2] / projected[:, 2:])
