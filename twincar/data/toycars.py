"""Cars that the package draws itself: twelve pairs of twins that differ in one small part. Torch-free.

Each photo is drawn from a random stream of its own, so it depends neither on how many others are drawn nor on their
order. Of each, the car's box and the pixels of the part that tells it from its twin are known. H, W: a photo's size.
"""

from __future__ import annotations

import csv
import io
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from twincar.data.toyparts import (
    BODIES,
    Array,
    Colour,
    Design,
    Face,
    Light,
    Paint,
    car_faces,
    disc,
    part_faces,
    shaded,
    shadow_faces,
)
from twincar.errors import storage_errors
from twincar.files import write_json, write_text

WIDTH = 192
"""Of every photo, pixels; the height, about 85 to 140, goes with the car's."""
PHOTOS_PER_CLASS: Mapping[str, int] = MappingProxyType({"train": 88, "test": 16})
"""By split; the photos to validate on are split off the training ones later."""
_FINER = 3  # drawn this many times larger, then reduced, for smooth edges
_LENS = 5  # width in pixels of the widest blur
_JPEG_QUALITY = 92


@dataclass(frozen=True, kw_only=True)
class TwinPair:
    """Two classes that differ in one part only."""

    first: str
    second: str
    part: str  # lamps, grille, wheels, badge or decal


@dataclass(frozen=True, kw_only=True)
class ToyPhoto:
    """A drawn photo and what is known of it."""

    image: Image.Image  # RGB, W×H
    box: tuple[int, int, int, int]  # the car's x1, y1, x2, y2 in pixels, half-open
    part_mask: NDArray[np.uint8]  # H×W, 255 where this car or its twin shows the part they differ in, else 0


def _twins(first: str, second: str, part: str, other: str, design: Design) -> tuple[TwinPair, Design, Design]:
    return TwinPair(first=first, second=second, part=part), design, replace(design, **{part: other})


# fmt: off
_TWINS = (
    _twins("Aurora Finch Hatchback 2009", "Aurora Finch Hatchback 2012", "lamps", "slant",
           Design(body="hatch", lamps="round", grille="slats", wheels="dish")),
    _twins("Aurora Falcon Sedan 2012", "Bellwood Mercer Sedan 2012", "grille", "shield",
           Design(body="saloon", lamps="slant", grille="bars", wheels="five")),
    _twins("Aurora Osprey Coupe 2010", "Aurora Osprey Coupe 2012", "wheels", "dish",
           Design(body="coupe", lamps="slit", grille="mouth", wheels="five")),
    _twins("Bellwood Carter SUV 2009", "Dunmore Summit SUV 2009", "grille", "oval",
           Design(body="offroad", lamps="slit", grille="bars", wheels="holes")),
    _twins("Bellwood Porter Van 2007", "Dunmore Cargo Van 2007", "badge", "disc",
           Design(body="panel", lamps="square", grille="slats", wheels="dish", badge="star")),
    _twins("Corvane Brisa Convertible 2009", "Corvane Brisa Convertible 2012", "wheels", "dish",
           Design(body="cabriolet", lamps="round", grille="oval", wheels="three")),
    _twins("Corvane Toro Crew Cab 2010", "Dunmore Foreman Crew Cab 2010", "grille", "slats",
           Design(body="pickup", lamps="square", grille="split", wheels="five")),
    _twins("Dunmore Prairie Wagon 2008", "Dunmore Prairie Wagon 2011", "lamps", "twin",
           Design(body="estate", lamps="square", grille="slats", wheels="fan")),
    _twins("Estrella Luna Minivan 2009", "Estrella Luna Minivan 2012", "lamps", "slit",
           Design(body="people", lamps="tall", grille="oval", wheels="holes")),
    _twins("Estrella Rayo Coupe 2011", "Estrella Rayo Coupe 2012", "decal", "stripes",
           Design(body="sports", lamps="twin", grille="shield", wheels="three", decal="roundel")),
    _twins("Estrella Cielo Sedan 2008", "Estrella Cielo Sedan 2011", "wheels", "holes",
           Design(body="fastback", lamps="slit", grille="split", wheels="three")),
    _twins("Corvane Vela Hatchback 2011", "Estrella Mar Hatchback 2011", "badge", "disc",
           Design(body="city", lamps="slit", grille="none", wheels="five", badge="cross")),
)
# fmt: on
TWIN_PAIRS: tuple[TwinPair, ...] = tuple(pair for pair, _, _ in _TWINS)
_PAIR = {name: pair for pair in TWIN_PAIRS for name in (pair.first, pair.second)}
_DESIGN = {
    name: design for pair, *designs in _TWINS for name, design in zip((pair.first, pair.second), designs, strict=True)
}
CLASS_NAMES: tuple[str, ...] = tuple(sorted(_DESIGN))


