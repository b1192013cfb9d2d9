"""Parse the body of a request into photos and options.

Photos are bytes: no name, path or address that a client sends is ever opened or fetched.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import MappingProxyType
from typing import TypeVar
from urllib.parse import unquote

from pydantic import BaseModel, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from twincar.core.errors import Defect
from twincar.core.wording import counted
from twincar.deploy.server.codes import UploadError
from twincar.deploy.server.limits import Limits, Refusal
from twincar.deploy.server.schema import JsonPhotos
from twincar.inference.results import Failure

Options = TypeVar("Options", bound=BaseModel)

_LABEL = 100  # characters of a file name that a response repeats
_FIELD = 1000  # bytes of an option in a form
_SPARE_VALUES = 64  # in JSON, beyond those of the photos
_DATA_URL = re.compile(r"data:[^,]{0,1000};base64,", re.IGNORECASE)  # a media type and its parameters (RFC 2397)
_STANDARD = bytes.maketrans(b"-_", b"+/")  # from the alphabet for addresses (RFC 4648, section 5)
_SPACE = b" \t\r\n"
_EXTENDED_NAME = re.compile(rb""";\s*filename\*\s*=\s*"?(?:[\w-]*'[^']*')?([^;"]*)""", re.IGNORECASE)
_ASKED = re.compile(r"^(input|string) should (be|have) |, unable to .*")  # of pydantic's sentences
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_NONE: Mapping[str, str] = MappingProxyType({})
_JSON, _FORM = "application/json", "multipart/form-data"


@dataclass(frozen=True)
class Upload:
    """An uploaded photo."""

    label: str
    """Its name in the response."""
    data: bytes


def parse_body(
    content_type: str, body: bytes, limits: Limits, options: type[Options], query: Mapping[str, str] = _NONE
) -> tuple[list[Upload | Failure], Options]:
    """The photos (or failures), in their order, and the options for all.

    Args:
        content_type: of the request.
        body: a form, JSON, or one photo.
        limits: on the number and bytes of photos.
        options: those that the request may have.
        query: those that are in its address, which only those of one photo may be.

    Raises:
        Refusal: the body is of another type or damaged, has no photos or too many, or has an unknown option.
    """
    kind, parameters = parse_options_header(content_type)
    if kind == _FORM.encode():
        uploads, fields = _from_form(parameters.get(b"boundary", b""), body, limits, len(options.model_fields))
    elif kind == _JSON.encode():
        uploads, fields = _from_json(body, limits)
    elif is_photo(content_type):
        uploads, fields = [Upload("photo 1", body)], dict(query)
    else:
        found = repr(_printable(content_type)) if content_type else "none"
        raise Refusal(
            415, "unsupported_type", f"Expected a Content-Type of {_FORM}, {_JSON} or image/*, but found {found}."
        )
    if not uploads:
        raise Refusal(422, "no_photos", "Expected at least one photo in the field 'photos', but found none.")
    chosen = _validated(lambda: options.model_validate(fields), ("photos", *options.model_fields))
    return [_checked(upload, limits) for upload in uploads], chosen


def is_photo(content_type: str) -> bool:
    """Whether the body of a request is a photo itself."""
    return content_type.lower().startswith("image/")


def label_of(name: str, otherwise: str) -> str:
    """A file name for the response: its last part, printable, of limited length."""
    return _printable(re.split(r"[/\\]", name)[-1]) or otherwise


def _printable(text: str) -> str:
    return "".join(character for character in text if character.isprintable())[:_LABEL].strip()


@dataclass
class _FormPart:
    """One part of a form."""

    header: bytearray = field(default_factory=bytearray)
    headers: dict[str, bytes] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)

    @property
    def names(self) -> tuple[str, str | None]:
        """The name of the field, and of the file if it is one."""
        header = self.headers.get("content-disposition", b"")
        _, options = parse_options_header(header)
        file = options.get(b"filename")
        field = options.get(b"name", b"").decode(errors="replace")
        return field, _extended_name(header) if file is None else file.decode(errors="replace")


def _extended_name(header: bytes) -> str | None:
    """The file name of a part with only `filename*=` (RFC 8187), which some programs send although forms should not."""
    found = _EXTENDED_NAME.search(header)
    return unquote(found[1].decode(errors="replace"), errors="replace") if found else None


class _Form:
    """Parses a form, and stops at the first part above the limit."""

    def __init__(self, photos: int, options: int) -> None:
        self.parts: list[_FormPart] = []
        self._photos = photos
        self._most = photos + options
        self._name = ""
        self._ended = False

    def parse(self, boundary: bytes, body: bytes) -> list[_FormPart]:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._collect_header,
                "on_header_value": self._collect_value,
                "on_header_end": self._end_header,
                "on_part_data": lambda data, start, end: self.parts[-1].data.extend(memoryview(data)[start:end]),
                "on_end": self._end,
            },
        )
        parser.write(body)
        parser.finalize()
        if self.parts and not self._ended:  # the parser accepts that, but the last photo may be cut off
            raise FormParserError("it is truncated")
        return self.parts

    def _end(self) -> None:
        self._ended = True

    def _begin(self) -> None:
        if len(self.parts) == self._most:
            raise _too_many(self._photos)
        self.parts.append(_FormPart())

    def _collect_header(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end].decode("latin-1").lower()

    def _collect_value(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].header += data[start:end]

    def _end_header(self) -> None:
        part = self.parts[-1]
        part.headers[self._name], part.header, self._name = bytes(part.header), bytearray(), ""


def _from_form(
    boundary: bytes, body: bytes, limits: Limits, options: int
) -> tuple[list[Upload | Failure], dict[str, object]]:
    if not boundary:
        kind = f"{_FORM}; boundary=..."
        message = f"Expected a Content-Type of {kind}, but it has no boundary. Let your program set this header itself."
        raise Refusal(400, "malformed_body", message)
    try:
        parts = _Form(limits.photos, options).parse(boundary, body)
    except (FormParserError, ValueError) as error:
        raise Refusal(400, "malformed_body", f"Expected a whole form, but it is damaged: {error}.") from None
    uploads: list[Upload | Failure] = []
    fields: dict[str, object] = {}
    for part in parts:
        name, file = part.names
        if file is not None and name != "photos":
            message = f"Expected photos in the field 'photos', but found a file in {_printable(name)!r}."
            raise Refusal(422, "invalid_option", f"{message} With curl: -F photos=@car.jpg")
        if file is not None:
            uploads.append(Upload(label_of(file, f"photo {len(uploads) + 1}"), bytes(part.data)))
        elif name == "photos":
            raise Refusal(422, "invalid_option", "Expected photos as files, but found text: curl -F photos=@car.jpg")
        else:
            fields[name] = _text(name, part.data)
    if len(uploads) > limits.photos:
        raise _too_many(limits.photos)
    return uploads, fields


def _text(name: str, data: bytearray) -> str:
    """The text of an option, which may become the name of a class; so nothing of it is cut off or replaced."""
    with suppress(UnicodeDecodeError):
        if len(data) <= _FIELD:
            return data.decode()
    message = f"Expected at most {_FIELD} bytes of UTF-8 in the field {_printable(name)!r}, but found something else."
    raise Refusal(422, "invalid_option", message)


def _from_json(body: bytes, limits: Limits) -> tuple[list[Upload | Failure], dict[str, object]]:
    # Base64 has none of these characters. A megabyte of '[],' takes forty in memory, so it is refused unparsed.
    if sum(body.count(character) for character in (b",", b"[", b"{")) > 2 * limits.photos + _SPARE_VALUES:
        message = f"Expected an object with at most {limits.photos} photos, but found more values than that can have."
        raise Refusal(413, "too_many_photos", message)
    found = _validated(lambda: JsonPhotos.model_validate_json(body), ("photos",))
    if len(found.photos) > limits.photos:
        raise _too_many(limits.photos)
    uploads = [_from_base64(text, f"photo {number}") for number, text in enumerate(found.photos, start=1)]
    return uploads, found.model_extra or {}


def _from_base64(text: str, label: str) -> Upload | Failure:
    data = text[match.end() :] if (match := _DATA_URL.match(text)) else text
    try:
        standard = data.encode("ascii").translate(_STANDARD, _SPACE)
        padding = b"=" * (-len(standard) % 4)  # often omitted in the URL-safe alphabet
        return Upload(label, base64.b64decode(standard + padding, validate=True))
    except (binascii.Error, ValueError):
        found = "an address; nothing is fetched" if _ADDRESS.match(text) else "something else"
        message = f"Expected the bytes of {label} as base64, but found {found}."
        return Failure(label, UploadError("invalid_base64", Defect.NOT_AN_IMAGE, message))


def _checked(upload: Upload | Failure, limits: Limits) -> Upload | Failure:
    if isinstance(upload, Failure) or len(upload.data) <= limits.photo_bytes:
        return upload
    message = f"Expected a photo of at most {limits.photo_bytes // 2**20} MiB in {upload.label}, but it is larger."
    return Failure(upload.label, UploadError("too_many_bytes", Defect.TOO_LARGE, message))


def _validated(read: Callable[[], Options], fields: Sequence[str]) -> Options:
    """What `read` returns; its first error as a sentence, in which `fields` are those that there may be."""
    try:
        return read()
    except ValidationError as error:
        every = error.errors(include_url=False, include_context=False)
        first = min(every, key=lambda one: one["type"] != "extra_forbidden")  # it may be why another is missing
        where = ".".join(str(part) for part in first["loc"])[:_LABEL]
        said = first["msg"].removeprefix("Value error, ")
        reason = f"{said[:1].lower()}{said[1:]}"
        if first["type"] == "json_invalid":
            raise Refusal(400, "malformed_body", f"Expected JSON in the body, but it is none: {reason}.") from None
        if first["type"] == "missing":
            message = f"Expected the field {where!r}, but it is missing."
        elif first["type"] == "extra_forbidden":
            close = get_close_matches(where, fields, 1)
            asked = f" Did you mean {close[0]!r}?" if close else ""
            message = f"Expected no fields but {', '.join(fields)}, but found {_printable(where)!r}.{asked}"
        else:
            sent = first["input"]
            found = repr(_printable(str(sent))) if isinstance(sent, str | int | float) else "something else"
            asked = _ASKED.sub("", reason).replace("greater than or equal to", "at least")
            asked = asked.replace("less than or equal to", "at most")
            wanted = f"{asked} in the field {where!r}" if where else "an object in the body"
            message = f"Expected {wanted}, but found {found}."
        raise Refusal(422, "invalid_option", message) from None


def _too_many(most: int) -> Refusal:
    message = f"Expected at most {counted(most, 'photo')} per request, but found more."
    return Refusal(413, "too_many_photos", message)
