"""The specification of a model without its weights; stored as JSON inside every model file. Torch-free."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, get_args

from twincar.core.errors import CheckpointError, TwinCarError
from twincar.core.labels import ClassNames
from twincar.core.local_paths import name_only
from twincar.core.options import Arithmetic, Framing, Head
from twincar.core.preprocess import Preprocessing
from twincar.models.calibration import Calibration

HEADER_KEY = "twincar"
"""Key of the header in a model file's metadata."""

NOT_VALIDATED = "not_validated"
"""Key in the provenance of the list of classes without validation photos."""
LICENSE_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9.+-]{0,63}")
"""The form of a licence identifier on the hub."""

_FORMAT = 2
_MAX_TEMPERATURE = 1e6
_MAX_PIXELS = 1 << 25  # of a photo resized for the crop; 4096×4096 at a crop of 0.875 has 22 million


@dataclass(frozen=True, kw_only=True)
class TaughtClass:
    """A class that was added to a trained model by a few photos; see `inference.teach`."""

    name: str
    photos: int
    """Number of photos it was taught by."""
    date: str
    """Day on which it was taught last, such as '2026-05-31'."""
    sha256: tuple[str, ...]
    """Hashes of the photo files, or of the pixels of images in memory; the photos themselves are not kept."""


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Everything about a model except its weights."""

    backbone: str
    """Its timm name."""
    head: Head
    """Kind of classification head."""
    classes: ClassNames
    """In the order of the logits."""
    preprocessing: Preprocessing
    """How photos become its input."""
    framing: Framing = "photo"
    """Whether it was trained on photos that are cut to the car, so that cars have to be found and cut out first."""
    margin: float = 0.0
    """What such a cut keeps around the car, on each side, as a share of the box's width or height."""
    calibration: Calibration = field(default_factory=Calibration)
    """Temperature and score quantiles; empty for third-party weights."""
    arithmetic: Arithmetic = "fp32"
    """Arithmetic of an exported model; a checkpoint is always fp32."""
    taught: tuple[TaughtClass, ...] = ()
    """The classes that were added after training; they are the last of `classes`, in this order."""
    license: str = ""
    """Licence of the weights by its identifier on the hub, such as 'cc-by-nc-4.0'; empty if it is unknown."""
    license_notice: str = ""
    """The notice that the licence requires: who owns the weights, and its terms or where to read them."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """The origin of the model: recipe, data, epoch, scores, versions, classes without validation photos. It is for
    people and not needed for loading.

    It is given to others with the model, and therefore has only the names of local folders, not their paths.
    """

    def __post_init__(self) -> None:
        data = self.provenance.get("data")
        if isinstance(data, Mapping) and isinstance(data.get("source"), str):
            data = {**data, "source": name_only(data["source"])}
            object.__setattr__(self, "provenance", {**self.provenance, "data": data})

    def before_teaching(self) -> ModelSpec:
        """The same without the classes that were added after training; its calibration is as it is now."""
        names = self.classes.names[: len(self.classes) - len(self.taught)]
        return replace(self, classes=ClassNames(names), taught=())

    def to_header(self) -> str:
        """The spec as JSON."""
        header = {
            "format": _FORMAT,
            "backbone": self.backbone,
            "head": self.head,
            "preprocessing": asdict(self.preprocessing),
            "framing": self.framing,
            "margin": self.margin,
            "classes": self.classes.to_rows(),
            "calibration": asdict(self.calibration),
            "arithmetic": self.arithmetic,
            "taught": [asdict(taught) for taught in self.taught],
            "license": self.license,
            "license_notice": self.license_notice,
            "provenance": dict(self.provenance),
        }
        return json.dumps(header, ensure_ascii=False)

    @classmethod
    def from_header(cls, text: str, source: str) -> ModelSpec:
        """Parse a header; `source` is the name of the file in messages.

        Raises:
            CheckpointError: it is damaged, or of another format.
        """
        try:
            header = json.loads(text)
            if header["format"] != _FORMAT:
                raise CheckpointError(
                    f"Expected a model of format {_FORMAT} in {source}, but found {header['format']!r}. Update twincar "
                    "if that is a later format; train or export the model again if it is an earlier one."
                )
            classes = ClassNames(tuple(row["name"] for row in header["classes"]))
            if header["classes"] != classes.to_rows():
                raise CheckpointError(
                    f"Expected classes in the order of their indices in {source}; the header is damaged."
                )
            return cls(
                backbone=_text(header["backbone"]),
                head=_one_of(get_args(Head), header["head"]),
                classes=classes,
                preprocessing=_read_preprocessing(header["preprocessing"]),
                framing=_one_of(get_args(Framing), header["framing"]),
                margin=_share(header["margin"]),
                calibration=_read_calibration(header.get("calibration", {})),
                arithmetic=_one_of(get_args(Arithmetic), header.get("arithmetic", "fp32")),
                taught=_read_taught(header.get("taught", []), classes),
                license=_license(header.get("license", "")),
                license_notice=_text(header.get("license_notice", "")),
                provenance=_mapping(header["provenance"]),
            )
        except TwinCarError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            raise CheckpointError(
                f"Expected a TwinCar model in {source}, but its header is damaged: {error!r}"
            ) from None


def _read_calibration(values: Mapping[str, Any]) -> Calibration:
    """From JSON, which has lists for tuples; the header of an old model may have no calibration."""
    entries: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    calibration = Calibration(**entries)
    if not 1 / _MAX_TEMPERATURE <= calibration.temperature <= _MAX_TEMPERATURE:
        raise ValueError(f"a temperature of {calibration.temperature}")
    quantiles = (
        calibration.max_logit_quantiles,
        calibration.max_logit_zscore_quantiles,
        calibration.min_quantile_quantiles,
    )
    if len({bool(listed) for listed in quantiles}) > 1 or not all(map(_is_rising, quantiles)):
        raise ValueError("quantiles that do not rise, or are missing")
    if not isinstance(calibration.photos, int):
        raise TypeError(f"{calibration.photos!r} photos")
    return calibration


def _read_taught(rows: Any, classes: ClassNames) -> tuple[TaughtClass, ...]:
    """From JSON; the names must be those of the last classes."""
    taught = tuple(TaughtClass(**{**row, "sha256": tuple(row["sha256"])}) for row in rows)
    if [found.name for found in taught] != list(classes.names[len(classes) - len(taught) :]):
        raise ValueError("taught classes that are not the last ones")
    if not all(isinstance(found.photos, int) and isinstance(found.date, str) for found in taught):
        raise TypeError("taught classes without a number of photos or a date")
    return taught


def _is_rising(quantiles: Any) -> bool:
    return all(map(math.isfinite, quantiles)) and list(quantiles) == sorted(quantiles)


def _read_preprocessing(values: Mapping[str, Any]) -> Preprocessing:
    """From JSON, checked for possible values, because later code relies on them."""
    found = Preprocessing(**values)
    if not isinstance(found.height, int) or not isinstance(found.width, int) or not isinstance(found.squash, bool):
        raise TypeError(f"an input of {found.height!r}×{found.width!r} pixels")
    if not (min(found.height, found.width) >= 1 and 0 < found.crop <= 1):
        raise ValueError(f"an input of {found.height}×{found.width} pixels, a crop of {found.crop}")
    if found.height * found.width / found.crop**2 > _MAX_PIXELS:
        raise ValueError(f"an input of {found.height}×{found.width} pixels, more than {_MAX_PIXELS}")
    return found


def _one_of(known: tuple[Any, ...], value: Any) -> Any:
    if value not in known:
        raise ValueError(f"{value!r} instead of {' or '.join(known)}")
    return value


def _share(value: Any) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"{value!r} instead of a share from 0 to 1")
    return float(value)


def _license(value: Any) -> str:
    if _text(value) and not LICENSE_ID.fullmatch(value):
        raise ValueError(f"{value[:100]!r} instead of a licence")
    return str(value)


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} instead of an object")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} instead of a name")
    return value
