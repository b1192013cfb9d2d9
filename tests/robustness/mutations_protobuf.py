"""Unusual encodings of protocol buffers, which parsers interpret differently, so that a check could be bypassed.

The wire format is that of https://protobuf.dev/programming-guides/encoding; the messages' types need not be known.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

VARINT, FIXED64, LENGTH, GROUP, GROUP_END, FIXED32 = range(6)
_FIXED = {FIXED64: 8, FIXED32: 4}
_DEEPEST = 8  # messages within messages


@dataclass(frozen=True)
class Field:
    """One field of a message, and how unusually it is encoded."""

    number: int
    wire: int
    value: bytes | int
    tag_bytes: int = 0
    """At least so many, more than it needs."""
    tag_bits: int = 0
    """Added to the tag, above the 32 that count."""
    value_bytes: int = 0
    """At least so many for the number, or for the length."""

    def encode(self) -> bytes:
        """Its bytes in the message."""
        tag = varint(self.number << 3 | self.wire | self.tag_bits << 32, self.tag_bytes)
        if isinstance(self.value, int):
            return tag + varint(self.value, self.value_bytes)
        return tag + (varint(len(self.value), self.value_bytes) if self.wire == LENGTH else b"") + self.value


def varint(number: int, least: int = 0) -> bytes:
    """A number of seven bits a byte, in `least` bytes or more."""
    written = bytearray()
    while number > 0x7F or len(written) + 1 < least:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*written, number])


def read_fields(message: bytes) -> list[Field]:
    """The fields of a message.

    Raises:
        ValueError: it is not a message.
    """
    fields, place = [], 0
    while place < len(message):
        tag, place = _read_varint(message, place)
        value: bytes | int
        if tag & 7 == VARINT:
            value, place = _read_varint(message, place)
        else:
            if tag & 7 == LENGTH:
                size, place = _read_varint(message, place)
            elif tag & 7 in _FIXED:
                size = _FIXED[tag & 7]
            else:
                raise ValueError("a group")
            value = message[place : place + size]
            place += size
        if tag < 8 or place > len(message):
            raise ValueError("no message")
        fields.append(Field(tag >> 3, tag & 7, value))
    return fields


def _read_varint(message: bytes, place: int) -> tuple[int, int]:
    number = shift = 0
    while place < len(message) and shift < 70:
        number |= (message[place] & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if message[place - 1] < 0x80:
            return number, place
    raise ValueError("no number")


def rewrite(message: bytes, path: tuple[int, ...], change: Callable[[Field], list[Field]]) -> bytes:
    """The message with `change` made to each field that is reached by the numbers of `path`; the last may be any, 0."""
    written = []
    for field in read_fields(message):
        if field.number != path[0] and path[0]:
            changed = [field]
        elif len(path) == 1:
            changed = change(field)
        else:
            assert isinstance(field.value, bytes)
            changed = [replace(field, value=rewrite(field.value, path[1:], change))]
        written += [part.encode() for part in changed]
    return b"".join(written)


def mutate_message(data: bytes, rng: random.Random) -> bytes:
    """One to three changes to a message, or to messages within it, that keep its meaning for a lenient parser."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        data = _mutate_once(data, rng, _DEEPEST)
    return data


def _mutate_once(data: bytes, rng: random.Random, depth: int) -> bytes:
    try:
        fields = read_fields(data)
    except ValueError:
        return data
    if not fields:
        return data
    inner = [place for place, field in enumerate(fields) if field.wire == LENGTH and field.value]
    if depth and inner and rng.random() < 0.75:
        place = rng.choice(inner)
        value = fields[place].value
        assert isinstance(value, bytes)
        fields[place] = replace(fields[place], value=_mutate_once(value, rng, depth - 1))
    else:
        rng.choice(_CHANGES)(fields, rng.randrange(len(fields)), rng)
    return b"".join(field.encode() for field in fields)


def _lengthen_tag(fields: list[Field], place: int, rng: random.Random) -> None:
    fields[place] = replace(fields[place], tag_bytes=rng.randrange(2, 12))


def _overflow_tags(fields: list[Field], place: int, rng: random.Random) -> None:
    """Of all fields with that number and the next: a tensor in another file needs two."""
    hidden, bits = (fields[place].number, fields[place].number + 1), 1 << rng.choice((0, 1, 2, 3, 20))
    fields[:] = [replace(field, tag_bits=bits) if field.number in hidden else field for field in fields]


def _lengthen_value(fields: list[Field], place: int, rng: random.Random) -> None:
    fields[place] = replace(fields[place], value_bytes=rng.randrange(2, 12))


def _repeat(fields: list[Field], place: int, rng: random.Random) -> None:
    fields.insert(rng.randrange(len(fields) + 1), fields[place])


def _shuffle(fields: list[Field], _: int, rng: random.Random) -> None:
    rng.shuffle(fields)


def _split(fields: list[Field], place: int, rng: random.Random) -> None:
    """A message in two halves, which a parser merges."""
    value = fields[place].value
    if isinstance(value, int):
        return
    try:
        parts = read_fields(value)
    except ValueError:
        return
    cut = rng.randrange(len(parts) + 1)
    halves = (b"".join(part.encode() for part in half) for half in (parts[:cut], parts[cut:]))
    fields[place : place + 1] = [replace(fields[place], value=half) for half in halves]


def _wrap_in_group(fields: list[Field], place: int, rng: random.Random) -> None:
    number = rng.choice((fields[place].number, 99))
    inside = fields[place].value if fields[place].wire == LENGTH and rng.random() < 0.5 else fields[place].encode()
    assert isinstance(inside, bytes)
    end = Field(number, GROUP_END, b"").encode()
    fields[place] = Field(number, GROUP, inside + end)


def _add_unknown(fields: list[Field], place: int, rng: random.Random) -> None:
    number = rng.choice((0, 99, 19_000, (1 << 29) - 1, 1 << 29))
    fields.insert(place, replace(rng.choice(_UNKNOWN), number=number))


_UNKNOWN = (
    Field(0, VARINT, 1),
    Field(0, LENGTH, b"ab"),
    Field(0, FIXED32, b"abcd"),
    Field(0, 6, b""),
    Field(0, 7, b""),
)
_CHANGES = (
    _lengthen_tag, _overflow_tags, _overflow_tags, _lengthen_value, _repeat, _shuffle, _split, _wrap_in_group,
    _add_unknown,
)  # fmt: skip
