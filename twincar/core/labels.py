"""Class names and their indices; parsing a name into make, model, body and year.

Sources spell and order the same classes differently: a folder name cannot have a slash (`Ram C-V Cargo Van Minivan
2012`), some sources write underscores, the devkit counts from 1. So classes are always matched by name (`class_key`).
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property

from twincar.core.errors import LabelError
from twincar.core.files import read_asset
from twincar.core.wording import first_few

# Among cars of the last decades, every make but these is one word.
_TWO_WORD_MAKES = (
    "AM General",
    "Alfa Romeo",
    "Aston Martin",
    "Great Wall",
    "Land Rover",
    "Rolls Royce",
    "Mercedes Benz",
)
_BODIES = re.compile(
    r"\b(?:(?:Extended|Regular|Crew|Quad|Club) Cab|SuperCab|Convertible|Hatchback|Minivan|Sedan|Coupe|Wagon|SUV|Van)\b"
)
# Names of Stanford Cars without a body, for cars that were sold with one body only. The Jaguar XK XKR was sold with
# two, so its body stays empty.
_BODY_NOT_IN_NAME = {
    "Acura TL Type-S": "Sedan",
    "Acura Integra Type R": "Hatchback",
    "Buick Regal GS": "Sedan",
    "Chevrolet Corvette ZR1": "Coupe",
    "Chevrolet Corvette Ron Fellows Edition Z06": "Coupe",
    "Chevrolet HHR SS": "Wagon",
    "Chevrolet Cobalt SS": "Coupe",
    "Chevrolet TrailBlazer SS": "SUV",
    "Chrysler 300 SRT-8": "Sedan",
    "Dodge Challenger SRT8": "Coupe",
    "Dodge Charger SRT-8": "Sedan",
    "FIAT 500 Abarth": "Hatchback",
    "Lamborghini Gallardo LP 570-4 Superleggera": "Coupe",
}
_YEAR = re.compile(r"(?:18|19|20)\d\d")


@dataclass(frozen=True, kw_only=True)
class CarName:
    """The parts of a class name; those that the name lacks are empty (year: None)."""

    make: str
    model: str = ""
    body: str = ""
    year: int | None = None


def parse_class_name(name: str) -> CarName:
    """Split a class name of the form `Make Model [Body] [Year]`.

    The body is the last word that names one ('Ram C/V Cargo Van Minivan 2012' is a minivan), else the known body of
    that car of Stanford Cars, else empty.

    >>> parse_class_name("AM General Hummer SUV 2000")
    CarName(make='AM General', model='Hummer', body='SUV', year=2000)
    >>> parse_class_name("Infiniti G Coupe IPL 2012")
    CarName(make='Infiniti', model='G IPL', body='Coupe', year=2012)
    """
    words = name.split()
    year = int(words.pop()) if len(words) > 1 and _YEAR.fullmatch(words[-1]) else None
    rest = " ".join(words)
    make = next((make for make in _TWO_WORD_MAKES if rest.startswith(make + " ")), words[0] if words else "")
    model = rest[len(make) :].strip()
    bodies = list(_BODIES.finditer(model))
    if not bodies:
        return CarName(make=make, model=model, body=_BODY_NOT_IN_NAME.get(rest, ""), year=year)
    last = bodies[-1]
    model = " ".join((model[: last.start()] + model[last.end() :]).split())
    return CarName(make=make, model=model, body=last.group(), year=year)


def class_key(name: str) -> str:
    """A key that is equal for all spellings of one class: without case, with separators as single spaces.

    >>> class_key("Ram C/V Cargo Van Minivan 2012") == class_key("ram_C-V_cargo van Minivan 2012")
    True
    """
    return re.sub(r"[\s/\\:_-]+", " ", unicodedata.normalize("NFC", name)).strip().casefold()


def slug(name: str) -> str:
    """A name as part of a file name: lower-case letters of any script and digits, joined by hyphens.

    >>> slug("Ram C/V Cargo Van Minivan 2012")
    'ram-c-v-cargo-van-minivan-2012'
    """
    return re.sub(r"[\W_]+", "-", class_key(name)).strip("-")


@cache
def stanford_cars() -> tuple[str, ...]:
    """The 196 class names of Stanford Cars, in the order of the devkit's `cars_meta.mat`."""
    text = read_asset("stanford_cars_196.txt")
    return tuple(text.splitlines())


