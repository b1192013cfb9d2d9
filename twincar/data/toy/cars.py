"""Draw the toy cars: twelve pairs of twins that differ in one small part. Torch-free.

Each photo has its own random stream, so it does not depend on the number or order of the others. The box of each car is
known, and so are the pixels of the part that distinguishes it from its twin. H, W: a photo's size.
"""

from __future__ import annotations

import csv
import io
import os
import zlib
from collections.abc import Mapping, Sequence
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

from twincar.core.errors import storage_errors
from twincar.core.files import write_json, write_text
from twincar.core.photos import read_photo
from twincar.core.progress import Progress
from twincar.data.toy.bodies import BODIES
from twincar.data.toy.faces import Design, Face, Light, Paint, car_faces, part_faces, project, shadow_faces
from twincar.data.toy.scenes import PAINTS, SUPERSAMPLING, draw_obstacle, draw_scene
from twincar.data.toy.shapes import Array, Color, shaded

WIDTH = 192
"""Width of every photo, pixels; the height, about 85 to 140, depends on the car."""
PHOTOS_PER_CLASS: Mapping[str, int] = MappingProxyType({"train": 88, "test": 16})
"""Photos per class by split; the validation photos are taken from the training split later."""
_SPACING = 5.6  # metres between the middles of cars in a street
_STREET_VIEW = np.array([(0, 0, 3.6), (0, -3.0, 0), (0, 3.0, 0)])  # also in view: houses above the cars, and both kerbs
_LENS = 5  # width in pixels of the widest blur
_JPEG_QUALITY = 92
_TINTS = np.array([[1, 1, 1], [1, 1, 1], [0.92, 0.95, 1.0], [1.06, 0.94, 0.8], [0.72, 0.74, 0.88]])  # day to dusk


@dataclass(frozen=True, kw_only=True)
class TwinPair:
    """Two classes that differ in one part only."""

    first: str
    second: str
    part: str  # lamps, grille, wheels, badge or decal


@dataclass(frozen=True, kw_only=True)
class ToyPhoto:
    """A drawn photo with its ground truth."""

    image: Image.Image  # RGB, W×H
    box: tuple[int, int, int, int]  # the car's x1, y1, x2, y2 in pixels, half-open
    part_mask: NDArray[np.uint8]  # H×W, 255 where this car or its twin shows the part they differ in, else 0


@dataclass(frozen=True)
class Part:
    """The part that distinguishes the car in a drawn photo from its twin."""

    car: str
    twin: str
    mask: Image.Image  # as `ToyPhoto.part_mask`


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
        raise ValueError(f"Expected one of CLASS_NAMES, such as {CLASS_NAMES[0]!r}, but found {class_name!r}.")
    stream = zlib.crc32(f"{split}/{class_name}".encode())
    return photograph(class_name, np.random.default_rng([seed, stream, number]))


def draw_empty_scene(rng: np.random.Generator) -> Image.Image:
    """Draw a photo of a scene without its car; RGB, W×H."""
    camera, height = _aim_camera(rng, _corners_of_both(TWIN_PAIRS[rng.integers(len(TWIN_PAIRS))]))
    image = Image.new("RGB", (WIDTH * SUPERSAMPLING, height * SUPERSAMPLING))
    draw_scene(rng, image, camera)
    return Image.fromarray(_expose(rng, np.asarray(image.reduce(SUPERSAMPLING))))


