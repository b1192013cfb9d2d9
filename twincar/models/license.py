"""What a model's weights may be used for, from its header or its data; torch-free."""

from __future__ import annotations

from dataclasses import dataclass, replace

from twincar.core.errors import UsageError
from twincar.core.labels import ClassNames, stanford_cars
from twincar.models.spec import LICENSE_ID, ModelSpec

TOYCARS = "toycars:"
"""How the source of drawn cars begins; a folder may be called 'toycars' too."""


@dataclass(frozen=True)
class Licence:
    """Of the weights, in the hub's words and in ours, and of the data they come from."""

    id: str | None
    """As the hub spells it, such as 'apache-2.0'; None if nobody has said."""
    name: str | None
    """With the id 'other'."""
    weights: str
    data: str

    @classmethod
    def of(cls, spec: ModelSpec) -> Licence:
        """What the model's header names; else what the data ask for, where that is known."""
        chosen = spec.license or None
        source = str((spec.provenance.get("data") or {}).get("source"))
        if source.startswith(TOYCARS):
            drawn = "drawn by TwinCar and, as it, under Apache-2.0."
            return cls(chosen or "apache-2.0", None, f"{chosen or 'Apache-2.0'}.", drawn)
        if is_stanford_cars(spec.classes):
            terms = "Stanford Cars (Krause et al., 2013), for non-commercial research; the photos are their owners'."
            if chosen is None:
                return cls("other", "non-commercial-research", "for non-commercial research, as the data are.", terms)
            return cls(chosen, None, f"{chosen}, as the publisher says.", terms)
        untold = "the publisher's to tell; this card was made without knowing their licence."
        if chosen is None:
            return cls(None, None, "not named by the publisher. Ask before you use them.", untold)
        return cls(chosen, None, f"{chosen}, as the publisher says.", untold)


def with_license(spec: ModelSpec, license_id: str) -> ModelSpec:
    """The spec of a model whose publisher names a licence.

    Raises:
        UsageError: it is not an identifier as the hub spells them.
    """
    if not LICENSE_ID.fullmatch(license_id):
        raise UsageError(f"Expected a licence as the hub spells it, such as 'cc-by-4.0', but found {license_id!r}.")
    kept = spec.license_notice if license_id == spec.license else ""
    return replace(spec, license=license_id, license_notice=kept)


def is_stanford_cars(classes: ClassNames) -> bool:
    """Whether every class is one of Stanford Cars, whatever the data set is called."""
    known = ClassNames(stanford_cars())
    return all(known.find(name) is not None for name in classes.names)
