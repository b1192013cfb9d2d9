"""The package as it is handed out: built, looked into, installed into an empty environment, and used there."""

from __future__ import annotations

import importlib.metadata as metadata
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
import yaml
from conftest import draw_car

import twincar
from twincar.cli import app

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {
    str(path.relative_to(ROOT))
    for path in (ROOT / "twincar").rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
}


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel in it; what the wheel depends on is that of these tests."""

    python: Path

    def run(self, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """`python ARGUMENTS` there, far from the checkout."""
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [str(self.python), *map(str, arguments)]
        return subprocess.run(
            command, cwd=self.python.parent, env={**kept, **environment}, capture_output=True, text=True, check=False
        )


def build(kind: str, source: Path, folder: Path) -> Path:
    """Without network and without a fresh environment to build in."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    python = folder / "bin" / "python"
    there = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    Path(there.stdout.strip(), "dependencies.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--force-reinstall", wheel], check=True, capture_output=True)
    return Installed(python)


@pytest.fixture(scope="module")
def extra_modules() -> list[str]:
    """Every module here that `pip install twincar`, without extras, would not have brought."""
    base: set[str] = set()
    waiting: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    while waiting:
        name = normalised(re.match(r"[\w.-]+", waiting.pop())[0])  # type: ignore[index]
        if name in base:
            continue
        base.add(name)
        try:
            needed = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # for another system or Python
            continue
        waiting += [requirement for requirement in needed if "extra ==" not in requirement]
    return [
        module
        for module, packages in metadata.packages_distributions().items()
        if module.isidentifier() and module != "twincar" and not base & {normalised(package) for package in packages}
    ]