def draw_data_set(
    out: Path,
    *,
    seed: int = 0,
    photos_per_class: Mapping[str, int] = PHOTOS_PER_CLASS,
    on_photo: Progress | None = None,
) -> None:
    """Draw a data set below `out`; the same arguments give the same files.

        photos/<split>/<class name>/0000.jpg    the photos
        masks/<split>/<class name>/0000.png     the `part_mask` of each photo
        photos.csv                              filename (below photos/), label, split, x1, y1, x2, y2 of each photo
        toycars.json                            seed, photos_per_class and the twin pairs; written last

    Args:
        out: a folder; created if it does not exist.
        seed: seed of everything random.
        photos_per_class: number of photos of each class, by split.
        on_photo: called after each photo with the number of photos done and their total.

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


def read_part(folder: Path, file: str, class_name: str) -> Part | None:
    """The part that distinguishes the car of a photo from its twin; None if the photo is not a toy photo.

    Args:
        folder: of a data set drawn by `draw_data_set`, or of any other.
        file: path of the photo below `photos/`.
        class_name: class of its car.
    """
    mask = folder / "masks" / Path(file).with_suffix(".png")
    pair = _PAIR.get(class_name)
    if pair is None or not mask.is_file():
        return None
    return Part(class_name, pair.second if class_name == pair.first else pair.first, read_photo(mask).convert("L"))


def photograph(class_name: str, rng: np.random.Generator) -> ToyPhoto:
    """Draw a car of this class; its twin drawn with an equal `rng` differs within the mask only."""
    pair, design = _PAIR[class_name], _DESIGN[class_name]
    corners = _corners_of_both(pair)
    camera, height = _aim_camera(rng, corners)
    size = (WIDTH * SUPERSAMPLING, height * SUPERSAMPLING)
    image, mask = Image.new("RGB", size), Image.new("L", size)
    box = _box(project(camera, corners) / SUPERSAMPLING)
    ground = draw_scene(rng, image, camera)
    paint = _choose_paint(rng)
    _draw_faces(image, camera, [*shadow_faces(BODIES[design.body], ground), *car_faces(design)], paint)
    for name in (pair.first, pair.second):
        _draw_faces(mask, camera, part_faces(_DESIGN[name], pair.part))
    if obstacle := draw_obstacle(rng, box):
        _put_before(image, mask, obstacle)
    shown = np.asarray(mask.reduce(SUPERSAMPLING)) > 0
    part_mask = cv2.dilate(shown.astype(np.uint8) * 255, np.ones((_LENS, _LENS), np.uint8))
    pixels = _expose(rng, np.asarray(image.reduce(SUPERSAMPLING)))
    return ToyPhoto(image=Image.fromarray(pixels), box=box, part_mask=part_mask.astype(np.uint8))


def draw_street(
    class_names: Sequence[str], *, seed: int, width: int = 960
) -> tuple[Image.Image, list[tuple[int, int, int, int]]]:
    """Draw a photo of several cars that stand one behind the other along a road.

    Returns:
        The photo, RGB, and the box of each car, half-open, in pixels.
    """
    rng = np.random.default_rng(seed)
    designs = [_DESIGN[name] for name in class_names]
    rows = [np.array([number * _SPACING, 0.0, 0.0]) for number in range(len(designs))]
    corners = [_corners_of_both(_PAIR[name]) + row for name, row in zip(class_names, rows, strict=True)]
    nearest = 2 * _SPACING * len(designs)
    view = [point + row for point in _STREET_VIEW for row in (rows[0], rows[-1])]
    camera, height = _aim_camera(rng, np.concatenate([*corners, view]), width, nearest, 1.2 * nearest)
    image = Image.new("RGB", (width * SUPERSAMPLING, height * SUPERSAMPLING))
    ground = draw_scene(rng, image, camera)
    depth = [float(camera[2] @ [*row, 1.0]) for row in rows]
    for number in sorted(range(len(designs)), key=depth.__getitem__, reverse=True):  # the farthest first
        faces = [*shadow_faces(BODIES[designs[number].body], ground), *car_faces(designs[number])]
        _draw_faces(image, camera, [f._replace(corners=f.corners + rows[number]) for f in faces], _choose_paint(rng))
    boxes = [_box(project(camera, points) / SUPERSAMPLING) for points in corners]
    return Image.fromarray(_expose(rng, np.asarray(image.reduce(SUPERSAMPLING)))), boxes


@cache
def _corners_of_both(pair: TwinPair) -> Array:
    """The corners of both cars, N×3; both frame the photo, so that the framing does not reveal the class."""
    return np.concatenate([face.corners for name in (pair.first, pair.second) for face in car_faces(_DESIGN[name])])


def _choose_paint(rng: np.random.Generator) -> Paint:
    red, green, blue = PAINTS[rng.integers(len(PAINTS))] + rng.integers(-14, 15, 3)
    light = Light(1.0, front=rng.uniform(0.75, 1.1), flank=rng.uniform(0.75, 1.1), top=rng.uniform(1.0, 1.25))
    body = shaded((int(red), int(green), int(blue)), 1.0)
    return Paint(body=body, glass=shaded((84, 104, 122), rng.uniform(0.55, 1.1)), light=light)


def _aim_camera(
    rng: np.random.Generator, car: Array, width: int = WIDTH, nearest: float = 8, farthest: float = 13
) -> tuple[Array, int]:
    """A camera that has all corners of a car, N×3, well in view, and the height of its photos in pixels.

    It stands between `nearest` and `farthest` metres away, and its photos are `width` pixels wide. It is a 3×4 matrix
    that maps (x, y, z, 1) in metres to (column, row, 1)·w in pixels of the drawing.
    """
    yaw, pitch, roll = np.radians([rng.uniform(36, 54), rng.uniform(2, 6), rng.uniform(-4, 4)])
    distance, side = rng.uniform(nearest, farthest), rng.choice([-1.0, 1.0])
    toward = np.array([np.sin(yaw) * np.cos(pitch), np.cos(yaw) * np.cos(pitch), np.sin(pitch)])
    right = side * np.array([-np.cos(yaw), np.sin(yaw), 0.0])
    up = side * np.cross(toward, right)
    right, up = np.cos(roll) * right + np.sin(roll) * up, np.cos(roll) * up - np.sin(roll) * right
    turn = np.stack([right, -up, -toward / distance])
    camera = np.column_stack([turn, (0, 0, 1) - turn @ (0, 0, 0.7)])
    projected = project(camera, car)
    low, high = projected.min(axis=0), projected.max(axis=0)
    across, upright = rng.uniform((0.88, 0.78), (0.97, 0.88))  # the car's share of the photo's width and height
    scale = across * width * SUPERSAMPLING / (high[0] - low[0])
    height = round(scale * (high[1] - low[1]) / upright / SUPERSAMPLING)
    room = np.array([width, height]) * SUPERSAMPLING - scale * (high - low)
    column, row = rng.uniform((0.2, 0.35), (0.8, 0.65)) * room - scale * low
    framed: Array = np.array([[scale, 0, column], [0, scale, row], [0, 0, 1]]) @ camera
    return framed, height


def _draw_faces(image: Image.Image, camera: Array, faces: Sequence[Face], paint: Paint | None = None) -> None:
    """Draw faces in their order; without paint, all have the value 255."""
    if not faces:
        return
    coordinates = project(camera, np.concatenate([face.corners for face in faces])).ravel().tolist()
    draw, start, toward = ImageDraw.Draw(image), 0, -camera[2, :3]
    for face in faces:
        end = start + 2 * len(face.corners)
        if face.normal is None or toward @ face.normal > 0:
            draw.polygon(coordinates[start:end], fill=255 if paint is None else paint.on(face))
        start = end


def _box(corners: Array) -> tuple[int, int, int, int]:
    left, top = np.floor(corners.min(axis=0))
    right, bottom = np.ceil(corners.max(axis=0))
    return int(left), int(top), int(right), int(bottom)


def _put_before(image: Image.Image, mask: Image.Image, shapes: list[tuple[Array, Color]]) -> None:
    """Draw shapes over a photo and its mask, unless they hide more than 30% of the mask."""
    left = mask.copy()
    for corners, _ in shapes:
        ImageDraw.Draw(left).polygon(corners.ravel().tolist(), fill=0)
    if left.histogram()[255] < 0.7 * mask.histogram()[255]:
        return
    mask.paste(left)
    for corners, color in shapes:
        ImageDraw.Draw(image).polygon(corners.ravel().tolist(), fill=color)


def _expose(rng: np.random.Generator, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Simulate time of day, lens and sensor by tint, blur and noise."""
    tint = _TINTS[rng.integers(len(_TINTS))] * rng.uniform(0.85, 1.1)
    blurred = cv2.GaussianBlur(pixels, (_LENS, _LENS), rng.uniform(0.1, 0.8))
    grain = rng.uniform(1, 4) * rng.standard_normal((*pixels.shape[:2], 1), dtype=np.float32)
    exposed: NDArray[np.float32] = blurred * tint.astype(np.float32) + grain
    return np.clip(exposed, 0, 255).astype(np.uint8)
