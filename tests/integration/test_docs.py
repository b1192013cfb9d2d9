"""What is written is true: doctests, every command is one the program takes, and the pages' blocks run as they stand.

A `sh` or `python` block in README and docs is run, in the order of its page, in a folder that holds what pages name: a
trained run, its data, photos. A block that is not run says why in a comment above it, `<!-- not run: REASON -->`.
"""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import yaml
from detector_files import raw_yolox
from PIL import Image
from small_backbone import BACKBONE
from typer.testing import CliRunner

from twincar.cli import app
from twincar.core.config import TrainConfig
from twincar.core.files import read_json
from twincar.core.recipes import RECIPES

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")))}
NOT_RUN = {
    "installs software": "the tests have what they need",
    "needs a network": "the tests have none",
    "needs Stanford Cars": "no photo of it is part of the project",
    "needs photos of streets": "nor are these",
    "needs podman or docker": "test_container.py compares the files with the code, and there is no engine here",
    "needs root and mmdebstrap": "it fetches a Debian system; test_container.py tests its parts",
    "needs the quickstart": "tests/slow/test_quickstart.py runs it",
    "runs until it is stopped": "servers are tested in test_server.py and test_demo.py",
    "needs the server": "test_server_docs.py runs it against one",
    "takes hours": "test_benchmarks.py runs it on toy cars",
    "takes minutes": "tested on less elsewhere: the quickstart in test_quickstart.py, and `make test` runs this",
}
CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    line: int
    language: str
    text: str
    not_run: str
    """Why, or empty."""


def blocks(text: str) -> list[Block]:
    pattern = r"(?:^<!-- not run: (?P<reason>.*?) -->\n+)?^```(?P<language>sh|python)\n(?P<text>.*?)^```$"
    return [
        Block(text.count("\n", 0, found.start()) + 1, found["language"], found["text"], found["reason"] or "")
        for found in re.finditer(pattern, text, re.DOTALL | re.MULTILINE)
    ]


def shell_lines(text: str) -> list[str]:
    lines = text.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def commands(text: str) -> list[str]:
    lines = [line for block in blocks(text) if block.language == "sh" for line in shell_lines(block.text)]
    return [line.split(" #")[0].split("<")[0].split(">")[0].strip() for line in lines if line.startswith("twincar ")]


