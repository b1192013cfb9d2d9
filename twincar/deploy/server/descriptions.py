"""What the OpenAPI description says about the bodies and refusals of requests, with an example that works."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

from PIL import Image
from pydantic import BaseModel

from twincar.deploy.server.schema import (
    PhotosAsForm,
    PhotosAsJson,
    Refused,
    RequestOptions,
    TeachAsForm,
    TeachAsJson,
    TeachOptions,
)

PREDICT_REFUSED = {
    400: "The body is damaged.",
    408: "The request did not arrive in time.",
    413: "Too many bytes, photos or pixels.",
    415: "Neither a form nor JSON nor a photo.",
    421: "The `Host` header names another computer, and the server listens on this one only.",
    422: "The request has an unknown or wrong option, or no photo could be read.",
    500: "Something went wrong inside the server.",
    503: "Too many photos are waiting; `Retry-After` says for how many seconds to wait.",
    504: "There was no response in time.",
}
FORGET_REFUSED = {
    409: "It was not taught this car.",
    421: PREDICT_REFUSED[421],
    422: "There is no name.",
    500: "Something went wrong inside the server.",
    503: "A car is being taught; `Retry-After` says for how many seconds to wait.",
    504: "It took too long; the model is as it was.",
    507: "The changed model could not be kept; the model is as it was.",
}
TEACH_REFUSED = {
    **PREDICT_REFUSED,
    **FORGET_REFUSED,
    409: "The model knows a car of this name, or the photos already.",
    422: "An unknown option, a photo that cannot be read or has no car, or photos of several cars.",
    503: "A car is being taught, or too many photos are waiting; `Retry-After` says for how many seconds to wait.",
}


def described(refused: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    """The refusals of a route, by status."""
    return {status: {"description": about, "model": Refused} for status, about in sorted(refused.items())}


def predict_body() -> dict[str, Any]:
    """The body of a request for predictions."""
    example = {"photos": [_photo()], "top_k": 3, "level": "make", "explain": True}
    return _body(PhotosAsForm, PhotosAsJson, RequestOptions, example)


def teach_body() -> dict[str, Any]:
    """The body of a request to teach a car."""
    return _body(TeachAsForm, TeachAsJson, TeachOptions, {"photos": [_photo()], "name": "Seat Arona SUV 2018"})


def _body(
    form: type[BaseModel], json: type[BaseModel], options: type[BaseModel], example: Mapping[str, Any]
) -> dict[str, Any]:
    """Of a route that reads its body itself, to refuse a large one before it is in memory."""
    kinds = {"multipart/form-data": form, "application/json": json}
    content: dict[str, Any] = {kind: {"schema": model.model_json_schema()} for kind, model in kinds.items()}
    content["application/json"]["example"] = dict(example)
    content["image/*"] = {"schema": {"type": "string", "format": "binary"}}
    return {"requestBody": {"required": True, "content": content}, "parameters": _parameters(options)}


def _parameters(options: type[BaseModel]) -> list[dict[str, Any]]:
    """The options in the address, for a photo as the body."""
    found = options.model_json_schema()["properties"]
    return [
        {"name": name, "in": "query", "required": False, "schema": schema, "description": f"Only with image/*. {about}"}
        for name, schema in found.items()
        for about in [schema.get("description", "")]
    ]


def _photo() -> str:
    picture = io.BytesIO()
    Image.new("L", (48, 32), 128).save(picture, "PNG")
    return base64.b64encode(picture.getvalue()).decode()
