"""The codes of errors, by which programs tell them apart: of refused requests, and of photos that cannot be read.

Each is in the field `code` of a response, and most are labels of the metrics.
"""

from __future__ import annotations

from typing import Literal

from twincar.core.errors import Defect, PhotoError
from twincar.inference.teach_errors import TeachCode

RefusalCode = Literal[
    "unauthorized", "client_too_slow", "too_large", "too_many_photos", "unsupported_type", "malformed_body",
    "invalid_option", "no_photos", "queue_full", "memory_full", "timeout", "teaching",
    "not_taught", "model_changed", "not_kept",
]  # fmt: skip
"""Why a request was refused by a route."""
OtherCode = Literal[
    "not_found", "method_not_allowed", "wrong_host", "unreadable_photos", "internal_error", "invalid_http",
    "too_many_connections", "http_error",
]  # fmt: skip
"""What else may be in the place of a response."""
PhotoCode = Literal[
    "empty", "not_an_image", "unsupported_format", "truncated", "too_many_bytes", "too_many_pixels", "invalid_base64",
]  # fmt: skip
"""Why a photo could not be read."""
AnyRefusalCode = RefusalCode | TeachCode | PhotoCode
"""The last two for a car that cannot be taught."""

HTTP_CODES: dict[int, OtherCode | RefusalCode] = {401: "unauthorized", 404: "not_found", 405: "method_not_allowed"}
"""Of the errors of the framework, by status; `http_error` is any other."""
_OF_DEFECT: dict[Defect, PhotoCode] = {
    Defect.EMPTY: "empty",
    Defect.UNSUPPORTED: "unsupported_format",
    Defect.TRUNCATED: "truncated",
    Defect.TOO_LARGE: "too_many_pixels",
}


class UploadError(PhotoError):
    """A photo that is not even decoded."""

    def __init__(self, code: PhotoCode, defect: Defect, message: str) -> None:
        super().__init__(defect, message)
        self.code = code


def photo_code(error: PhotoError) -> PhotoCode:
    """Why a photo could not be read."""
    return error.code if isinstance(error, UploadError) else _OF_DEFECT.get(error.defect, "not_an_image")