@pytest.mark.parametrize("name", ["twincar.core.labels", "twincar.core.config", "twincar.core.wording"])
def test_doctests(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0


def test_every_verb_is_named_and_shown() -> None:
    verbs = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    assert {line.split()[1] for line in commands(PAGES[ROOT / "docs" / "index.md"])} == verbs
    assert verbs <= set(re.findall(r"`([a-z-]+)`", README))


def test_the_readme_is_read_in_five_minutes() -> None:
    assert len(README.split()) <= 900


def test_the_readme_shows_what_predict_answers(tmp_path: Path) -> None:
    """Its first command, on a terminal: the same words, probabilities within a point, the same picture."""
    example = _docs_module("example")
    assert shlex.join(["twincar", *example.COMMAND]) in README
    fresh = example.answers(tmp_path / "drawn")
    shown = example.BLOCK.search(README).group()
    number = re.compile(r"[█░]+|\d+\.\d(?=%)")
    assert [line.split() for line in number.sub("", shown).splitlines()] == [
        line.split() for line in number.sub("", fresh).splitlines()
    ], "run: python docs/example.py"
    pairs = zip(re.findall(r"[\d.]+(?=%)", shown), re.findall(r"[\d.]+(?=%)", fresh), strict=True)
    assert all(abs(float(old) - float(new)) <= 1 for old, new in pairs), "run: python docs/example.py"
    # Digits may differ, names and boxes may not.
    assert changed(example.ANSWERED, Image.open(tmp_path / "drawn" / example.PICTURE.name)) < 0.005, (
        "run: python docs/example.py"
    )


def test_the_tables_of_the_docs_are_those_that_predict_prints() -> None:
    """The same words, and numbers within a hundredth: another processor rounds differently."""
    example = _docs_module("example")
    shown = list(example.SHOWN.finditer(PAGES[example.PREDICT]))
    assert len(shown) == 2
    for table in shown:
        fresh = example.printed(table["command"])
        assert _without_digits(table["printed"]) == _without_digits(fresh), "run: python docs/example.py"


def test_the_sentence_of_the_docs_is_that_of_real_photos(real_photos: Path) -> None:
    example = _docs_module("example")
    assert real_photos / "full" == example.FULL_PHOTOS
    (shown,) = example.CLOSING.findall(PAGES[example.PREDICT])
    assert shown == example.closing_sentence(), "run: python docs/example.py"


def _without_digits(table: str) -> list[list[str]]:
    """The cells of a table, of its shares the first two decimals."""
    return [[re.sub(r"(0\.\d\d)\d{4}$", r"\1", cell) for cell in line.split(",")] for line in table.splitlines()]


def test_the_heat_map_of_the_docs_is_that_of_the_bundled_model() -> None:
    example = _docs_module("example")
    assert changed(example.EXPLAINED, example.explained()) < 0.005, "run: python docs/example.py"


def changed(path: Path, fresh: Image.Image) -> float:
    """The share of a picture's pixels that are visibly others in a fresh one of the same size."""
    with Image.open(path) as old:
        assert old.size == fresh.size
        return float((np.abs(np.asarray(old, float) - np.asarray(fresh, float)).mean(axis=2) > 24).mean())


@pytest.mark.parametrize("line", sorted({line for text in PAGES.values() for line in commands(text)}))
def test_commands_that_are_shown_are_taken(line: str) -> None:
    verb, *arguments = shlex.split(line)[1:]
    command = typer.main.get_command(app).commands[verb]  # type: ignore[attr-defined]
    with command.make_context(verb, arguments):
        pass


def test_pictures_and_files_that_are_named_are_there() -> None:
    for page, text in PAGES.items():
        for target in re.findall(r"\]\((?!https:)([^)#:]+)", text):
            outside = page.parent / target
            assert outside.exists(), f"{page.name}: {target}"


RENEW_PICTURES = "run: twincar quickstart --out quickstart; python docs/pictures.py quickstart"


def test_no_picture_is_older_than_what_it_shows() -> None:
    """Each page that shows the report, and the page of results, quote the figures of the runs in the pictures."""
    pictures = _docs_module("pictures")
    record = read_json(pictures.RECORD)
    assert record["sha256"] == pictures.hashes(), RENEW_PICTURES
    assert record["pages"] == pictures.pages(), RENEW_PICTURES
    showing = [(page, name) for page, text in PAGES.items() for name in pictures.PICTURES if f"images/{name}" in text]
    assert {name for _, name in showing} == set(pictures.PICTURES)  # none is made for nothing
    results = PAGES[ROOT / "docs" / "evaluate.md"]
    for picture, figures in record["figures"].items():
        pages = [results, *(PAGES[page] for page, name in showing if name == picture == "report.png")]
        for name, figure in figures.items():
            assert all(f"| {figure} |" in page for page in pages), (
                f"{picture} is of a run with an {name} of {figure}, which is not in the tables: {RENEW_PICTURES}"
            )


def test_no_picture_is_older_than_the_code_that_draws_it(tmp_path: Path) -> None:
    """Boxes with their names and numbers, heat maps and their grids, and the toy cars; digits and edges may differ."""
    from twincar.data.toy.twins import draw_twins

    pictures = _docs_module("pictures")
    assert changed(pictures.SAMPLE, pictures.sample()) < 0.001, RENEW_PICTURES
    draw_twins(tmp_path / "twins.png")
    shown = pictures.IMAGES / "toycars.jpg"
    with Image.open(shown) as old, Image.open(tmp_path / "twins.png") as fresh:
        assert changed(shown, fresh.resize(old.size, Image.Resampling.LANCZOS)) < 0.005, RENEW_PICTURES


def test_the_page_of_the_command_line_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    written = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
    for width in ("40", "200"):
        monkeypatch.setenv("COLUMNS", width)
        assert _docs_module("command_line").page() == written, "run: make docs"


def test_the_page_of_the_settings_is_current() -> None:
    written = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert _docs_module("settings").page() == written, "run: make docs"


def test_the_page_of_the_settings_has_all_of_them() -> None:
    """Each with its meaning and its default, and the flags that --help has."""
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| `")]
    listed = {cells[0].strip("`"): cells for cells in rows if len(cells) == 5}
    config = yaml.safe_load(TrainConfig().to_yaml())
    augment = {f"augment.{name}": value for name, value in config.pop("augment").items()}
    assert set(listed) == set(config) | set(augment)
    assert all(len(meaning) > 10 and values for _, meaning, values, *_ in listed.values())
    for name in ("epochs", "seed", "head", "augment.rotation", "augment.flip"):
        assert yaml.safe_load(listed[name][3].strip("`")) == {**config, **augment}[name]
    flags = {name: cells[4].strip("`") for name, cells in listed.items() if cells[4]}
    assert (flags["image_height"], flags["image_width"], flags["limit_batches"]) == (*["--image-size"] * 2, "--limit")
    offered = {flag for option in typer.main.get_command(app).commands["train"].params for flag in option.opts}  # type: ignore[attr-defined]
    assert set(flags.values()) <= offered
    elsewhere = {"--name", "--runs", "--resume", "--config", "--set", "--tensorboard", "--devices", "--num-nodes"}
    assert offered - set(flags.values()) - elsewhere == {"data"}
    for recipe, values in RECIPES.items():
        changed = [row for row in rows if len(row) == 1 + len(RECIPES) and row[1 + list(RECIPES).index(recipe)]]
        assert len(changed) == len(values) - ("augment" in values) + len(values.get("augment", {}))


def test_the_page_of_the_command_line_names_arguments_as_help_does() -> None:
    """To the letter, but for the braces that help has around what is required."""
    page = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
    program = typer.main.get_command(app)
    for verb, command in program.commands.items():  # type: ignore[attr-defined]
        pieces = command.collect_usage_pieces(typer.Context(command))
        usage = " ".join(["twincar", verb, *(re.sub("[{}]", "", piece) for piece in pieces)])
        assert usage in page.splitlines()
        for piece in pieces[1:]:
            assert f"| `{re.sub('[{}]', '', piece)}` |" in page


def test_blocks_that_are_not_run_say_why() -> None:
    every = [block for text in PAGES.values() for block in blocks(text)]
    assert {block.not_run for block in every} - {""} <= set(NOT_RUN)
    assert sum(text.count("<!-- not run:") for text in PAGES.values()) == sum(bool(block.not_run) for block in every)
    assert sum(text.count("```sh\n") + text.count("```python\n") for text in PAGES.values()) == len(every)


@pytest.mark.parametrize("text", ["exit 3", "twincar predict --model nothing.onnx car.jpg", "cat nothing | cat"])
def test_a_block_that_fails_is_noticed(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError):
        run_block(Block(1, "sh", text, ""), {})


@pytest.fixture(scope="module")
def few_toycars() -> Iterator[None]:
    """Fewer toy cars, and fewer images without cars, are drawn; the recipe takes one epoch of a small network."""
    from twincar.core.recipes import RECIPES
    from twincar.data.sources import toy
    from twincar.data.toy.cars import draw_data_set
    from twincar.evaluation import open_set

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toy, "draw_data_set", partial(draw_data_set, photos_per_class={"train": 5, "test": 2}))
        patch.setattr(open_set, "_NON_CARS", 8)
        quick = {"backbone": BACKBONE, "epochs": 1, "precision": "fp32"}
        patch.setitem(RECIPES, "toycars", {**RECIPES["toycars"], **quick})
        yield


