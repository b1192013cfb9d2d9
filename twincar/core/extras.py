"""Which packages `twincar` and each of its extras require, read from the installed package's metadata."""

from __future__ import annotations

import re
from collections.abc import Collection
from importlib import metadata

BASE = ""
"""Key for the packages that are installed without any extra."""

ALL = "all"
"""The extra that includes all others."""

# Modules whose distribution has another name, apart from hyphens for underscores.
_DISTRIBUTION_OF = {"cv2": "opencv-python-headless", "pil": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml"}
_VERBS_WITHOUT_EXTRAS = {"predict", "similar", "index", "teach"}
_REQUIREMENT = re.compile(r"(?P<package>[\w.-]+)[^;]*(;.*extra == ['\"](?P<extra>[\w-]+)['\"])?")


def packages_by_extra() -> dict[str, list[str]]:
    """Names of the packages that `BASE` and each extra except `ALL` require; empty if there is no metadata."""
    found: dict[str, list[str]] = {}
    for requirement in _requirements():
        match = _REQUIREMENT.match(requirement)
        if match and match["extra"] != ALL:
            found.setdefault(match["extra"] or BASE, []).append(match["package"])
    return found


def requirements_of(*extras: str) -> list[str]:
    """The requirements of `twincar` itself and of some of its extras, for pip; empty if there is no metadata."""
    wanted = {BASE, *extras}
    found = [(line, _REQUIREMENT.match(line)) for line in _requirements()]
    return sorted(
        {line.partition(";")[0].strip() for line, match in found if match and (match["extra"] or BASE) in wanted}
    )


def installed_version(package: str) -> str | None:
    """The version of a package, without importing it; None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def how_to_install_alone(package: str) -> str:
    """The pip command that installs one package, in the version that the extras ask for, and not a whole extra."""
    asked = [line.partition(";")[0].strip() for line in _requirements()]
    return f"pip install '{next((line for line in asked if _name_in(line) == package), package)}'"


def how_to_install(module: str, words: Collection[str] = ()) -> str:
    """The pip command that installs a missing module.

    Args:
        module: its name, such as 'cv2' or 'lightning.pytorch'.
        words: the words of the command that needs it. If several extras include the module, the one whose name is among
            the words is chosen, such as 'serve'; a verb that works without extras needs the package alone; otherwise
            'train' is chosen, because most verbs need more of it.
    """
    top = module.partition(".")[0].lower()
    package = _DISTRIBUTION_OF.get(top, top.replace("_", "-"))
    extras = [extra for extra, packages in packages_by_extra().items() if package in packages]
    if BASE in extras:
        return "pip install twincar"
    if not extras:
        return f"pip install 'twincar[{ALL}]'"
    named = [extra for extra in extras if extra in words]
    if not named and _VERBS_WITHOUT_EXTRAS & set(words):
        return how_to_install_alone(package)
    return f"pip install 'twincar[{(named or sorted(extras, key=lambda extra: extra != 'train'))[0]}]'"


def _name_in(requirement: str) -> str:
    match = _REQUIREMENT.match(requirement)
    return match["package"] if match else ""


def _requirements() -> list[str]:
    try:
        return metadata.requires("twincar") or []
    except metadata.PackageNotFoundError:  # a checkout that was never installed
        return []
