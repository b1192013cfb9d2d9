"""What is installed beside TwinCar: the lock is whole, and every licence is one that may be used."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from email.message import Message
from importlib.metadata import Distribution, distributions
from pathlib import Path
from types import ModuleType

import pytest
from axe import AXE
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from twincar.deploy.web_runtime import PACKAGE, VERSION

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def licences() -> ModuleType:
    spec = importlib.util.spec_from_file_location("licences", ROOT / "docs" / "licences.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Package(Distribution):
    """A package that says this of itself."""

    def __init__(self, **told: str) -> None:
        self.told = Message()
        for name, value in {"Name": "thing", "Version": "1", **told}.items():
            self.told[name.replace("_", "-")] = value

    @property
    def metadata(self) -> Message:  # type: ignore[override]
        return self.told

    def read_text(self, filename: str) -> str | None:  # noqa: ARG002
        return None

    def locate_file(self, path: object) -> Path:
        return Path(str(path))


def entries(lock: str) -> dict[tuple[str, str], set[str]]:
    """Of each package and version of a lock, the hashes."""
    found: dict[tuple[str, str], set[str]] = {}
    for entry in re.split(r"\n(?=\S)", (ROOT / lock).read_text(encoding="utf-8").strip()):
        first, *hashes = entry.replace("\\\n", "\n").splitlines()
        requirement = Requirement(first.strip())
        (pin,) = requirement.specifier
        assert pin.operator == "=="
        assert hashes, first
        assert all(re.fullmatch(r"\s+--hash=sha256:[0-9a-f]{64}\s*", line) for line in hashes), first
        found[canonicalize_name(requirement.name), pin.version] = {line.strip() for line in hashes}
    return found


def locked(lock: str = "requirements.lock") -> dict[str, list[str]]:
    """The versions that a lock has of each package."""
    versions: dict[str, list[str]] = {}
    for name, version in entries(lock):
        versions.setdefault(name, []).append(version)
    return versions


def test_the_lock_holds_all_that_is_asked_for() -> None:
    """Nothing is resolved when it is installed, so what it lacks would be missing."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project, versions = content["project"], locked()
    extras = project["optional-dependencies"]
    groups = content["dependency-groups"]
    asked = [*project["dependencies"], *groups["build"], *(line for line in groups["dev"] if isinstance(line, str))]
    asked += [line for extra in ("train", "serve", "demo", "cluster", "quantize") for line in extras[extra]]
    check_holds(asked, versions)


def test_the_lock_of_the_quickstart_is_a_part_of_the_other() -> None:
    """All that training asks for, but not what torch imports without, nor what only other extras need."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    small, whole = entries("requirements-quickstart.lock"), entries("requirements.lock")
    assert {pin: whole.get(pin) for pin in small} == small
    asked = [*content["project"]["dependencies"], *content["dependency-groups"]["build"]]
    check_holds([*asked, *content["project"]["optional-dependencies"]["train"]], locked("requirements-quickstart.lock"))
    left_out = {name for name, _ in whole} - {name for name, _ in small}
    assert left_out > {"triton", "nvidia-cusolver", "nncf", "openvino", "ray", "gradio", "playwright", "atheris"}


def test_the_lock_of_the_container_is_a_part_of_the_other() -> None:
    """What `serve` asks for on Linux; it is installed without resolving anything."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    small, whole = entries("requirements-serve.lock"), entries("requirements.lock")
    assert {pin: whole.get(pin) for pin in small} == small
    extras = content["project"]["optional-dependencies"]
    check_holds([*content["project"]["dependencies"], *extras["serve"]], locked("requirements-serve.lock"))
    assert {name for name, _ in whole} - {name for name, _ in small} > {"torch", "gradio", "pytest", "hatchling"}


def check_holds(asked: list[str], versions: dict[str, list[str]]) -> None:
    for requirement in map(Requirement, asked):
        found = versions.get(canonicalize_name(requirement.name), [])
        assert found, requirement
        assert all(requirement.specifier.contains(version) for version in found), (requirement, found)


def test_what_is_installed_has_what_it_needs() -> None:
    """As `pip check` has it."""
    installed = {canonicalize_name(package.metadata["Name"]): package.version for package in distributions()}
    for package in distributions():
        if canonicalize_name(package.metadata["Name"]) not in locked():
            continue
        for requirement in map(Requirement, package.requires or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                version = installed.get(canonicalize_name(requirement.name))
                assert version is not None, (package.metadata["Name"], requirement)
                assert requirement.specifier.contains(version, prereleases=True), (package.metadata["Name"], version)


def test_every_licence_may_be_used(licences: ModuleType) -> None:
    own = locked()
    told = {p.metadata["Name"]: licences.licence_of(p) for p in distributions() if canonicalize_name(p.name) in own}
    assert len(told) > 150
    assert {name: licence for name, licence in told.items() if licences.refused(licence)} == {}


@pytest.mark.parametrize(
    ("told", "refused"),
    [
        ({"License_Expression": "GPL-3.0-or-later"}, ["GPL-3.0-or-later"]),
        ({"License_Expression": "MIT AND LGPL-2.1-only"}, ["LGPL-2.1-only"]),
        ({"License_Expression": "MPL-2.0 AND (AGPL-3.0-only OR MIT)"}, []),
        ({"Classifier": "License :: OSI Approved :: GNU Affero GPL v3"}, ["GNU Affero GPL v3"]),
        ({"License": "GPL\nwith much text"}, ["GPL"]),
        ({"License": "BSD-3-Clause"}, []),
        ({}, ["not told"]),
    ],
)  # fmt: skip
def test_a_copyleft_licence_is_noticed(licences: ModuleType, told: dict[str, str], refused: list[str]) -> None:
    assert licences.refused(licences.licence_of(Package(**told))) == refused


def test_make_fetches_the_packages_of_npm_that_the_page_and_the_tests_take() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (fetched,) = re.findall(r"^NPM_PACKAGES := (.*)$", makefile, re.MULTILINE)
    assert fetched.split() == [f"{PACKAGE}@{VERSION}", AXE]


def test_the_page_of_licences_has_what_is_no_package_of_python(licences: ModuleType) -> None:
    assert licences.PAGE.read_text(encoding="utf-8").endswith(licences.NPM + licences.OTHERS), (
        "run: python docs/licences.py"
    )