@pytest.fixture(scope="module")
def stage(few_toycars: None, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001
    """A folder with what pages name: `quickstart/`, evaluated runs, an exported model, photos."""
    from twincar.core.config import TrainConfig
    from twincar.data.prepare import prepare
    from twincar.deploy.export import export
    from twincar.evaluation.evaluate import evaluate
    from twincar.training.train import train

    folder = tmp_path_factory.mktemp("stage")
    data = prepare("toycars", folder / "quickstart" / "toycars")
    config = TrainConfig.resolve(recipe="toycars", flags={"data": str(data.folder)})
    train(config, folder / "quickstart" / "run")
    evaluate(folder / "quickstart" / "run", split="test")
    for name in ("my_cars", "other", "stanford_cars"):
        _link(folder / "quickstart" / "run", folder / "runs" / name)
    export(folder / "quickstart" / "run", out=folder / "model-fp32.onnx", force=True)
    for photo in data.annotations:
        split = "test" if photo.split == "test" else "train"
        place = folder / "my_cars" / split / data.classes[photo.label or 0]
        place.mkdir(parents=True, exist_ok=True)
        os.link(data.path(photo), place / photo.file.replace("/", "_"))
    first, *others = [data.path(photo) for photo in data.split("test")]
    for number, photo in enumerate(others[:4]):
        (folder / "folder").mkdir(exist_ok=True)
        os.link(photo, folder / "folder" / f"{number}.jpg")
    (folder / "more").mkdir()
    _picture(first).save(folder / "more" / "car.png")
    os.link(first, folder / "car.jpg")
    shutil.copy(ROOT / "docs" / "toycars_open_set.json", folder / "toycars_open_set.json")
    (folder / "yolox_nano.onnx").write_bytes(raw_yolox())
    (folder / "twincar" / "assets").mkdir(parents=True)
    shutil.copy(ROOT / "twincar" / "assets" / "two_cars.jpg", folder / "twincar" / "assets")
    return folder


@pytest.mark.parametrize(
    "page", [path for path, text in PAGES.items() if blocks(text)], ids=lambda path: str(path.relative_to(ROOT))
)
def test_blocks_run(page: Path, stage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, in one folder, so that later blocks use what earlier ones have made."""
    folder = tmp_path / "stage"
    _link(stage, folder)
    (folder / "docs").mkdir()
    os.link(folder / "toycars_open_set.json", folder / "docs" / "toycars_open_set.json")
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    found = blocks(PAGES[page])
    for block in found:
        if not block.not_run:
            print(f"{page.name}:{block.line}\n{block.text}")  # noqa: T201  # pytest shows it where it fails
            run_block(block, names)
    skipped = [block.not_run for block in found if block.not_run]
    print(f"{page.name}: {len(found) - len(skipped)} blocks run, not run: {skipped}")  # noqa: T201


def run_block(block: Block, names: dict[str, Any]) -> None:
    if block.language == "python":
        exec(compile(block.text, f"block in line {block.line}", "exec"), names)
        return
    for line in shell_lines(block.text):
        words = shlex.split(line, comments=True)
        if words[0] == "twincar" and not set(words) & {"|", ">", "<"}:
            result = CliRunner().invoke(app, words[1:])  # in this process, as importing torch takes seconds
            assert result.exit_code == 0, f"{line}\n{result.output}\n{result.exception!r}"
        else:
            script = 'twincar() { "$PYTHON" -m twincar "$@"; }; ' + line
            environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
            done = subprocess.run(["bash", "-eo", "pipefail", "-c", script], env=environment, check=False)
            assert done.returncode == 0, line


def _link(source: Path, target: Path) -> None:
    """A copy that takes no space; what TwinCar writes replaces files, so the source stays as it is."""
    shutil.copytree(source, target, copy_function=os.link)


def _picture(path: Path) -> Any:
    from twincar.core.photos import read_photo

    return read_photo(path)


def _docs_module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
