"""A model's licence travels in its header, and nothing else than a licence gets out of there."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from twincar.core.errors import CheckpointError, UsageError
from twincar.core.labels import ClassNames, stanford_cars
from twincar.core.preprocess import Preprocessing
from twincar.deploy.model_card import DataFacts
from twincar.models.license import License, with_license
from twincar.models.spec import ModelSpec, TaughtClass

SPEC = ModelSpec(
    backbone="tf_efficientnetv2_b0",
    head="linear",
    classes=ClassNames(("Aurora Falcon Sedan 2012",)),
    preprocessing=Preprocessing(height=64, width=96),
)


def test_it_is_read_back_with_its_notice() -> None:
    spec = replace(with_license(SPEC, "cc-by-4.0"), license_notice="By Ana.")
    assert ModelSpec.from_header(spec.to_header(), "the file") == spec
    assert License.of(spec).id == "cc-by-4.0"
    assert with_license(spec, "cc-by-4.0") == spec
    assert with_license(spec, "mit").license_notice == ""


def test_a_model_that_tells_none_is_read() -> None:
    header = json.loads(SPEC.to_header())
    del header["license"], header["license_notice"]
    assert ModelSpec.from_header(json.dumps(header), "the file") == SPEC
    assert License.of(SPEC).id is None


def test_a_model_that_was_taught_keeps_the_terms_of_its_data() -> None:
    """The new class is not of Stanford Cars; whose its photos are is said beside them."""
    trained = replace(SPEC, classes=ClassNames(stanford_cars()), license="cc-by-nc-4.0")
    seat = TaughtClass(name="Seat Arona SUV 2018", photos=3, date="2026-05-31", sha256=("a", "b", "c"))
    taught = replace(trained, classes=ClassNames((*trained.classes.names, seat.name)), taught=(seat,))
    assert taught.before_teaching() == trained
    before, after = License.of(trained), License.of(taught)
    assert "Stanford Cars" in before.data
    assert after == replace(before, data=after.data)
    assert after.data.removeprefix(before.data) == (
        " The photos by which it was taught 1 car after training are those of whoever taught it."
    )
    assert DataFacts.of(taught) == DataFacts.of(trained)


@pytest.mark.parametrize("found", ["mit\nsdk: docker", "a b", "x" * 65, "<b>", ["mit"], None, 1])
def test_what_is_no_licence_is_refused(found: object) -> None:
    header = json.loads(SPEC.to_header()) | {"license": found}
    with pytest.raises(CheckpointError):
        ModelSpec.from_header(json.dumps(header), "the file")
    with pytest.raises(UsageError, match=r"such as 'cc-by-4\.0', but found"):
        with_license(SPEC, str(found) + " ")
