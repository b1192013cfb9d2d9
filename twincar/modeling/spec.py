"""What there is to know of a model but its weights; travels as JSON inside every model file. Torch-free."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from twincar.choices import Arithmetic, Head
from twincar.errors import CheckpointError, TwinCarError
from twincar.labels import ClassNames
from twincar.modeling.calibration import Calibration
from twincar.preprocess import Preprocessing

HEADER_KEY = "twincar"
"""Name of the entry in a model file's metadata that holds the header."""

_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """All there is to know of a model but its weights."""

    backbone: str
    """timm name."""
    head: Head
    """Kind of classifier."""
    classes: ClassNames
    """In the order of the logits."""
    preprocessing: Preprocessing
    """How photos become its input."""
    calibration: Calibration = field(default_factory=Calibration)
    """How far its logits can be trusted; of published weights nothing is known."""
    arithmetic: Arithmetic = "fp32"
    """Of an exported model; a checkpoint is always fp32."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Where it comes from: recipe, data, epoch, scores, versions; for people, not for loading."""

    def to_header(self) -> str:
        """The spec as JSON."""
        header = {
            "format": _FORMAT,
            "backbone": self.backbone,
            "head": self.head,
            "preprocessing": asdict(self.preprocessing),
            "classes": self.classes.to_rows(),
            "calibration": asdict(self.calibration),
            "arithmetic": self.arithmetic,
            "provenance": dict(self.provenance),
        }
        return json.dumps(header, ensure_ascii=False)

    @classmethod
    def from_header(cls, text: str, source: str) -> ModelSpec:
        """Read a header back; `source` is what messages call the file.

        Raises:
            CheckpointError: it is damaged, or of a later format.
        """
        try:
            header = json.loads(text)
            if header["format"] != _FORMAT:
                raise CheckpointError(
                    f"Expected a model of format {_FORMAT} in {source}, and found {header['format']!r}. Update twincar."
                )
            classes = ClassNames(tuple(row["name"] for row in header["classes"]))
            if header["classes"] != classes.to_rows():
                raise CheckpointError(
                    f"Expected classes in the order of their indices in {source}; the header is damaged."
                )
            return cls(
                backbone=header["backbone"],
                head=header["head"],
                classes=classes,
                preprocessing=Preprocessing(**header["preprocessing"]),
                calibration=_read_calibration(header.get("calibration", {})),
                arithmetic=header.get("arithmetic", "fp32"),
                provenance=header["provenance"],
            )
        except TwinCarError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"Expected a TwinCar model in {source}, and its header is damaged: {error!r}"
            ) from None


def _read_calibration(values: Mapping[str, Any]) -> Calibration:
    """From JSON, which has lists for tuples; models made before there was any have none."""
    entries: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    calibration = Calibration(**entries)
    if not calibration.temperature > 0:
        raise ValueError(f"a temperature of {calibration.temperature}")
    return calibration