def normalised(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
        told = file.read(f"twincar-{twincar.__version__}.dist-info/METADATA").decode()
    assert names == SOURCES
    assert {"twincar/py.typed", "twincar/assets/stanford_cars_196.txt"} <= names
    assert "License-Expression: Apache-2.0" in told
    assert set(re.findall(r"Provides-Extra: (.+)", told)) == {
        "all",
        "cluster",
        "demo",
        "heic",
        "openvino",
        "quantize",
        "serve",
        "teach",
        "train",
    }


def test_what_is_told_about_the_package_in_several_places_agrees() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    pythons = [line.rpartition(" ")[2] for line in project["classifiers"] if ":: Python :: 3." in line]
    assert (citation["version"], citation["license"]) == (twincar.__version__, project["license"].partition(" AND ")[0])
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == pythons
    assert (f">={pythons[0]}", pythons[-1]) == (project["requires-python"].partition(",")[0], "3.13")
    assert workflow["permissions"] == {"contents": "read"}
    for reference in citation["references"]:
        assert reference["authors"]
        assert {"doi", "url"} & set(reference)


def test_the_sdist_builds_the_same_wheel(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
        file.extractall(tmp_path, filter="data")
    assert {"pyproject.toml", "LICENSE", "README.md", "Makefile", "tests/conftest.py", "PKG-INFO"} <= names
    assert names >= SOURCES
    assert not [name for name in names if re.search(r"\.pyc$|^(runs|data|audits|dist|\.venv|\.ci|quickstart)/", name)]
    assert sdist.stat().st_size < 30e6  # of which the bundled model is 22
    again = build("wheel", next(tmp_path.iterdir()), tmp_path / "wheel")
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        assert {i.filename: i.CRC for i in one.infolist()} == {i.filename: i.CRC for i in other.infolist()}


def test_an_installed_package_answers_without_torch(
    installed: Installed, small_run: Path, extra_modules: list[str], tmp_path: Path
) -> None:
    from twincar.deploy.export import export

    model = export(small_run, out=tmp_path / "model.onnx", force=True).path
    draw_car(2, 7).save(tmp_path / "car.jpg")
    assert installed.run("-m", "twincar", "--version").stdout.strip() == twincar.__version__
    found = installed.run("-c", "import twincar; print(twincar.__file__)").stdout
    assert Path(found.strip()).is_relative_to(installed.python.parents[1])

    assert {"torch", "timm", "cv2", "scipy"} <= set(extra_modules)
    code = (
        f"import sys; sys.modules |= dict.fromkeys({extra_modules!r})\n"
        f"sys.argv = ['twincar', 'predict', '--json', '--model', {str(model)!r}, {str(tmp_path / 'car.jpg')!r}]\n"
        "from twincar.cli import main; main()"
    )
    result = installed.run("-c", code)
    assert (result.returncode, result.stderr) == (0, "")
    answer = twincar.load(model).predict(tmp_path / "car.jpg").to_dict()
    assert json.loads(result.stdout)["topk"][0]["class_name"] == answer["topk"][0]["class_name"]


NEEDS = {
    "quickstart": ([], "train"),
    "prepare": (["toycars"], "train"),
    "audit": (["toycars"], "train"),
    "import-weights": (["package.whl"], "train"),
    "train": (["data"], "train"),
    "evaluate": (["run"], "train"),
    "calibrate": (["run", "--out", "model.safetensors"], "train"),
    "explain": (["run"], "train"),
    "compare": (["run"], "train"),
    "report": (["run"], "train"),
    "export": (["run"], "train"),
    "predict": (["--model", "weights.pth", "car.jpg"], "train"),
    "index": (["folder", "--out", "cars.parquet"], "pyarrow>=18"),
    "similar": (["weights.pth", "car.jpg", "--among", "folder"], "train"),
    "teach": (["model.onnx", "car.jpg", "--name", "car", "--out", "cars.onnx"], "teach"),
    "serve": (["model.onnx"], "serve"),
    "demo": (["model.onnx"], "demo"),
    "push": (["run", "me/cars"], "train"),
    "info": ([], ""),
}
"""Of each verb, what it is called with, and the extra or the package it needs; pull needs a hub only."""


def test_a_verb_without_its_extra_says_which_to_install(installed: Installed, extra_modules: list[str]) -> None:
    assert {*NEEDS, "pull"} == set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    code = (
        f"import contextlib, io, json, sys; sys.modules |= dict.fromkeys({extra_modules!r})\n"
        "from twincar.cli import main\n"
        "open('weights.pth', 'w').close()\n"
        f"for verb, (arguments, _) in {NEEDS!r}.items():\n"
        "    sys.argv = ['twincar', verb, *arguments]\n"
        "    said = io.StringIO()\n"
        "    try:\n"
        "        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()): main()\n"
        "    except SystemExit as stop: code = stop.code\n"
        "    print(json.dumps([verb, code or 0, said.getvalue()]))"
    )
    result = installed.run("-c", code)
    assert result.stderr == ""
    for verb, exit_code, said in map(json.loads, result.stdout.splitlines()):
        extra = NEEDS[verb][1]
        assert exit_code == (1 if extra else 0), (verb, said)
        assert said.count("\n") == (1 if extra else 0), said
        what = extra if ">=" in extra else f"twincar[{extra}]"
        assert not extra or f"pip install '{what}'" in said


def test_a_typed_program_of_a_user_passes_mypy_strict(installed: Installed, tmp_path: Path) -> None:
    (tmp_path / "right.py").write_text(
        "import twincar\n"
        "from twincar import Classifier, Explanation, Failure, Prediction\n\n"
        "def names(classifier: Classifier, photos: list[str]) -> list[str]:\n"
        "    answers: list[Prediction | Failure] = classifier.predict(photos)\n"
        "    year: int | None = classifier.predict(photos[0]).year\n"
        "    explanation: Explanation = classifier.explain(photos[0])\n"
        "    failed = [a.photo for a in classifier.stream(photos) if isinstance(a, Failure)]\n"
        "    named = [a.topk[0].name for a in answers if not isinstance(a, Failure)]\n"
        "    return [explanation.target, str(year), *named, *failed]\n\n"
        "names(twincar.load('model.onnx'), ['car.jpg'])\n"
    )
    (tmp_path / "wrong.py").write_text(
        "import twincar\nyear: str = twincar.load('model.onnx').predict('car.jpg').year\ntwincar.lode('model.onnx')\n"
    )
    # The types of other packages, but for arrays and images, are no part of our signatures, and most of the work.
    skip = "[mypy]\nstrict = true\nfollow_imports = skip\n[mypy-twincar.*,numpy.*,PIL.*]\nfollow_imports = normal\n"
    (tmp_path / "mypy.ini").write_text(skip)
    command = [sys.executable, "-m", "mypy", "--python-executable", installed.python]
    result = subprocess.run(
        [*command, "--cache-dir", "cache", "right.py", "wrong.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    wrong = [re.match(r"(\w+\.py):(\d+): error.*\[([\w-]+)\]", line) for line in result.stdout.splitlines()[:-1]]
    assert [found and found.groups() for found in wrong] == [
        ("wrong.py", "2", "assignment"),
        ("wrong.py", "3", "attr-defined"),
    ], result.stdout


def test_the_classes_that_answer_are_imported_when_they_are_named(installed: Installed) -> None:
    code = (
        "import sys, twincar\n"
        "assert 'numpy' not in sys.modules\n"
        "from twincar import Classifier, Explanation, Failure, Prediction\n"
        "assert 'numpy' in sys.modules and 'torch' not in sys.modules\n"
        "try: twincar.nothing\nexcept AttributeError as error: print(error)"
    )
    result = installed.run("-c", code)
    assert (result.stderr, result.stdout.strip()) == ("", "module 'twincar' has no attribute 'nothing'")


@pytest.mark.parametrize(
    ("shell", "typed", "expected"),
    [
        ("bash", {"COMP_WORDS": "twincar ev", "COMP_CWORD": "1"}, {"evaluate"}),
        ("bash", {"COMP_WORDS": "twincar predict --eng", "COMP_CWORD": "2"}, {"--engine"}),
        ("bash", {"COMP_WORDS": "twincar export --format ", "COMP_CWORD": "3"}, {"onnx", "openvino"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "twincar ev"}, {"evaluate"}),
        ("fish", {"_TYPER_COMPLETE_ARGS": "twincar ev", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}, {"evaluate"}),
    ],
)
def test_shells_complete_verbs_and_flags_quickly(
    installed: Installed, shell: str, typed: dict[str, str], expected: set[str]
) -> None:
    command = ("-X", "importtime", installed.python.with_name("twincar"))
    result = installed.run(*command, **typed, _TWINCAR_COMPLETE=f"complete_{shell}")
    assert set(re.findall(r"(?<![\w-])(?:--)?[a-z]+(?![\w])", result.stdout)) >= expected
    assert ("predict" in result.stdout) is ("predict" in expected)
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "twincar.cli" in imported
    assert not {"numpy", "torch", "onnxruntime", "huggingface_hub"} & imported


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_completion_script(installed: Installed, shell: str) -> None:
    script = installed.run(installed.python.with_name("twincar"), _TWINCAR_COMPLETE=f"source_{shell}").stdout
    assert f"_TWINCAR_COMPLETE=complete_{shell}" in script
    if shell == "bash":
        told = subprocess.run(
            ["bash", "-c", f"{script}\ncomplete -p twincar"], capture_output=True, text=True, check=True
        )
        assert told.stdout.startswith("complete ")
        assert told.stdout.endswith(" twincar\n")
