"""Draw the cars of a photo into it: a box around each, and its name."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from twincar.core.errors import UsageError
from twincar.core.files import write_bytes
from twincar.core.photos import Box, encode_photo, is_address, local_path, read_photo
from twincar.core.skipped import DRAWN
from twincar.core.wording import percent
from twincar.inference.results import Failure, Prediction, Status, by_photo

# What to trust, as on a terminal; of the palette of Okabe and Ito, which colour-blind people tell apart.
_COLORS = {Status.NAMED: "#009E73", Status.NAMED_IN_PART: "#E69F00"}
_UNNAMED = "#BBBBBB"
_TEXT, _TEXT_IN_STRIP = 1 / 40, 1 / 8  # height of the text, as a share of the longer and at most of the shorter side
_MANY = 12  # cars above which the text becomes smaller
_SMALLEST_TEXT = 12  # pixels
_JPEG = (".jpg", ".jpeg")
_QUALITY = 90  # of JPEG
_ABOUT_DRAWN = (
    b"Pictures of twincar predict --draw. While this file is here, a search for photos leaves the folder out.\n"
)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw_all(
    predictions: Iterable[Prediction | Failure], folder: Path, photos: Sequence[str]
) -> Iterator[Prediction | Failure]:
    """Write each photo with its boxes and names into a folder as JPEG; passes predictions on.

    A drawing has the photo's own size, and its name below the folder that all photos have in common, with '.jpg' added
    unless it is that of a JPEG. The folder gets the file `DRAWN`, so that no search for photos finds the drawings.

    Args:
        predictions: of each photo one after the other, the cars in their order.
        folder: a new or an empty folder.
        photos: the files, folders, patterns and addresses that name the photos, see `find_photos`.

    Raises:
        UsageError: the folder is not a new or an empty one.
        StorageError: it cannot be written.
        PhotoError: a photo cannot be read again.
    """
    if folder.exists() and (not folder.is_dir() or any(path.name != DRAWN for path in folder.iterdir())):
        raise UsageError(
            f"Expected a new or an empty folder for --draw, but {folder} holds something already. Delete it, or name "
            "another."
        )
    write_bytes(folder / DRAWN, _ABOUT_DRAWN)  # at once: the photos may be listed only while they are drawn
    return _draw_each(predictions, folder, len(_common([_folder_parts(name) for name in photos])))


def _draw_each(
    predictions: Iterable[Prediction | Failure], folder: Path, common: int
) -> Iterator[Prediction | Failure]:
    """`common` is the number of parts of their names that all photos have in common."""
    for cars in by_photo(predictions):
        if isinstance(cars, Failure):
            yield cars
            continue
        drawn = draw_cars(read_photo(cars[0].photo), cars)
        parts = _parts(cars[0].photo)
        path = folder.joinpath(*(parts[common:] or parts[-1:]))
        suffix = "" if path.suffix.lower() in _JPEG else ".jpg"
        write_bytes(path.with_name(f"{path.name}{suffix}"), encode_photo(drawn, "JPEG", quality=_QUALITY))
        yield from cars


def _parts(name: str) -> tuple[str, ...]:
    """The folders and the file of a path below the root of its disk, or of an address."""
    if is_address(name := local_path(name)):
        return tuple(part for part in name.split("/") if part not in ("", ".", ".."))
    return Path(os.path.abspath(name)).parts[1:]  # noqa: PTH100  # without following links


def _folder_parts(name: str) -> tuple[str, ...]:
    """The parts of the folder that holds all photos that a name or a pattern stands for."""
    parts = _parts(name)
    if Path(name).is_dir():
        return parts
    fixed = tuple(takewhile(lambda part: not glob.has_magic(part), parts))
    is_folder = len(fixed) < len(parts) or (is_address(name) and not PurePosixPath(name).suffix)
    return fixed if is_folder and not Path(name).exists() else parts[:-1]


def _common(names: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The parts with which all names begin."""
    columns = takewhile(lambda parts: len(set(parts)) == 1, zip(*names, strict=False))
    return tuple(parts[0] for parts in columns)