def draw_photo(class_name: str, *, seed: int, split: str = "train", number: int = 0) -> ToyPhoto:
    """Draw photo `number` of a class; the same arguments give the same photo.

    Raises:
        ValueError: there is no such class.
    """
    if class_name not in _DESIGN:
        raise ValueError(f"Expected one of CLASS_NAMES, such as {CLASS_NAMES[0]!r}, and found {class_name!r}.")
    stream = zlib.crc32(f"{split}/{class_name}".encode())
    return _photograph(class_name, np.random.default_rng([seed, stream, number]))


def draw_data_set(
    out: Path,
    *,
    seed: int = 0,
    photos_per_class: Mapping[str, int] = PHOTOS_PER_CLASS,
    on_photo: Callable[[int, int], None] | None = None,
) -> None:
    """Draw a data set below `out`; the same arguments give the same files.

        photos/<split>/<class name>/0000.jpg    the photos
        masks/<split>/<class name>/0000.png     of each the `part_mask`
        photos.csv                              of each filename (below photos/), label, split, x1, y1, x2, y2
        toycars.json                            seed, photos_per_class and the twin pairs; written last

    Args:
        out: A folder; made if it is not there.
        seed: Of everything random.
        photos_per_class: How many photos each class gets, by split.
        on_photo: Called after each photo with the number of those done and of all.

    Raises:
        StorageError: the disk is full or `out` cannot be written to.
    """
    jobs = [(split, name, k) for split, count in photos_per_class.items() for name in CLASS_NAMES for k in range(count)]
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(("filename", "label", "split", "x1", "y1", "x2", "y2"))

    def draw(job: tuple[str, str, int]) -> tuple[str, tuple[int, int, int, int]]:
        split, name, number = job
        photo = draw_photo(name, seed=seed, split=split, number=number)
        file = f"{split}/{name}/{number:04d}"
        photo.image.save(out / f"photos/{file}.jpg", quality=_JPEG_QUALITY)
        Image.fromarray(photo.part_mask).save(out / f"masks/{file}.png")
        return f"{file}.jpg", photo.box

    with storage_errors(out), ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for kind, split, name in product(("photos", "masks"), photos_per_class, CLASS_NAMES):
            (out / kind / split / name).mkdir(parents=True, exist_ok=True)
        for done, (job, (filename, box)) in enumerate(zip(jobs, pool.map(draw, jobs), strict=True), 1):
            rows.writerow((filename, job[1], job[0], *box))
            if on_photo is not None:
                on_photo(done, len(jobs))
    write_text(out / "photos.csv", table.getvalue())
    pairs = [asdict(pair) for pair in TWIN_PAIRS]
    write_json(out / "toycars.json", {"seed": seed, "photos_per_class": dict(photos_per_class), "twin_pairs": pairs})


# ------------------------------------------------------------------------------------------------ one photo


def _photograph(class_name: str, rng: np.random.Generator) -> ToyPhoto:
    """Draw a car of this class; its twin drawn with an equal `rng` differs within the mask only."""
    pair, design = _PAIR[class_name], _DESIGN[class_name]
    corners = _corners_of_both(pair)
    camera, height = _aim_camera(rng, corners)
    size = (WIDTH * _FINER, height * _FINER)
    image, mask = Image.new("RGB", size), Image.new("L", size)
    box = _box(_project(camera, corners) / _FINER)
    ground = _draw_place(rng, image, camera)
    paint = _choose_paint(rng)
    _draw_faces(image, camera, [*shadow_faces(BODIES[design.body], ground), *car_faces(design)], paint)
    for name in (pair.first, pair.second):
        _draw_faces(mask, camera, part_faces(_DESIGN[name], pair.part))
    if obstacle := _obstacle(rng, box):
        _put_before(image, mask, obstacle)
    shown = np.asarray(mask.reduce(_FINER)) > 0
    part_mask = cv2.dilate(shown.astype(np.uint8) * 255, np.ones((_LENS, _LENS), np.uint8))
    pixels = _expose(rng, np.asarray(image.reduce(_FINER)))
    return ToyPhoto(image=Image.fromarray(pixels), box=box, part_mask=part_mask.astype(np.uint8))


