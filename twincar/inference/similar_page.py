"""The page with the cars that look most like one."""

from __future__ import annotations

from pathlib import PurePath

from twincar.core.errors import PhotoError
from twincar.core.html import picture_uri, render
from twincar.core.photos import Box, read_photo
from twincar.core.user_files import text_name
from twincar.inference.similar import SimilarCars


def similar_page(found: SimilarCars) -> str:
    """The page as self-contained HTML, with a picture of each car; a photo that is no longer there is named."""
    return render(
        "similar.html.jinja",
        title=f"Cars like {PurePath(text_name(found.photo)).name}",
        photo=_short(found.photo),
        picture=_picture(found.photo, found.box, 640),
        is_car=found.is_car,
        compared=found.compared,
        no_car=found.no_car,
        failures=len(found.failures),
        cars=[
            {**car.to_dict(), "photo": _short(car.photo), "picture": _picture(car.photo, car.box)} for car in found.cars
        ],
    )


def _short(name: str) -> str:
    """The folder and the name of a photo; the path above them is that of this computer."""
    return "/".join(PurePath(text_name(name)).parts[-2:])


def _picture(name: str, box: Box | None, longest: int = 320) -> str:
    """The car as a `data:` URI; empty if the photo cannot be read."""
    try:
        photo = read_photo(name)
    except PhotoError:
        return ""
    return picture_uri(photo.crop(box) if box else photo, longest)
