"""Writes `docs/command_line.md` from the program itself: every verb, argument and option, its default and its help.

    python docs/command_line.py

The text depends on the program alone, not on the width or the colours of the terminal.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer

from twincar.cli import app

PAGE = Path(__file__).with_name("command_line.md")
_HEAD = """\
# The command line

Written from the program by `make docs`; `twincar VERB --help` tells the same. Results go to standard output, progress
and messages to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""
_KINDS: dict[type, str] = {Path: "PATH", int: "NUMBER", float: "NUMBER"}
_DEFAULT = "  [default: "  # how help tells a default that is only known when the verb runs


def page() -> str:
    """The whole page, Markdown."""
    program: Any = typer.main.get_command(app)
    parts = [_HEAD, *_table("For every verb, before its name", _options(program))]
    for name, command in program.commands.items():
        parts += _verb(name, command)
    return "\n".join(parts)


def _verb(name: str, command: Any) -> Iterator[str]:
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    usage = " ".join([name, "[OPTIONS]", *(_argument_name(argument) for argument in arguments)])
    yield f"## {name}\n\n```text\ntwincar {usage}\n```\n"
    yield f"{_sentence(command.help)}\n"
    rows = [(f"`{_argument_name(argument)}`", _meaning(argument), _default(argument)) for argument in arguments]
    yield from _table("Arguments", rows)
    yield from _table("Options", _options(command))


def _options(command: Any) -> list[tuple[str, str, str]]:
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    return [
        (_option_name(option), _meaning(option), _default(option))
        for option in options
        if not option.hidden and "--help" not in option.opts
    ]


def _table(title: str, rows: list[tuple[str, str, str]]) -> Iterator[str]:
    if rows:
        cells = [
            ("argument" if title == "Arguments" else "option", "what it is", "default"),
            ("---", "---", "---"),
            *rows,
        ]
        yield f"{title}:\n"
        yield "\n".join(f"| {' | '.join(row)} |".replace("|  |", "| |") for row in cells) + "\n"


def _argument_name(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    several = "..." if argument.nargs == -1 else ""
    return f"{name}{several}" if argument.required else f"[{name}]{several}"


def _option_name(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    if option.is_flag:
        return names
    return f"{names} {option.metavar or _values(option.type_descriptor.annotation)}"


def _values(annotation: Any) -> str:
    """What an option takes: its choices, or the kind of value."""
    inner = [part for part in get_args(annotation) if part is not type(None)]
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{choice}`" for choice in inner)
    if inner:  # a list, or None besides
        return _values(inner[0])
    if issubclass(annotation, Enum):
        return " or ".join(f"`{choice.value}`" for choice in annotation)
    return _KINDS.get(annotation, "TEXT")


def _meaning(parameter: Any) -> str:
    return _sentence(parameter.help).partition(_DEFAULT.strip())[0].strip()


def _default(parameter: Any) -> str:
    told = (parameter.help or "").partition(_DEFAULT)[2].removesuffix("]")
    if told:
        return told
    value = parameter.default
    return "" if value is None or value is False or value == "" else f"`{value}`"


def _sentence(text: str | None) -> str:
    """Help as one paragraph; what a table or Markdown would take for its own is escaped."""
    paragraphs = (" ".join(part.split()) for part in (text or "").replace("\f", "").split("\n\n"))
    return "\n\n".join(paragraphs).replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
