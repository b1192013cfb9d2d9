"""Kills a command at points of its work, resumes it, and compares the result with that of an uninterrupted one.

python -m tests.robustness.survival DATA SOURCE [--times 20] [--work train prepare export audit cache predict]
    [--trained RUN]

A moment (kill point) is the start of a step or of a validation batch, the reading of a photo, the middle of writing a
file, or just before or after it is renamed to its final name. The process is sent SIGKILL there, so it cannot clean up.
DATA is a prepared data set.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import Section, describe_machine
from tests.robustness import forked
from twincar.core.files import sha256_of, sha256_of_file
from twincar.core.runs import RunFolder
from twincar.data.dataset import CACHE

KILL_AT, MOMENTS = "SURVIVAL_KILL_AT", "SURVIVAL_MOMENTS"
WORKS = ("train", "prepare", "export", "audit", "cache", "predict")
RECIPE = ("--recipe", "toycars", "--epochs", "3", "--limit", "4", "--precision", "fp32", "--image-size", "64")


@dataclass
class Moments:
    """Counts the moments, and kills the process at the one that the environment names."""

    kill_at: int
    names: list[str] = field(default_factory=list)

    def pass_by(self, name: str) -> None:
        """Count a moment."""
        if len(self.names) == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.names.append(name)


def child(arguments: Sequence[str]) -> None:
    """Run the command line and count every moment; prints all of them if it ends by itself."""
    from twincar import cli
    from twincar.auditing import signatures
    from twincar.data.loading import cache
    from twincar.inference import result_store as result_folder
    from twincar.training import module as training_module  # deferred: the parent needs none of it

    moments = Moments(int(os.environ.get(KILL_AT, "-1")))
    write, rename, savez = Path.write_bytes, Path.replace, np.savez

    def write_in_two(path: Path, data: bytes) -> int:
        if not path.name.endswith(".part"):
            return write(path, data)
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            moments.pass_by(f"half of {path.name.rsplit('.', 3)[0]}")
            file.write(data[len(data) // 2 :])
        return len(data)

    def savez_in_two(file: io.BufferedWriter, **arrays: np.ndarray) -> None:
        data = io.BytesIO()
        savez(data, **arrays)
        file.write(data.getvalue()[: len(data.getvalue()) // 2])
        file.flush()
        moments.pass_by("half of the signatures")
        file.write(data.getvalue()[len(data.getvalue()) // 2 :])

    def watched_rename(path: Path, target: Path) -> Path:
        moments.pass_by(f"before {Path(target).name} has its name")
        renamed = rename(path, target)
        moments.pass_by(f"after {Path(target).name} has its name")
        return renamed

    Path.write_bytes = write_in_two  # type: ignore[method-assign, assignment]
    Path.replace = watched_rename  # type: ignore[method-assign, assignment]
    np.savez = savez_in_two  # type: ignore[assignment]
    result_folder.PART = 10
    for owner, name in (
        (training_module.TrainingModule, "training_step"),
        (training_module.TrainingModule, "validation_step"),
        (signatures, "sign_photo"),
        (cache, "fit_photo"),
    ):
        _watch(owner, name, moments)
    try:
        sys.argv = ["twincar", *arguments]
        cli.main()
    finally:
        if MOMENTS in os.environ:
            Path(os.environ[MOMENTS]).write_text("\n".join(moments.names), encoding="utf-8")


def _watch(owner: Any, name: str, moments: Moments) -> None:
    plain: Callable[..., object] = getattr(owner, name)

    @wraps(plain)  # the Trainer reads from the signature what to pass
    def watched(*arguments: object, **named: object) -> object:
        moments.pass_by(name.replace("_", " "))
        return plain(*arguments, **named)

    setattr(owner, name, watched)


Command = Callable[[Path], list[str]]
"""Arguments, for a folder to work in."""


@dataclass(frozen=True)
class Work:
    """A command, how to resume it, and which results must be equal."""

    name: str
    command: Command
    resumed: Command
    results: Callable[[Path], dict[str, str]]
    """What it has made, by a hash of each, and what it has left half-made."""
    before: Callable[[Path], object] = lambda _: None
    """What the folder holds at first."""
    codes: tuple[int, ...] = (0,)
    """How it ends (an audit that found something: 1), and how it may once it is done: an export is refused."""
    at: tuple[str, ...] = ("",)
    """Parts of the names of moments that are meant."""


def works(
    data: Path, source: Path, trained: Path | None = None, backbone: str = "tf_efficientnetv2_b0"
) -> dict[str, Work]:
    """Commands that can be killed; `source` is a source for prepare, `trained` a run to export."""
    settings = (*RECIPE, "--backbone", backbone)

    def copy(folder: Path) -> None:
        shutil.copytree(data, folder / "data", ignore=shutil.ignore_patterns(CACHE))

    def go_on(command: Command) -> Command:
        def resumed(folder: Path) -> list[str]:
            begun = (folder / "run" / "config.yaml").exists()
            return ["train", "--resume", str(folder / "run")] if begun else command(folder)

        return resumed

    def train(folder: Path) -> list[str]:
        return ["train", str(data), "--runs", str(folder), "--name", "run", *settings]

    def cache(folder: Path) -> list[str]:
        return ["train", str(folder / "data"), "--runs", str(folder), "--name", "run", *settings, "--cache"]

    def audit(folder: Path) -> list[str]:
        return ["audit", str(folder / "data"), "--deep", "--out", str(folder / "audit")]

    def plain(name: str, command: Command, *codes: int) -> Work:
        return Work(name, command, command, _results("**/*"), codes=(0, *codes))

    cached = f"data/{CACHE}/*"
    listed = (
        Work("train", train, go_on(train), _results("run/metrics.csv", "run/best.safetensors")),
        plain("prepare", lambda folder: ["prepare", str(source), "--out", str(folder / "data")]),
        plain("export", lambda folder: ["export", str(trained), "--out", str(folder / "model.onnx")], 2),
        Work("audit", audit, audit, _results(cached, "audit/*.csv"), copy, codes=(1,)),
        Work("cache", cache, go_on(cache), _results(cached, "run/*.csv"), copy, at=("fit photo", "photos-")),
        plain("predict", lambda folder: ["predict", str(source), "--out", str(folder / "answers")]),
    )
    return {work.name: work for work in listed}


def _results(*patterns: str) -> Callable[[Path], dict[str, str]]:
    """The hashes of files, and partial files or folders."""

    def of(folder: Path) -> dict[str, str]:
        found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
        hashes = {path: _hash(path) for path in found} | dict.fromkeys(folder.rglob(".*.part"), "half-made")
        return {path.relative_to(folder).as_posix(): value for path, value in hashes.items()}

    return of


def _hash(path: Path) -> str:
    """Hash of a file; of a run's `metrics.csv` without the seconds, which differ every time."""
    if path.name != "metrics.csv":
        return sha256_of_file(path)
    history = RunFolder(path.parent).read_history()
    return sha256_of(repr([{**epoch, "seconds": 0} for epoch in history]).encode())


