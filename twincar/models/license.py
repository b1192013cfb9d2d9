"""The licence of a model's weights, from its header or its data; torch-free."""

from __future__ import annotations

from dataclasses import dataclass, replace

from twincar.core.errors import UsageError
from twincar.core.labels import ClassNames, stanford_cars
from twincar.core.wording import counted
from twincar.models.spec import LICENSE_ID, ModelSpec

TOYCARS = "toycars:"
"""Prefix of the source of toy cars; without the colon it may be the name of a folder."""


@dataclass(frozen=True)
class License:
    """The licences of the weights and of the data they were trained on."""

    id: str | None
    """Identifier on the hub, such as 'apache-2.0'; None if it is unknown."""
    name: str | None
    """A name, for the identifier 'other'."""
    weights: str
    """A phrase on the licence of the weights, for the model card."""
    data: str
    """The same for the data."""

    @classmethod
    def of(cls, spec: ModelSpec) -> License:
        """The licence in the model's header; otherwise that of its data, if it is known.

        Photos by which classes were added after training come from whoever added them, which the data then say.
        """
        trained = cls._of_trained(spec.before_teaching())
        if not spec.taught:
            return trained
        cars = counted(len(spec.taught), "car")
        added = f"The photos by which it was taught {cars} after training are those of whoever taught it."
        return replace(trained, data=f"{trained.data} {added}")

    @classmethod
    def _of_trained(cls, spec: ModelSpec) -> License:
        chosen = spec.license or None
        source = str((spec.provenance.get("data") or {}).get("source"))
        if source.startswith(TOYCARS):
            drawn = "drawn by TwinCar and, like it, under Apache-2.0."
            return cls(chosen or "apache-2.0", None, f"{chosen or 'Apache-2.0'}.", drawn)
        if is_stanford_cars(spec.classes):
            terms = "Stanford Cars (Krause et al., 2013), for non-commercial research; the photos are their owners'."
            if chosen is None:
                return cls("other", "non-commercial-research", "for non-commercial research, as the data are.", terms)
            return cls(chosen, None, f"{chosen}, as the publisher says.", terms)
        unknown = "not known when this card was made; ask the publisher."
        if chosen is None:
            return cls(None, None, "not named by the publisher. Ask before you use them.", unknown)
        return cls(chosen, None, f"{chosen}, as the publisher says.", unknown)


def with_license(spec: ModelSpec, license_id: str) -> ModelSpec:
    """The spec with a licence that the publisher names.

    Raises:
        UsageError: it is not in the form of the hub's identifiers.
    """
    if not LICENSE_ID.fullmatch(license_id):
        raise UsageError(f"Expected a licence as the hub spells it, such as 'cc-by-4.0', but found {license_id!r}.")
    kept = spec.license_notice if license_id == spec.license else ""
    return replace(spec, license=license_id, license_notice=kept)


def is_stanford_cars(classes: ClassNames) -> bool:
    """Whether every class is one of Stanford Cars, whatever the name of the data set."""
    known = ClassNames(stanford_cars())
    return all(known.find(name) is not None for name in classes.names)
