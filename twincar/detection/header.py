"""The header of a detector file: what it takes, and what it finds."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from twincar.core.errors import CheckpointError

HEADER_KEY = "twincar.detector"
"""Key of the header, as JSON, in the metadata of an ONNX file."""

Fit = Literal["squash", "letterbox"]
_KINDS: dict[str, tuple[type, ...]] = {
    "classes": (list, tuple),
    "cars": (list, tuple),
    "fit": (str,),
    "threshold": (int, float),
}


@dataclass(frozen=True, kw_only=True)
class DetectorHeader:
    """What a detector file says of itself."""

    classes: tuple[str, ...]
    """Names of its classes, in the order of its scores."""
    cars: tuple[str, ...]
    """Those that are cars."""
    fit: Fit
    """How a photo becomes its input: 'squash' resizes it without keeping its aspect ratio; 'letterbox' keeps it, puts
    the photo at the top left and fills the rest with grey (114)."""
    threshold: float
    """Least probability of a car that is reported."""

    def __post_init__(self) -> None:
        if not self.classes or not all(isinstance(name, str) and name for name in self.classes):
            raise ValueError("classes are not names")
        if not self.cars or not set(self.cars) <= set(self.classes):
            raise ValueError(f"cars are {list(self.cars)}, but classes are {list(self.classes)[:5]}")
        if self.fit not in get_args(Fit):
            raise ValueError(f"fit is {self.fit!r}, not 'squash' or 'letterbox'")
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold is {self.threshold}, not between 0 and 1")

    def to_json(self) -> str:
        """The text that is stored in a file."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str, name: str) -> DetectorHeader:
        """Read the text of a file; `name` is the file's name in messages.

        Raises:
            CheckpointError: it is not a header.
        """
        try:
            values = _checked(json.loads(text))
            names = {key: tuple(values[key]) for key in ("classes", "cars")}
            return cls(**names, fit=values["fit"], threshold=float(values["threshold"]))
        except (ValueError, TypeError, RecursionError, OverflowError) as error:
            raise CheckpointError(
                f"Expected classes, cars, fit and threshold as JSON in the metadata {HEADER_KEY!r} of {name}, "
                f"but found a mistake: {error}"
            ) from None


def _checked(values: Any) -> dict[str, Any]:
    if not isinstance(values, dict) or set(values) != set(_KINDS):
        raise ValueError(f"its keys are {sorted(values) if isinstance(values, dict) else 'missing'}")
    for key, kind in _KINDS.items():
        if not isinstance(values[key], kind) or isinstance(values[key], bool):
            raise ValueError(f"{key} is {str(values[key])[:40]!r}")
    return values
