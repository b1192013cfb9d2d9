"""The model that is served now. Teaching replaces it as a whole; a request keeps the one that it began with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from twincar.core.files import sha256_of_file
from twincar.core.version import __version__
from twincar.deploy.server.limits import Limits
from twincar.inference.classifier import Classifier
from twincar.models.license import License

_UNCALIBRATED = ("val_loss", "val_ece", "val_brier")


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A classifier, and the hash of its file."""

    classifier: Classifier
    sha256: str | None
    """None for a model that is not one file."""

    @classmethod
    def of(cls, classifier: Classifier) -> ServedModel:
        """Hash the file of a classifier."""
        path = classifier.path
        return cls(classifier, sha256_of_file(path) if path is not None and path.is_file() else None)

    def describe(self, name: str, limits: Limits) -> dict[str, Any]:
        """The description for clients, as in `schema.ModelDescription`."""
        spec = self.classifier.spec
        terms = License.of(spec)
        return {
            "name": name,
            "sha256": self.sha256,
            "version": __version__,
            "engine": self.classifier.engine.name,
            "arithmetic": spec.arithmetic,
            "backbone": spec.backbone,
            "head": spec.head,
            "input": asdict(spec.preprocessing),
            "framing": spec.framing,
            "finds_cars": self.classifier.finder is not None,
            "calibration": {
                "temperature": spec.calibration.temperature,
                "photos": spec.calibration.photos,
                "confidence": self.classifier.min_confidence,
                "false_rejection": self.classifier.false_rejection,
            },
            "license": {"id": terms.id, "weights": terms.weights, "data": terms.data},
            "provenance": _calibrated_only(spec.provenance),
            "limits": {
                "request_bytes": limits.request_bytes,
                "photo_bytes": limits.photo_bytes,
                "photo_pixels": limits.photo_pixels,
                "photos": limits.photos,
            },
            "taught": [{"name": car.name, "photos": car.photos, "date": car.date} for car in spec.taught],
            "classes": spec.classes.to_rows(),
        }


def _calibrated_only(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The provenance without the scores that were taken before calibration, which are not those of this model."""
    validation = provenance.get("validation")
    if not isinstance(validation, Mapping):
        return dict(provenance)
    return {**provenance, "validation": {name: validation[name] for name in validation if name not in _UNCALIBRATED}}
