"""What the server sends: predictions, and errors with their codes.

An item has the keys of `photo_dict` and `Failure.to_dict`, with the conventions of this interface: what is absent is
null, and `top_k` is called as the option is. A photo has its width and height beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from twincar.core.errors import Defect
from twincar.core.options import Cars
from twincar.deploy.server.batching import Item, PhotoCars
from twincar.deploy.server.codes import HTTP_CODES, photo_code
from twincar.inference.results import Failure, photo_dict


def predictions(items: Sequence[Item], cars: Cars = "all") -> JSONResponse:
    """The response with all items; an error status if no photo could be read.

    Args:
        items: one for each photo.
        cars: 'main' if the list of all cars was not asked for.
    """
    body = {"predictions": [photo_item(item, cars) for item in items]}
    failures = [item for item in items if isinstance(item, Failure)]
    if len(failures) < len(items):
        return JSONResponse(body)
    too_large = all(failure.error.defect == Defect.TOO_LARGE for failure in failures)
    message, code = "Expected photos, but none of these could be read; see each.", "unreadable_photos"
    if len(failures) == 1:
        message, code = str(failures[0].error), photo_code(failures[0].error)
    return JSONResponse({"error": message, "code": code, **body}, 413 if too_large else 422)


def photo_item(item: Item, cars: Cars = "all") -> dict[str, Any]:
    """The result for one photo, as in `schema.PredictionItem` and `schema.Unreadable`."""
    if isinstance(item, Failure):
        return {**item.to_dict(), "code": photo_code(item.error)}
    assert isinstance(item, PhotoCars)
    row = photo_dict(item.cars)
    named = row.pop("cars")
    size = {"photo": row["photo"], "width": item.width, "height": item.height, "car_count": row["car_count"]}
    return {**size, **_car(row), "cars": None if cars == "main" else [_car(car) for car in named]}


def _car(row: dict[str, Any]) -> dict[str, Any]:
    levels = {level: {"name": name, "probability": value} for level, (name, value) in row["levels"].items()}
    known = {name: None if value == "" else value for name, value in row.items() if name != "topk"}
    return {**known, "levels": levels, "top_k": row["topk"]}


async def http_error(request: Request, error: Exception) -> JSONResponse:
    """The response to an error of the framework, such as an unknown path."""
    assert isinstance(error, HTTPException)
    code = HTTP_CODES.get(error.status_code, "http_error")
    message = f"{HTTPStatus(error.status_code).phrase}. See {request.scope['root_path']}/docs"
    headers = dict(error.headers or {})
    if headers.get("Allow") == "GET":
        headers["Allow"] = "GET, HEAD"  # HEAD is a separate route
    return JSONResponse({"error": message, "code": code}, error.status_code, headers)


def state(told: str, good: bool) -> JSONResponse:
    """The response to a probe."""
    return JSONResponse({"status": told}, 200 if good else 503)