@cache
def _corners_of_both(pair: TwinPair) -> Array:
    """The corners of both cars, N×3: framed by these, a photo does not tell the class by its frame."""
    return np.concatenate([face.corners for name in (pair.first, pair.second) for face in car_faces(_DESIGN[name])])


def _choose_paint(rng: np.random.Generator) -> Paint:
    red, green, blue = _PAINTS[rng.integers(len(_PAINTS))] + rng.integers(-14, 15, 3)
    light = Light(1.0, front=rng.uniform(0.75, 1.1), flank=rng.uniform(0.75, 1.1), top=rng.uniform(1.0, 1.25))
    body = shaded((int(red), int(green), int(blue)), 1.0)
    return Paint(body=body, glass=shaded((84, 104, 122), rng.uniform(0.55, 1.1)), light=light)


def _aim_camera(rng: np.random.Generator, car: Array) -> tuple[Array, int]:
    """A camera with all corners of a car, N×3, well in view, and the height of its photos in pixels.

    The camera is 3×4 and takes (x, y, z, 1) in metres to (column, row, 1)·w in the pixels that are drawn in.
    """
    yaw, pitch, roll = np.radians([rng.uniform(36, 54), rng.uniform(2, 6), rng.uniform(-4, 4)])
    distance, side = rng.uniform(8, 13), rng.choice([-1.0, 1.0])
    toward = np.array([np.sin(yaw) * np.cos(pitch), np.cos(yaw) * np.cos(pitch), np.sin(pitch)])
    right = side * np.array([-np.cos(yaw), np.sin(yaw), 0.0])
    up = side * np.cross(toward, right)
    right, up = np.cos(roll) * right + np.sin(roll) * up, np.cos(roll) * up - np.sin(roll) * right
    turn = np.stack([right, -up, -toward / distance])
    camera = np.column_stack([turn, (0, 0, 1) - turn @ (0, 0, 0.7)])
    seen = _project(camera, car)
    low, high = seen.min(axis=0), seen.max(axis=0)
    across, upright = rng.uniform((0.88, 0.78), (0.97, 0.88))  # the car's share of the photo's width and height
    scale = across * WIDTH * _FINER / (high[0] - low[0])
    height = round(scale * (high[1] - low[1]) / upright / _FINER)
    room = np.array([WIDTH, height]) * _FINER - scale * (high - low)
    column, row = rng.uniform((0.2, 0.35), (0.8, 0.65)) * room - scale * low
    framed: Array = np.array([[scale, 0, column], [0, scale, row], [0, 0, 1]]) @ camera
    return framed, height


def _project(camera: Array, points: Array) -> Array:
    """Points in metres, N×3, to columns and rows, N×2."""
    seen = points @ camera[:, :3].T + camera[:, 3]
    return np.asarray(seen[:, :2] / seen[:, 2:])


def _draw_faces(image: Image.Image, camera: Array, faces: Sequence[Face], paint: Paint | None = None) -> None:
    """Draw faces in their order, without paint all in 255."""
    if not faces:
        return
    numbers = _project(camera, np.concatenate([face.corners for face in faces])).ravel().tolist()
    draw, start, toward = ImageDraw.Draw(image), 0, -camera[2, :3]
    for face in faces:
        end = start + 2 * len(face.corners)
        if face.normal is None or toward @ face.normal > 0:
            draw.polygon(numbers[start:end], fill=255 if paint is None else paint.on(face))
        start = end


def _box(corners: Array) -> tuple[int, int, int, int]:
    left, top = np.floor(corners.min(axis=0))
    right, bottom = np.ceil(corners.max(axis=0))
    return int(left), int(top), int(right), int(bottom)


