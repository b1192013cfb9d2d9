"""Writes `docs/licences.md`: every package of the lock that is installed here, and its licence.

    python docs/licences.py

A licence that is neither permissive nor excused with a reason is an error, here and in the tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions
from pathlib import Path

PAGE = Path(__file__).with_name("licences.md")

PERMISSIVE = (
    r"0BSD|([23]-[Cc]lause |Modified )?BSD( License)?|BSD-[23]-Clause|BSL-1.0|CC0-1.0|ISC( License)?( \(ISCL\))?"
    r"|MIT( License|-CMU)?|PSF-2.0|Python Software Foundation License|Zlib|The Unlicense \(Unlicense\)|Unlicense"
    r"|Apache([- ]2.0| Software License| License,? Version 2.0)( WITH LLVM-exception)?"
)
"""What may be used in anything, in the words that packages have for it; a regular expression."""

EXCUSED = {
    r"MPL-2.0|Mozilla Public License 2.0 \(MPL 2.0\)": "its terms bind changes to its own files; none is changed",
    r"LicenseRef-NVIDIA-Proprietary|NVIDIA Proprietary Software": "brought by torch for GPUs; used, not given on",
}
"""Other licences that are agreed to, and why."""

UNTOLD = {
    "atheris": "Apache-2.0",  # its metadata name none; its LICENSE file does
    "cuda-toolkit": "LicenseRef-NVIDIA-Proprietary",  # a package without files that names NVIDIA's others
}
"""Of packages whose metadata do not say."""


def licence_of(package: Distribution) -> str:
    """In the words of its metadata: the expression, else the classifiers, else the first line of the text."""
    told = package.metadata
    classifiers = [name for name in told.get_all("Classifier", []) if name.startswith("License ::")]
    named = " AND ".join(name.rpartition(" :: ")[2] for name in classifiers if name != "License :: OSI Approved")
    first_line = next(iter((told.get("License") or "").strip().splitlines()), "")
    return told.get("License-Expression") or named or first_line or UNTOLD.get(told["Name"], "not told")


def refused(licence: str) -> list[str]:
    """The parts of a licence that are neither permissive nor excused; of an OR one that may be used is enough."""
    allowed = "|".join([PERMISSIVE, *EXCUSED])
    parts = re.split(r"\bAND\b", re.sub(r"\(([^()]* OR [^()]*)\)", r"\1", licence))
    return [
        part.strip()
        for part in parts
        if not any(re.fullmatch(allowed, choice.strip()) for choice in re.split(r"\bOR\b", part))
    ]


def page(packages: Iterable[Distribution]) -> str:
    """The whole page, Markdown."""
    rows = sorted({(p.metadata["Name"].lower(), p.version, licence_of(p)) for p in packages})
    lines = [f"| {name} | {version} | {licence} |" for name, version, licence in rows if name != "twincar"]
    reasons = "\n".join(f"- {words.replace('|', ', ')}: {reason}." for words, reason in EXCUSED.items())
    return (
        "# Licences of what TwinCar needs\n\nWritten by `python docs/licences.py` from the packages of "
        "`requirements.lock` that a\nLinux machine installs, development tools included. All are permissive but "
        f"these:\n\n{reasons}\n\n| package | version | licence |\n| --- | --- | --- |\n" + "\n".join(lines) + "\n"
    ).replace("\\", "")


if __name__ == "__main__":
    PAGE.write_text(page(distributions()), encoding="utf-8")
