"""What leaves this computer tells names, and no folder that they lie in."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

import twincar.core.local_paths
from twincar.core.config import TrainConfig
from twincar.core.labels import ClassNames
from twincar.core.preprocess import Preprocessing
from twincar.models.spec import ModelSpec


def test_doctests() -> None:
    result = doctest.testmod(twincar.core.local_paths)
    assert (result.attempted > 0, result.failed) == (True, 0)


@pytest.mark.parametrize(
    ("source", "told"), [("/home/ana/secret/cars", "cars"), ("../secret/cars", "cars"), ("hub:a/b", "hub:a/b")]
)
def test_a_model_tells_of_its_data_the_name_only(source: str, told: str) -> None:
    """However its spec was made, and in the header of a file that was written before."""
    spec = ModelSpec(
        backbone="tf_efficientnetv2_b0",
        head="linear",
        classes=ClassNames(("Aurora Falcon Sedan 2012",)),
        preprocessing=Preprocessing(height=64, width=96),
        provenance={"recipe": "toycars", "data": {"source": source, "revision": "abc"}},
    )
    assert spec.provenance == {"recipe": "toycars", "data": {"source": told, "revision": "abc"}}
    old = spec.to_header().replace(f'"source": "{told}"', f'"source": "{source}"')
    assert ModelSpec.from_header(old, "the file") == spec


def test_settings_tell_names_only() -> None:
    config = TrainConfig(data="/home/ana/secret/cars", pretrained=str(Path("/home/ana/weights.pth")))
    assert (config.without_paths().data, config.without_paths().pretrained) == ("cars", "weights.pth")
    assert TrainConfig(pretrained="hub").without_paths() == TrainConfig(pretrained="hub")
