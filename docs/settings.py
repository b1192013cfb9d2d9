"""Writes `docs/settings.md` from the program itself: every setting of a training, and what each recipe sets.

python docs/settings.py
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from pydantic import TypeAdapter

from twincar.cli import app
from twincar.core.augmentation import AugmentConfig
from twincar.core.config import FLAGS, TrainConfig
from twincar.core.recipes import RECIPES

PAGE = Path(__file__).with_name("settings.md")
_HEAD = """\
# Settings of a training

Written from the program by `make docs`. `twincar train DATA --set NAME=VALUE` changes any of them, such as `--set
epochs=40` or `--set augment.flip=0`, as often as you like; a column names the shorter flag of those that have one. In a
file for `--config` they are written as in `config.yaml`, which each run keeps:

```yaml
recipe: lite
epochs: 40
augment:
  flip: 0
```

In Python they are the arguments of `train`: `twincar.train("data/my_cars", recipe="lite", epochs=40, augment={"flip":
0})`. Recipe < file < flags: the later one wins.

The input of a network is given as height×width everywhere, a photo as width×height, as cameras do.
"""
_GROUPS = {
    "recipe": "The run",
    "backbone": "Network",
    "image_height": "Input",
    "epochs": "Optimisation",
    "precision": "Machine",
}
"""The heading before each of these settings."""


def page() -> str:
    """The whole page, Markdown."""
    flags = _flags()
    parts = [_HEAD]
    for row in _rows(TrainConfig, flags):
        parts += _heading(_GROUPS[row[0]]) if row[0] in _GROUPS else []
        parts.append(_line(row))
    parts += [*_heading("Augmentation"), *map(_line, _rows(AugmentConfig, flags, "augment."))]
    return "\n".join([*parts, *_recipes()]) + "\n"


def _heading(title: str) -> list[str]:
    header = ("setting", "what it is", "values", "default", "flag")
    return [f"\n## {title}\n", f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}"]


def _rows(kind: type[Any], flags: Mapping[str, str], prefix: str = "") -> Iterator[Sequence[str]]:
    """Name, meaning, values, default and flag of each setting."""
    meanings = _meanings(kind)
    for name, schema in TypeAdapter(kind).json_schema()["properties"].items():
        if name != "augment":  # has a table of its own
            default = _shown(schema["default"])
            yield (
                name if not prefix else f"{prefix}{name}",
                meanings[name],
                _values(schema),
                default,
                flags.get(name, ""),
            )


def _line(row: Sequence[str]) -> str:
    name, meaning, values, default, flag = row
    cells = [f"`{name}`", meaning, values, f"`{default}`" if default else "", f"`{flag}`" if flag else ""]
    return f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")


def _meanings(kind: type[Any]) -> dict[str, str]:
    """The docstring below each field, which is not kept at run time."""
    (tree,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for line, after in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(line, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            found[ast.unparse(line.target)] = " ".join(str(after.value.value).split())
    return found


def _values(schema: Mapping[str, Any]) -> str:
    """What a setting may be, in words: its choices, or its kind and limits."""
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "prefixItems" in schema:
        first, second = (_values(item) for item in schema["prefixItems"])
        return f"two numbers, each {first}" if first == second else f"two numbers: {first}, {second}"
    kind = {"integer": "whole number", "number": "number", "string": "text", "boolean": "`true` or `false`"}
    limits = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    largest = 2**31  # a limit that is only the machine's
    words = [f"{word} {schema[key]:g}" for key, word in limits.items() if key in schema and schema[key] < largest]
    return " ".join([kind.get(schema["type"], "list of texts"), *words])


def _shown(value: Any) -> str:
    """A value as it is written in YAML."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_shown, value))}]"
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _flags() -> dict[str, str]:
    """The flag of each setting that has one."""
    program: Any = typer.main.get_command(app)
    names = {parameter.name: parameter.opts[0] for parameter in program.commands["train"].params}
    settings = TypeAdapter(TrainConfig).json_schema()["properties"]
    return {
        setting: flag
        for name, flag in names.items()
        for setting in FLAGS.get(name, (name,))
        if setting in settings and flag.startswith("--")
    }


def _recipes() -> Iterator[str]:
    """What the recipes set otherwise than the defaults do: a row for each setting, a column for each recipe."""
    changes = {recipe: _flat(values) for recipe, values in RECIPES.items()}
    yield "\n## What each recipe sets\n"
    yield "An empty cell is the default. [Which recipe](train.md#which-recipe) tells when to use which.\n"
    yield f"| setting | {' | '.join(f'`{recipe}`' for recipe in RECIPES)} |"
    yield f"| --- |{' --- |' * len(RECIPES)}"
    known = [name for name, *_ in (*_rows(TrainConfig, {}), *_rows(AugmentConfig, {}, "augment."))]
    for name in known:
        if any(name in values for values in changes.values()):
            cells = [f"`{_shown(values[name])}`" if name in values else "" for values in changes.values()]
            yield f"| `{name}` | {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    own = {name: value for name, value in values.items() if name != "augment"}
    return own | {f"augment.{name}": value for name, value in values.get("augment", {}).items()}


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