def draw_cars(photo: Image.Image, cars: Sequence[Prediction]) -> Image.Image:
    """A copy of an upright RGB photo with a box around each car, and its number and its name at the box.

    The box of a car that is named is green, of one that is named in part orange, and of any other grey. A photo of one
    car has no numbers. Where a name does not fit into the photo, there is the number alone.
    """
    picture, size = photo.copy(), photo.size
    smaller = min(1.0, (_MANY / len(cars)) ** 0.5)
    text_height = max(_SMALLEST_TEXT, round(min(max(size) * _TEXT, min(size) * _TEXT_IN_STRIP) * smaller))
    font = ImageFont.load_default(text_height)
    draw = ImageDraw.Draw(picture)
    boxes = [_within(car.box, size) for car in cars]
    colors = [_COLORS.get(car.status, _UNNAMED) for car in cars]
    for box, color, car in reversed(list(zip(boxes, colors, cars, strict=True))):  # the main car on top
        if car.box:
            draw.rectangle(box, outline="black", width=text_height // 5 + 2)
            draw.rectangle(_shrunk(box), outline=color, width=text_height // 5)
    placed: list[Box] = []
    for box, color, car in zip(boxes, colors, cars, strict=True):
        text = _wrapped(_label(car), draw, font, size[0])
        width, height = _text_size(text, draw, font)
        if width > size[0] or height > size[1]:
            text = str(car.car or "")
        placed.append(_place(_text_size(text, draw, font), box, placed, size))
        left, top, right, bottom = placed[-1]
        draw.rectangle((left, top, right - 1, bottom - 1), fill=color)
        pad = text_height // 4
        draw.multiline_text((left + pad, top + pad), text, fill=_contrast(color), font=font, anchor="la")
    return picture


def _label(car: Prediction) -> str:
    text = f"{car.answer.name} {percent(car.answer.probability)}" if car.answer else str(car.status)
    return f"{car.car} {text}" if car.car_count > 1 else text


def _within(box: Box | None, size: tuple[int, int]) -> Box:
    """The edges to draw, of which the last are inclusive."""
    left, top, right, bottom = box or (0, 0, *size)
    return left, top, max(right - 1, left), max(bottom - 1, top)


def _shrunk(box: Box) -> Box:
    left, top, right, bottom = box
    return (left + 1, top + 1, right - 1, bottom - 1) if right - left > 2 and bottom - top > 2 else box


def _wrapped(text: str, draw: ImageDraw.ImageDraw, font: Font, width: int) -> str:
    """The text in as many lines as it takes to be no wider than the photo."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and _text_size(longer, draw, font)[0] <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)


def _text_size(text: str, draw: ImageDraw.ImageDraw, font: Font) -> tuple[int, int]:
    """Width and height of a label, with its border."""
    _, _, right, bottom = draw.multiline_textbbox((0, 0), text, font=font, anchor="la")
    pad = round(getattr(font, "size", _SMALLEST_TEXT)) // 4
    return int(np.ceil(right)) + 2 * pad, int(np.ceil(bottom)) + 2 * pad


def _place(label: tuple[int, int], box: Box, placed: Sequence[Box], size: tuple[int, int]) -> Box:
    """Where a label goes: the first place at its box, and then further from it, that covers no other label.

    If there is none, the one that covers the least of others.
    """
    width, height = label
    left, top, right, bottom = box
    rows = [top - height, bottom + 1, top, bottom - height + 1]
    rows += [top - height - step * height for step in range(1, 4)] + [bottom + step * height for step in range(1, 4)]
    best, least = (0, 0, width, height), float("inf")
    for y in rows:
        for x in (left, right - width + 1, (left + right - width) // 2):
            x1 = min(max(x, 0), max(size[0] - width, 0))
            y1 = min(max(y, 0), max(size[1] - height, 0))
            place = (x1, y1, x1 + width, y1 + height)
            covered = sum(_overlap(place, other) for other in placed)
            if covered == 0:
                return place
            if covered < least:
                best, least = place, covered
    return best


def _overlap(first: Box, second: Box) -> int:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(width, 0) * max(height, 0)


def _contrast(color: str) -> str:
    """Black or white, whichever is easier to read on a colour (luminance by ITU-R BT.601)."""
    red, green, blue = ImageColor.getrgb(color)[:3]
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 110 else "white"