def run(arguments: list[str], *, kill_at: int | None = None, moments: Path | None = None) -> int:
    """Run it in a separate process; returns the exit code, negative for a signal."""
    chosen = {} if kill_at is None else {KILL_AT: str(kill_at)}
    told = {} if moments is None else {MOMENTS: str(moments)}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **chosen, **told}
    # Run as a program this module is `__main__`, by which name another process cannot find the function.
    by_name = importlib.import_module("tests.robustness.survival").child
    code, said = forked.start(by_name, arguments, environment=environment).finish()
    if "Traceback" in said:
        print(said, file=sys.stderr)
    return code


def undisturbed(work: Work, folder: Path) -> tuple[list[str], dict[str, str]]:
    """All moments of the uninterrupted work, and its results."""
    folder.mkdir()
    work.before(folder)
    code = run(work.command(folder), moments=folder.with_suffix(".moments"))
    assert code == work.codes[0], f"{work.name} failed by itself"
    return folder.with_suffix(".moments").read_text().splitlines(), work.results(folder)


def survives(work: Work, folder: Path, moment: int, expected: dict[str, str]) -> bool:
    """Whether the work, killed at a moment and resumed, gave the same results."""
    folder.mkdir()
    work.before(folder)
    killed = run(work.command(folder), kill_at=moment) == -signal.SIGKILL
    same = run(work.resumed(folder)) in work.codes and work.results(folder) == expected
    shutil.rmtree(folder)
    return killed and same


def draw(names: Sequence[str], at: Sequence[str], times: int, random: random.Random) -> list[int]:
    """Choose moments, about the same number of each kind: there are few renames among hundreds of photos."""
    meant = [moment for moment, name in enumerate(names) if any(part in name for part in at)]
    moments = random.sample(meant, len(meant))
    seen: Counter[str] = Counter()
    turns = {}
    for moment in moments:
        turns[moment] = seen[names[moment]]
        seen[names[moment]] += 1
    return sorted(sorted(moments, key=turns.__getitem__)[:times])


def measure(work: Work, times: int, seed: int, scratch: Path) -> list[list[str]]:
    """A row for each kind of moment that was drawn."""
    names, expected = undisturbed(work, scratch / work.name)
    drawn = draw(names, work.at, times, random.Random(seed))
    tried: dict[str, list[bool]] = {}
    for moment in drawn:
        survived = survives(work, scratch / f"{work.name}-{moment}", moment, expected)
        tried.setdefault(names[moment], []).append(survived)
        print(f"{work.name}: {names[moment]} ({moment} of {len(names)}): {survived}", file=sys.stderr, flush=True)
    return [[work.name, name, str(len(found)), str(sum(found))] for name, found in sorted(tried.items())]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.robustness.survival", description=__doc__)
    parser.add_argument("data", type=Path, help="prepared data set")
    parser.add_argument("source", type=Path, help="source to prepare, such as class folders")
    parser.add_argument("--times", type=int, default=20, help="of each work")
    parser.add_argument("--work", nargs="+", choices=WORKS, default=["train", "prepare"])
    parser.add_argument("--trained", type=Path, help="run to export")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        known = works(arguments.data.resolve(), arguments.source.resolve(), arguments.trained)
        rows = []
        for name in arguments.work:
            rows += measure(known[name], arguments.times, arguments.seed, Path(scratch))
    note = "Survived: gone on with, it made what the undisturbed one made, byte for byte, and left nothing half-made."
    section = Section("Killed", ["work", "killed at", "times", "survived"], rows, [note])
    print(f"{describe_machine()}\n\n{section.to_markdown()}")


if __name__ == "__main__":
    main()
