"""Each public function has a page of reference, whose docstring tells of every parameter; `test_docs.py` runs its
example.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import griffe
import pytest
from hub_server import HubClient, HubServer
from test_docs import ROOT, blocks, run_block

import twincar

FOLDER = ROOT / "docs" / "reference" / "functions"
FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: function for name in twincar.__all__ if inspect.isfunction(function := getattr(twincar, name))
}
SECTIONS = ("parameters", "returns", "raises")


def test_each_function_has_a_page_and_each_page_a_function() -> None:
    assert len(FUNCTIONS) == 17
    assert {path.stem for path in FOLDER.glob("*.md")} == set(FUNCTIONS)
    overview = (FOLDER.parent / "index.md").read_text(encoding="utf-8")
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for name in FUNCTIONS:
        assert f"(functions/{name}.md)" in overview
        assert f"reference/functions/{name}.md" in navigation


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_page_shows_signature_and_an_example_that_calls_the_function(name: str) -> None:
    text = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    assert f"::: twincar.{name}\n" in text
    (example,) = blocks(text)
    assert example.language == "python"
    assert f"twincar.{name}(" in example.text


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_docstring_tells_of_parameters_result_and_errors(name: str) -> None:
    function = FUNCTIONS[name]
    sections = {section.kind.value: section.value for section in _sections(function)}
    assert set(SECTIONS) <= set(sections)
    told = [parameter.name for parameter in sections["parameters"]]
    assert told == list(inspect.signature(function).parameters)
    assert all(item.description for kind in SECTIONS for item in sections[kind])
    assert inspect.signature(function).return_annotation.__str__() not in ("None", "")


def test_the_example_of_pull_runs_with_a_stand_in_for_the_hub(
    hub_client: HubClient, small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = {name: (small_run / name).read_bytes() for name in ("best.safetensors", "config.yaml")}
    (example,) = blocks((FOLDER / "pull.md").read_text(encoding="utf-8"))
    with HubServer(files, kind="models", repo="owner/my_cars") as hub:
        hub_client.use(hub)
        names: dict[str, Any] = {}
        run_block(example, names)
    assert set(names["pulled"].files) == set(files)
    assert names["classifier"].class_names == twincar.load(small_run).class_names


def _sections(function: Callable[..., Any]) -> list[griffe.DocstringSection]:
    docstring = griffe.Docstring(inspect.getdoc(function) or "")
    return docstring.parse("google", warnings=False, warn_unknown_params=False)
