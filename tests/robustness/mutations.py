"""Mutations of files and requests, such as an attacker or a broken disk makes; all are drawn from a seed."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence

_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
TOKENS = (
    b"../", b"../../../../etc/passwd", b"/etc/passwd", b"..\\", b"C:\\", b"\x00", b"~/", b"file:///etc/passwd",
    b"http://127.0.0.1:9/x", b"\xff\xfe", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xc2\xb2", b"null", b"true", b"{}", b"[]",
    b"NaN", b"Infinity", b"-1", b"0", b"1e999", b"9" * 30, b"9" * 5000, b"[" * 2000, b'{"a":' * 2000, b"&a [*a]", b"*a",
    b"<<: *a", b"!!python/object/apply:os.system", b"!!binary", b"!!timestamp", b"!!int", b"0x", b"1:1:1",
    b"2024-99-99", b'""', b'"', b"'", b",", b"\n", b"\r", b"\r\n", b"\t", b":", b"=", b"--b", b"--b--\r\n", b"%s%n",
    b"A" * 70000,
)  # fmt: skip
"""What parsers of text trip over."""


def mutate(data: bytes, others: Sequence[bytes], rng: random.Random, *, most: int = 1 << 20) -> bytes:
    """Make one to six changes to `data`, which may insert parts of `others`; the result has at most `most` bytes."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        rng.choice(_CHANGES)(changed, others, rng)
    return bytes(changed[:most])


def _place(data: bytearray, rng: random.Random) -> int:
    """A position; half of them are at the front, where headers are."""
    return rng.randrange(min(len(data), 256) + 1) if rng.random() < 0.5 else rng.randrange(len(data) + 1)


def _flip(data: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    if data:
        data[min(_place(data, rng), len(data) - 1)] ^= 1 << rng.randrange(8)


def _set_byte(data: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    if data:
        data[min(_place(data, rng), len(data) - 1)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))


def _set_number(data: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    form = rng.choice(("<H", ">H", "<I", ">I", "<Q"))
    number = rng.choice(_NUMBERS) & ((1 << 8 * struct.calcsize(form)) - 1)
    place = _place(data, rng)
    data[place : place + struct.calcsize(form)] = struct.pack(form, number)


def _insert_token(data: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    place = _place(data, rng)
    data[place:place] = rng.choice(TOKENS)


def _replace_by_token(data: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    """Replace a word, number or cell by a token."""
    place = _place(data, rng)
    start, end = place, place
    while start > 0 and (data[start - 1 : start].isalnum() or data[start - 1] in b"_.-"):
        start -= 1
    while end < len(data) and (data[end : end + 1].isalnum() or data[end] in b"_.-"):
        end += 1
    data[start:end] = rng.choice(TOKENS)


def _insert_noise(data: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    place = _place(data, rng)
    data[place:place] = rng.randbytes(rng.choice((1, 2, 8, 64)))


def _delete(data: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    place = _place(data, rng)
    del data[place : place + rng.choice((1, 2, 4, 16, 256))]


def _truncate(data: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    del data[_place(data, rng) :]


def _repeat(data: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    place = _place(data, rng)
    part = bytes(data[place : place + rng.choice((1, 4, 32, 512))])
    data[place:place] = part * rng.choice((1, 2, 30))


def _splice(data: bytearray, others: Sequence[bytes], rng: random.Random) -> None:
    other = rng.choice(others)
    place, taken = _place(data, rng), rng.randrange(len(other) + 1)
    data[place:] = other[taken:]


_CHANGES: tuple[Callable[[bytearray, Sequence[bytes], random.Random], None], ...] = (
    _flip, _flip, _set_byte, _set_byte, _set_number, _set_number, _insert_token, _replace_by_token, _replace_by_token,
    _insert_noise, _delete, _truncate, _repeat, _splice,
)  # fmt: skip
