"""What the terminal and the pages tell people to type next can be copied as it stands."""

from __future__ import annotations

import html
import re
import shlex
import shutil
from pathlib import Path

import pytest
import typer
from command_line import run
from conftest import draw_car, write_class_folders

from twincar.cli import app

_PLACEHOLDER = re.compile(r"[A-Z]+(\.\.\.)?")
_MADE = ("--out",)  # what follows need not exist


def check(line: str) -> list[str]:
    """Check that a command parses, and that each path in it exists from the working folder; returns its words."""
    program, verb, *words = shlex.split(line)
    assert program == "twincar"
    with typer.main.get_command(app).commands[verb].make_context(verb, list(words)):  # type: ignore[attr-defined]
        pass
    for before, word in zip([verb, *words], words, strict=False):
        if "/" in word and not _PLACEHOLDER.fullmatch(word) and before not in _MADE:
            assert Path(word).exists(), f"{word} of: {line}"
    return [verb, *words]


def suggested(text: str) -> list[str]:
    """The commands after 'Next:'."""
    return [line.removeprefix("Next:").strip() for line in text.splitlines() if line.startswith("Next:")]


def on_page(path: Path) -> list[str]:
    """The commands on a page, in running text or in blocks."""
    blocks = re.findall(r"<(?:code|pre)[^>]*>(.*?)</(?:code|pre)>", path.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in html.unescape(block).splitlines()]
    return [line for line in lines if line.startswith("twincar ")]


def test_a_folder_with_a_name_that_needs_quotes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = write_class_folders(tmp_path / "mum's cars", {"train": 4}) / "train"
    shutil.copy(next(source.rglob("000.jpg")), next(source.iterdir()) / "copy.jpg")
    prepared = run("prepare", "mum's cars/train", "--out", "data/mum's", "--val-share", 0.3, "--test-share", 0.3)
    (line,) = suggested(prepared.stdout)
    assert check(line) == ["train", "data/mum's"]
    audited = run("audit", "mum's cars/train", "--deep", "--out", "audits/mum's")
    (line,) = suggested(audited.stdout)
    assert check(line)[1:] == [str(source), "--exclude", "audits/mum's/findings.csv", "--out", "FOLDER"]
    assert "with your other options of prepare" in audited.stdout
    (shown,) = on_page(Path("audits/mum's/audit.html"))
    assert check(shown)[1] == "mum's cars/train"
    # Of a prepared data set the options are known.
    again = run("audit", "data/mum's", "--deep", "--out", "audits/again")
    (line,) = suggested(again.stdout)
    assert check(line)[2:-4] == ["--val-share", "0.3", "--test-share", "0.3"]
    assert "with your other options" not in again.stdout


def test_the_commands_of_a_run_and_of_its_report(
    small_run: Path, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder above run and data, as most people work."""
    here = tmp_path.parent
    assert small_data.is_relative_to(here)
    monkeypatch.chdir(here)
    shutil.copytree(small_run, tmp_path / "my run", ignore=shutil.ignore_patterns("reports"))
    model = (tmp_path / "my run").relative_to(here)
    resumed = run("train", "--resume", model)
    (line,) = suggested(resumed.stdout)
    assert check(line) == ["evaluate", str(model), "--split", "test"]  # the others have chosen the epoch
    assert run(*shlex.split(line)[1:]).returncode == 0
    assert run("report", model).returncode == 0
    shown = on_page(model / "reports" / "report.html")
    assert {check(line)[0] for line in shown} == {"train", "evaluate", "explain", "audit", "compare", "report"}
    assert f"evaluate '{model}' --split test" in " ".join(shown)
    (line,) = suggested(run("export", model).stdout)
    assert check(line)[:2] == ["predict", "--model"]
    draw_car(0, 1).save(tmp_path / "car.png")
    (line,) = suggested(run("index", tmp_path / "car.png", "--out", tmp_path / "my cars.parquet").stdout)
    assert check(line) == ["similar", "PHOTO", "--among", str(tmp_path / "my cars.parquet")]
