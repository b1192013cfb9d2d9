"""In the Python reference, a default that is a named constant is shown by its value: 0.8 in place of CONFIDENCE."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import griffe


class Defaults(griffe.Extension):
    """Replaces the names once the package is loaded, because they may be imported from any of its modules."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Called by mkdocstrings."""
        for function in _functions(pkg):
            for parameter in function.parameters:
                name = str(parameter.default or "")
                if name.isidentifier() and name.isupper():
                    constant = function.module[name]
                    parameter.default = str(constant.final_target.value if constant.is_alias else constant.value)


def _functions(parent: griffe.Module | griffe.Class) -> Iterator[griffe.Function]:
    for member in parent.members.values():
        if isinstance(member, griffe.Function):
            yield member
        elif isinstance(member, griffe.Module | griffe.Class):
            yield from _functions(member)