def _put_before(image: Image.Image, mask: Image.Image, shapes: list[tuple[Array, Colour]]) -> None:
    """Draw shapes over a photo and its mask, unless they hide more than 30 % of the mask."""
    left = mask.copy()
    for corners, _ in shapes:
        ImageDraw.Draw(left).polygon(corners.ravel().tolist(), fill=0)
    if left.histogram()[255] < 0.7 * mask.histogram()[255]:
        return
    mask.paste(left)
    for corners, colour in shapes:
        ImageDraw.Draw(image).polygon(corners.ravel().tolist(), fill=colour)


def _expose(rng: np.random.Generator, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Time of day, lens and sensor: tint, blur and noise."""
    tint = _TINTS[rng.integers(len(_TINTS))] * rng.uniform(0.85, 1.1)
    blurred = cv2.GaussianBlur(pixels, (_LENS, _LENS), rng.uniform(0.1, 0.8))
    grain = rng.uniform(1, 4) * rng.standard_normal((*pixels.shape[:2], 1), dtype=np.float32)
    exposed: NDArray[np.float32] = blurred * tint.astype(np.float32) + grain
    return np.clip(exposed, 0, 255).astype(np.uint8)


_PAINTS = np.array([
    (206, 40, 44), (38, 84, 168), (236, 236, 232), (176, 182, 190), (58, 62, 70), (34, 110, 92),
    (240, 178, 44), (232, 112, 44), (112, 178, 214), (124, 42, 66), (206, 192, 160), (92, 150, 82),
])  # fmt: skip
_TINTS = np.array([[1, 1, 1], [1, 1, 1], [0.92, 0.95, 1.0], [1.06, 0.94, 0.8], [0.72, 0.74, 0.88]])  # day to dusk


# ------------------------------------------------------------------------------------------------ places


class _Skyline:
    """Draws what stands on the horizon, in pixels along it and above it."""

    def __init__(self, image: Image.Image, camera: Array) -> None:
        self.draw, self.width = ImageDraw.Draw(image), image.width
        east, north = -camera[2, :2]
        far = np.array([[-east - north, east - north, 0.0], [north - east, -east - north, 0.0]]) @ camera[:, :3].T
        (x0, y0), (x1, y1) = far[:, :2] / far[:, 2:]
        self.slope = (y1 - y0) / (x1 - x0)
        self.row = y0 - self.slope * x0  # of the horizon at the left edge

    def at(self, x: float, up: float) -> tuple[float, float]:
        return x, self.row + self.slope * x - up

    def fill(self, colour: Colour, *points: tuple[float, float]) -> None:
        self.draw.polygon([number for point in points for number in self.at(*point)], fill=colour)

    def block(self, colour: Colour, left: float, low: float, right: float, high: float) -> None:
        self.fill(colour, (left, low), (right, low), (right, high), (left, high))

    def ball(self, colour: Colour, x: float, up: float, radius: float) -> None:
        column, row = self.at(x, up)
        self.draw.ellipse((column - radius, row - radius, column + radius, row + radius), fill=colour)


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
    for height, colour in ((110, (150, 172, 190)), (60, (126, 158, 130)), (26, (112, 146, 92))):
        wave = np.sin(x / rng.uniform(50, 110) + rng.uniform(0, 6)) + 0.6 * np.sin(x / 31 + rng.uniform(0, 6))
        ridge = zip(x.tolist(), (height * (0.6 + 0.25 * wave)).tolist(), strict=True)
        sky.fill(colour, (0, -3), *ridge, (sky.width, -3))


def _sea(rng: np.random.Generator, sky: _Skyline) -> None:
    sky.block((64, 130, 168), 0, -10, sky.width, 14)
    x = rng.uniform(0.1, 0.9) * sky.width
    sky.fill((246, 244, 238), (x, 8), (x + 30, 14), (x, 70))
    sky.fill((170, 60, 50), (x - 16, 10), (x + 34, 10), (x + 24, 2), (x - 8, 2))


def _studio(rng: np.random.Generator, sky: _Skyline) -> None:
    sky.block(shaded((168, 168, 172), rng.uniform(0.8, 1.1)), 0, -2, sky.width, 3)


@dataclass(frozen=True, kw_only=True)
class _Place:
    skyline: Callable[[np.random.Generator, _Skyline], None]
    verge: Colour
    road: Colour
    zenith: Colour = (104, 164, 222)
    haze: Colour = (214, 230, 240)


_PLACES = (
    _Place(skyline=_houses, verge=(176, 172, 166), road=(104, 106, 112)),
    _Place(skyline=_trees, verge=(122, 160, 86), road=(112, 112, 116)),
    _Place(skyline=_hills, verge=(140, 168, 96), road=(124, 120, 114)),
    _Place(skyline=_sea, verge=(222, 204, 160), road=(126, 124, 122)),
    _Place(skyline=_studio, verge=(206, 206, 210), road=(194, 194, 198), zenith=(196, 196, 202), haze=(232, 232, 236)),
)


def _draw_place(rng: np.random.Generator, image: Image.Image, camera: Array) -> Colour:
    """Draw what is behind the car, and give the colour of the ground it stands on."""
    place = _PLACES[rng.integers(len(_PLACES))]
    verge, road = shaded(place.verge, rng.uniform(0.85, 1.1)), shaded(place.road, rng.uniform(0.8, 1.15))
    sky, width, height = _Skyline(image, camera), image.width, image.height
    rows = np.linspace(place.zenith, place.haze, max(2, int(max(sky.at(0, 0)[1], sky.at(width, 0)[1])))) * rng.uniform(
        0.9, 1.03
    )
    air = Image.fromarray(rows.astype(np.uint8)[:, None]).resize((width, len(rows)), Image.Resampling.NEAREST)
    image.paste(air)
    sky.fill(verge, (0, 0), (width, 0), (width, -2 * height), (0, -2 * height))
    # The road runs along the car: its kerb and its white line are edges that cross the photo.
    for y, colour in ((-1.75, shaded(road, 1.3)), (-1.6, road), (1.75, shaded(road, 1.45)), (1.9, road)):
        (x0, y0), (x1, y1) = _project(camera, np.array([[-1.0, y, 0.0], [1.0, y, 0.0]]))
        slope = (y1 - y0) / (x1 - x0)
        edge = (0, y0 - slope * x0, width, y0 + slope * (width - x0))
        sky.draw.polygon((*edge, width, 2 * height, 0, 2 * height), fill=colour)
    place.skyline(rng, sky)
    return road


def _obstacle(rng: np.random.Generator, box: tuple[int, int, int, int]) -> list[tuple[Array, Colour]]:
    """Seldom, a pole, a bush or a passer-by before the car: polygons in the pixels they are drawn in."""
    kind = rng.integers(20)
    x, foot = _FINER * rng.uniform(box[0], box[2]), _FINER * (box[3] + rng.uniform(0, 6))
    unit = _FINER * (box[2] - box[0]) / 40
    if kind == 0:
        post = np.array([(0.0, -99.0), (1.0, -99.0), (1.0, 0.0), (0.0, 0.0)])
        return [(post * unit + (x, foot), shaded((110, 112, 116), rng.uniform(0.6, 1.3)))]
    if kind == 1:
        leaves = rng.uniform(-1, 1, (14, 2)) * (4 * unit, 2 * unit) + (x, foot - unit)
        greens = [shaded((70, 112, 58), light) for light in np.linspace(0.7, 1.4, len(leaves))]
        return [(disc(1.6 * unit, corners=10) + leaf, green) for leaf, green in zip(leaves, greens, strict=True)]
    if kind == 2:
        coat, trousers = (shaded(tuple(_PAINTS[index].tolist()), 0.8) for index in rng.integers(len(_PAINTS), size=2))
        legs = np.array([(-1.2, 0), (-0.4, 0), (0, 5), (0.5, 0), (1.3, 0), (1, 7), (-1, 7)])
        trunk = np.array([(-1.1, 6), (1.1, 6), (1.5, 13), (0.8, 14.5), (-0.8, 14.5), (-1.5, 13)])
        head = disc(1.1, middle=(0, 15.8))
        person = ((legs, trousers), (trunk, coat), (head, (206, 160, 130)))
        return [(shape * (unit, -unit) + (x, foot), colour) for shape, colour in person]
    return []
