"""The body styles of the toy cars: their profiles, and where points of their skin are in space. Torch-free.

A car stands on the road in metres: x forwards from its middle, y towards its near flank, z up. N: points of a shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from twincar.data.toy.shapes import Array

HALF_WIDTH = 0.9
"""Half the width of every body, metres."""


@dataclass(frozen=True, kw_only=True)
class Body:
    """One body style seen from the side; lengths in metres."""

    profile: tuple[tuple[float, float], ...]  # (x, z) from the foot of the nose over the roof to the foot of the tail;
    # the third point is the bonnet's front edge, the fourth the windscreen's foot, the fifth its top
    belt: float  # height of the windows' lower edge
    glass: tuple[float, float]  # x where the side windows begin, at the front, and end
    posts: tuple[float, ...] = ()  # x of the posts between the side windows
    doors: tuple[float, ...]  # x of the gaps around the doors
    axles: tuple[float, float]  # x of the front and the rear wheels
    sign: tuple[float, float] | None = None  # (x, z) of the badge on the near flank; None: it is on the nose
    deck: tuple[float, float] | None = None  # x between which it is open: a convertible's seats, a truck's bed
    roofless: bool = False

    @cached_property
    def outline(self) -> Array:
        """The profile with its corners cut twice (Chaikin 1974), from nose to tail, N×2."""
        points = np.array(self.profile)
        for _ in range(2):
            early, late = points[:-1], points[1:]
            cut = np.stack([0.75 * early + 0.25 * late, 0.25 * early + 0.75 * late], axis=1).reshape(-1, 2)
            points = np.concatenate([points[:1], cut, points[-1:]])
        return points

    @property
    def length(self) -> float:
        """From the middle of the car to its foremost point."""
        return max(x for x, _ in self.profile)

    @property
    def face(self) -> float:
        """Height of the middle of lamps and grille."""
        return self.profile[2][1] - 0.26

    @property
    def screen(self) -> Array:
        """Foot and top of the windscreen, 2×2 (x, z)."""
        foot, top = np.array(self.profile[3:5])
        return np.stack([foot, foot + np.array((-0.42, 0.42)) if self.roofless else top])

    def top(self, x: Array | float) -> Array:
        """Height of bonnet, roof or tail above `x`."""
        outline = self.outline[::-1]
        return np.asarray(np.interp(x, outline[:, 0], outline[:, 1]))

    def skin(self, x: ArrayLike, across: ArrayLike, z: ArrayLike) -> Array:
        """Points of the skin, N×3; `across` is -1 on the far flank and 1 on the near one.

        Nose and tail are bowed, and the flanks lean in from the belt upwards.
        """
        x, across, z = np.broadcast_arrays(x, across, z)
        end = np.clip(np.abs(x) / self.length, 0, 1) ** 5
        lean = np.clip((z - self.belt) / 0.6, 0, 1)
        y = across * HALF_WIDTH * (1 - 0.06 * end - 0.2 * lean)
        return np.stack([x - np.sign(x) * 0.2 * end * across**2, y, z], axis=-1)

    def nose(self, shape: Array, *, y: float = 0.0, z: float = 0.0, mirrored: bool = False) -> Array:
        """A shape in (y, z) laid on the nose with its middle at `y`, `z`, N×3."""
        across, height = shape[:, 0] + y, shape[:, 1] + z
        front = self.outline[:12]
        x = np.interp(height, front[:, 1], front[:, 0])
        return self.skin(x, (-across if mirrored else across) / HALF_WIDTH, height)

    def flank(self, shape: Array, *, x: float = 0.0, z: float = 0.0, across: float = 1.0) -> Array:
        """A shape in (x, z) laid on the near flank with its middle at `x`, `z`, N×3."""
        return self.skin(shape[:, 0] + x, across, shape[:, 1] + z)


# fmt: off
BODIES: dict[str, Body] = {
    "saloon": Body(
        profile=((1.84, 0.26), (1.87, 0.6), (1.8, 0.86), (0.85, 0.98), (0.3, 1.46), (-0.7, 1.47), (-1.25, 1.02),
                 (-1.78, 0.96), (-1.85, 0.6), (-1.8, 0.28)),
        belt=0.96, glass=(0.8, -1.15), posts=(-0.2, -0.78), doors=(0.62, -0.2, -0.82), axles=(1.15, -1.12)),
    "fastback": Body(
        profile=((1.9, 0.26), (1.92, 0.58), (1.82, 0.82), (0.8, 0.94), (0.1, 1.4), (-0.6, 1.4), (-1.62, 1.02),
                 (-1.86, 0.92), (-1.88, 0.6), (-1.82, 0.28)),
        belt=0.92, glass=(0.75, -1.3), posts=(-0.3,), doors=(0.6, -0.3, -0.9), axles=(1.2, -1.2)),
    "coupe": Body(
        profile=((1.86, 0.24), (1.92, 0.52), (1.8, 0.76), (0.7, 0.92), (0.0, 1.32), (-0.55, 1.32), (-1.3, 0.98),
                 (-1.82, 0.92), (-1.86, 0.6), (-1.8, 0.28)),
        belt=0.88, glass=(0.6, -1.05), posts=(-0.45,), doors=(0.55, -0.5), axles=(1.2, -1.18)),
    "sports": Body(
        profile=((1.8, 0.24), (1.86, 0.5), (1.7, 0.8), (0.45, 0.96), (-0.1, 1.34), (-0.6, 1.34), (-1.55, 0.92),
                 (-1.72, 0.86), (-1.78, 0.55), (-1.72, 0.28)),
        belt=0.92, glass=(0.4, -0.95), posts=(-0.62,), doors=(0.4, -0.62), axles=(1.12, -1.1)),
    "hatch": Body(
        profile=((1.54, 0.26), (1.58, 0.6), (1.48, 0.9), (0.9, 1.02), (0.4, 1.54), (-1.0, 1.54), (-1.42, 1.08),
                 (-1.54, 0.7), (-1.5, 0.3)),
        belt=1.0, glass=(0.85, -1.15), posts=(-0.08, -0.75), doors=(0.66, -0.08, -0.72), axles=(0.98, -0.98)),
    "city": Body(
        profile=((1.44, 0.26), (1.5, 0.6), (1.42, 0.94), (0.98, 1.06), (0.6, 1.62), (-0.95, 1.66), (-1.34, 1.3),
                 (-1.44, 0.7), (-1.4, 0.3)),
        belt=1.04, glass=(0.95, -1.2), posts=(-0.3,), doors=(0.72, -0.3), axles=(0.95, -0.92)),
    "offroad": Body(
        profile=((1.66, 0.34), (1.7, 0.66), (1.68, 1.04), (0.82, 1.1), (0.5, 1.72), (-1.5, 1.74), (-1.72, 1.1),
                 (-1.74, 0.7), (-1.7, 0.34)),
        belt=1.1, glass=(0.78, -1.5), posts=(-0.1, -0.85), doors=(0.68, -0.1, -0.85), axles=(1.08, -1.08)),
    "estate": Body(
        profile=((1.84, 0.26), (1.88, 0.58), (1.8, 0.84), (0.9, 0.97), (0.35, 1.44), (-1.4, 1.46), (-1.8, 1.02),
                 (-1.88, 0.65), (-1.84, 0.28)),
        belt=0.95, glass=(0.85, -1.55), posts=(-0.1, -0.8), doors=(0.65, -0.1, -0.8), axles=(1.18, -1.18)),
    "cabriolet": Body(
        profile=((1.8, 0.25), (1.85, 0.55), (1.74, 0.8), (0.72, 0.94), (0.4, 0.92), (-1.1, 0.92), (-1.3, 0.96),
                 (-1.76, 0.9), (-1.8, 0.55), (-1.75, 0.28)),
        belt=0.92, glass=(0.65, -0.9), doors=(0.55, -0.4), axles=(1.14, -1.14), deck=(0.4, -1.15), roofless=True),
    "people": Body(
        profile=((1.78, 0.26), (1.82, 0.6), (1.7, 0.9), (1.2, 1.06), (0.5, 1.66), (-1.45, 1.68), (-1.76, 1.2),
                 (-1.82, 0.65), (-1.78, 0.28)),
        belt=1.02, glass=(1.15, -1.6), posts=(0.62, -0.1, -0.9), doors=(0.7, -0.1, -0.9), axles=(1.18, -1.16)),
    "panel": Body(
        profile=((1.76, 0.3), (1.8, 0.64), (1.74, 1.0), (1.3, 1.14), (0.8, 1.82), (-1.72, 1.86), (-1.8, 1.5),
                 (-1.8, 0.7), (-1.78, 0.3)),
        belt=1.12, glass=(1.25, 0.3), doors=(1.0, 0.25), axles=(1.14, -1.14), sign=(-0.55, 1.16)),
    "pickup": Body(
        profile=((1.92, 0.36), (1.96, 0.68), (1.92, 1.04), (1.02, 1.1), (0.66, 1.66), (-0.42, 1.66), (-0.54, 1.5),
                 (-0.62, 1.0), (-0.72, 1.0), (-1.9, 1.0), (-1.94, 0.98), (-1.94, 0.36)),
        belt=1.06, glass=(0.96, -0.48), posts=(0.15,), doors=(0.86, 0.15, -0.5), axles=(1.24, -1.24),
        deck=(-0.72, -1.82)),
}
# fmt: on
