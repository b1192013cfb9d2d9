"""Which extra brings what, read from metadata."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from twincar.core import extras

REQUIREMENTS = [
    "numpy>=1.26",
    'openvino>=2025.2 ; extra == "openvino"',
    "fastapi>=0.120; extra == 'all'",
    "fastapi>=0.120; extra == 'serve'",
    "prometheus-client>=0.22; extra == 'serve'",
    "ray[data]>=2.50; (python_version < '3.14') and extra == 'cluster'",
    "pyarrow>=18; extra == 'cluster'",
    "opencv-python-headless>=4.10; extra == 'train'",
    "nncf>=3.0; extra == 'quantize'",
    "openvino>=2025.2; extra == 'quantize'",
    "pyarrow>=18; extra == 'train'",
    "jinja2>=3.1; extra == 'train'",
]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras.metadata, "requires", lambda _: REQUIREMENTS)


@pytest.mark.usefixtures("told")
def test_packages_are_sorted_by_the_extra_that_brings_them() -> None:
    assert extras.packages_by_extra() == {
        "": ["numpy"],
        "openvino": ["openvino"],
        "serve": ["fastapi", "prometheus-client"],
        "cluster": ["ray", "pyarrow"],
        "train": ["opencv-python-headless", "pyarrow", "jinja2"],
        "quantize": ["nncf", "openvino"],
    }


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize(
    ("module", "words", "command"),
    [
        ("numpy.linalg", (), "pip install twincar"),
        ("cv2", (), "pip install 'twincar[train]'"),
        ("fastapi", ("twincar", "serve"), "pip install 'twincar[serve]'"),
        ("prometheus_client", (), "pip install 'twincar[serve]'"),
        ("pyarrow", ("twincar", "prepare"), "pip install 'twincar[train]'"),
        ("pyarrow.parquet", ("twincar", "cluster"), "pip install 'twincar[cluster]'"),
        ("jinja2", ("twincar", "similar", "car.jpg"), "pip install 'jinja2>=3.1'"),
        ("pyarrow", ("twincar", "teach", "cars"), "pip install 'pyarrow>=18'"),
        ("openvino", ("twincar", "export"), "pip install 'twincar[openvino]'"),
        ("nncf.quantization", ("twincar", "export"), "pip install 'twincar[quantize]'"),
        ("something_else", (), "pip install 'twincar[all]'"),
    ],
)
def test_a_missing_module_leads_to_its_extra(module: str, words: tuple[str, ...], command: str) -> None:
    assert extras.how_to_install(module, words) == command


def test_without_metadata_there_is_still_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> None:
        raise extras.metadata.PackageNotFoundError

    monkeypatch.setattr(extras.metadata, "requires", missing)
    assert extras.packages_by_extra() == {}
    assert extras.how_to_install("torch") == "pip install 'twincar[all]'"


def test_all_is_every_other_extra_that_is_free_of_the_gpl() -> None:
    path = Path(__file__).resolve().parents[3] / "pyproject.toml"
    declared = tomllib.loads(path.read_text())["project"]["optional-dependencies"]
    del declared["heic"]  # its wheel holds a GPL library, which is for each user to choose
    assert declared.pop("all") == [f"twincar[{','.join(sorted(declared))}]"]