@cache
def _stanford_by_key() -> dict[str, str]:
    return {class_key(name): name for name in stanford_cars()}


def canonical_name(name: str) -> str:
    """The spelling to show: that of Stanford Cars if the class is one of its 196, else the name as given.

    >>> canonical_name("Ram C-V Cargo Van Minivan 2012")
    'Ram C/V Cargo Van Minivan 2012'
    """
    return _stanford_by_key().get(class_key(name)) or " ".join(unicodedata.normalize("NFC", name).split())


def make_changes(names: Sequence[str]) -> list[int]:
    """The indices of names whose make is not that of the name before; none if no two neighbours share a make.

    >>> make_changes(["Audi S4 Sedan 2012", "Audi TT Coupe 2011", "BMW M3 Coupe 2012"])
    [2]
    """
    makes = [parse_class_name(name).make for name in names]
    changes = [index for index in range(1, len(makes)) if makes[index] != makes[index - 1]]
    return changes if len(changes) < len(makes) - 1 else []


@dataclass(frozen=True)
class ClassNames:
    """The classes of a data set or model, in the order of their indices.

    Raises:
        LabelError: there is no class, a name is empty, or one class is there twice (also in two spellings).
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.names:
            raise LabelError("Expected at least one class name, but found none.")
        seen: dict[str, str] = {}
        for name in self.names:
            key = class_key(name)
            if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
                raise LabelError(f"Expected class names without control characters, in UTF-8, but found {name!r}.")
            if not key:
                raise LabelError(f"Expected every class to have a name, but found {name!r}.")
            if key in seen:
                raise LabelError(
                    f"Expected every class once, but found {seen[key]!r} and {name!r}, which are the same class."
                )
            seen[key] = name

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> str:
        return self.names[index]

    @cached_property
    def _by_key(self) -> dict[str, int]:
        return {class_key(name): index for index, name in enumerate(self.names)}

    def find(self, name: str) -> int | None:
        """The index of the class called `name` in any spelling, or None."""
        return self._by_key.get(class_key(name))

    def index(self, name: str) -> int:
        """The index of the class called `name` in any spelling.

        Raises:
            LabelError: there is none.
        """
        index = self.find(name)
        if index is None:
            near = difflib.get_close_matches(name[:200], self.names, n=3, cutoff=0.4)
            hint = f"; similar names are {', '.join(near)}" if near else ""
            raise LabelError(f"Expected the name of one of {len(self)} classes, but found {name!r}{hint}.")
        return index

    @cached_property
    def cars(self) -> tuple[CarName, ...]:
        """Make, model, body and year of every class, in the order of the indices."""
        return tuple(parse_class_name(name) for name in self.names)

    def indices_in(self, other: ClassNames) -> list[int]:
        """For each class here, its index in `other`, matched by name.

        Raises:
            LabelError: a class here is not in `other`.
        """
        missing = [name for name in self.names if other.find(name) is None]
        if missing:
            raise LabelError(
                f"Expected every class of the data among the {len(other)} that the model knows, but {len(missing)} of "
                f"{len(self)} are not: {shorten(missing)}. Use a model trained on these classes, or leave them out."
            )
        return [other._by_key[class_key(name)] for name in self.names]

    def to_rows(self) -> list[dict[str, object]]:
        """One row per class, as in `classes.json`: index, name, make, model, body, year."""
        return [
            {"index": index, "name": name, **asdict(car)}
            for index, (name, car) in enumerate(zip(self.names, self.cars, strict=True))
        ]


def shorten(items: Iterable[str], show: int = 3) -> str:
    """The first few of `items`, quoted, and the number of the others, for messages."""
    return first_few(map(repr, items), show)
