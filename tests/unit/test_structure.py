"""The package as text: files, functions and their parameters stay as short as CONTRIBUTING says."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import twincar

LONGEST_FILE = 350  # lines
LONGEST_FUNCTION = 60  # lines, from `def` to the last
MOST_PARAMETERS = 8  # outside cli/, where each flag is one

ROOT = Path(twincar.__file__).parent


def breaches(name: str, source: str) -> Iterator[str]:
    """What is too long in a module, given its path in the package."""
    lines = len(source.splitlines())
    if lines > LONGEST_FILE:
        yield f"{name}: {lines} lines"
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        where = f"{name}:{function.lineno} {function.name}"
        length = (function.end_lineno or 0) - function.lineno + 1
        if length > LONGEST_FUNCTION:
            yield f"{where}: {length} lines"
        count = len(parameters(function))
        if count > MOST_PARAMETERS and not name.startswith("cli/"):
            yield f"{where}: {count} parameters"


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Names of the parameters, `*args` and `**kwargs` among them, without `self` and `cls`."""
    given = function.args
    names = [argument.arg for argument in (*given.posonlyargs, *given.args)]
    names = names[1:] if names[:1] in (["self"], ["cls"]) else names
    further = [argument for argument in (given.vararg, *given.kwonlyargs, given.kwarg) if argument]
    return [*names, *(argument.arg for argument in further)]


def test_files_and_functions_are_short_and_take_few_parameters() -> None:
    found = [
        breach
        for path in sorted(ROOT.rglob("*.py"))
        for breach in breaches(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("name", "source", "found"),
    [
        ("a.py", "x = 1\n" * 350, []),
        ("a.py", "x = 1\n" * 351, ["a.py: 351 lines"]),
        ("a.py", "def f():\n" + "    x = 1\n" * 59, []),
        ("a.py", "class A:\n    async def f(self):\n" + "        x = 1\n" * 60, ["a.py:2 f: 61 lines"]),
        ("a.py", "class A:\n    def f(self, a, b, /, c, d, *e, f, g, **h): ...\n", []),
        ("a.py", "def f(a, b, /, c, d, *e, f, g, h, **i): ...\n", ["a.py:1 f: 9 parameters"]),
        ("a.py", "def outer():\n    def f(a, b, c, d, e, f, g, h, i): ...\n", ["a.py:2 f: 9 parameters"]),
        ("cli/a.py", "def f(a, b, c, d, e, f, g, h, i): ...\n", []),
    ],
)
def test_what_is_too_long_is_found(name: str, source: str, found: list[str]) -> None:
    assert list(breaches(name, source)) == found
