"""Kills a training, a preparation or an export at moments of its work, goes on, and compares with one left in peace.

python -m benchmarks.survival DATA SOURCE [--times 20] [--work train prepare export] [--trained RUN]

A moment is the start of a step or of a validation batch, the middle of a file that is written, or the instant before or
after it takes its name; the process is sent SIGKILL there, so it tidies nothing up. DATA is a prepared data set.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path

from benchmarks.measuring import Section, describe_machine
from twincar.files import sha256_of_file

KILL_AT, MOMENTS = "SURVIVAL_KILL_AT", "SURVIVAL_MOMENTS"
TRAIN = ("--recipe", "toycars", "--epochs", "3", "--limit", "4", "--precision", "fp32", "--image-size", "64")


@dataclass
class Moments:
    """Counts them; at the one that the environment names the process is killed."""

    kill_at: int
    names: list[str] = field(default_factory=list)

    def pass_by(self, name: str) -> None:
        """One more."""
        if len(self.names) == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.names.append(name)


def child(arguments: Sequence[str]) -> None:
    """Run the command line with every moment counted; tells them all where it comes to its end."""
    from twincar import cli, train  # deferred: the parent needs neither

    moments = Moments(int(os.environ.get(KILL_AT, "-1")))
    write, rename = Path.write_bytes, Path.replace

    def write_in_two(path: Path, data: bytes) -> int:
        if not path.name.endswith(".part"):
            return write(path, data)
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            moments.pass_by(f"half of {path.name.rsplit('.', 2)[0]}")
            file.write(data[len(data) // 2 :])
        return len(data)

    def watched_rename(path: Path, target: Path) -> Path:
        moments.pass_by(f"before {Path(target).name} has its name")
        renamed = rename(path, target)
        moments.pass_by(f"after {Path(target).name} has its name")
        return renamed

    Path.write_bytes = write_in_two  # type: ignore[method-assign, assignment]
    Path.replace = watched_rename  # type: ignore[method-assign, assignment]
    for name in ("training_step", "validation_step"):
        _watch(train.TrainingModule, name, moments)
    try:
        sys.argv = ["twincar", *arguments]
        cli.main()
    finally:
        if MOMENTS in os.environ:
            Path(os.environ[MOMENTS]).write_text("\n".join(moments.names))


def _watch(owner: type, name: str, moments: Moments) -> None:
    plain: Callable[..., object] = getattr(owner, name)

    @wraps(plain)  # the Trainer reads from the signature what to pass
    def watched(*arguments: object) -> object:
        moments.pass_by(name.replace("_", " "))
        return plain(*arguments)

    setattr(owner, name, watched)


@dataclass(frozen=True)
class Work:
    """A command, how to go on with it, and what must be the same in the end."""

    name: str
    command: Callable[[Path], list[str]]
    """Its arguments, for a folder to work in."""
    resumed: Callable[[Path], list[str]]
    results: Callable[[Path], dict[str, str]]
    """What it has made, by a hash of each."""


def works(data: Path, source: Path, trained: Path | None = None) -> dict[str, Work]:
    """Those that can be killed: training on `data`, preparing `source`, exporting the run `trained`."""

    def train(folder: Path) -> list[str]:
        return ["train", str(data), "--runs", str(folder), "--name", "run", *TRAIN]

    def go_on(folder: Path) -> list[str]:
        begun = (folder / "run" / "config.yaml").exists()
        return ["train", "--resume", str(folder / "run")] if begun else train(folder)

    def prepare(folder: Path) -> list[str]:
        return ["prepare", str(source), "--out", str(folder / "data")]

    def export(folder: Path) -> list[str]:
        return ["export", str(trained), "--out", str(folder / "model.onnx")]

    def files(*patterns: str) -> Callable[[Path], dict[str, str]]:
        return lambda folder: {
            path.relative_to(folder).as_posix(): sha256_of_file(path)
            for pattern in patterns
            for path in sorted(folder.glob(pattern))
            if path.is_file()
        }

    return {
        "train": Work("train", train, go_on, files("run/metrics.csv", "run/best.safetensors", "run/.*")),
        "prepare": Work("prepare", prepare, prepare, files("**/*")),
        "export": Work("export", export, export, files("model.onnx")),
    }


def run(arguments: list[str], *, kill_at: int | None = None, moments: Path | None = None) -> int:
    """Run it in a process of its own; gives the exit code, negative for a signal."""
    chosen = {} if kill_at is None else {KILL_AT: str(kill_at)}
    told = {} if moments is None else {MOMENTS: str(moments)}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **chosen, **told}
    command = [sys.executable, "-m", "benchmarks.survival", "--child", *arguments]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if finished.returncode not in (0, -signal.SIGKILL):
        print(finished.stderr, file=sys.stderr)
    return finished.returncode


def undisturbed(work: Work, folder: Path) -> tuple[list[str], dict[str, str]]:
    """All moments of the work, and what it makes."""
    folder.mkdir()
    code = run(work.command(folder), moments=folder.with_suffix(".moments"))
    assert code == 0, f"{work.name} failed by itself"
    return folder.with_suffix(".moments").read_text().splitlines(), work.results(folder)


def survives(work: Work, folder: Path, moment: int, expected: dict[str, str]) -> bool:
    """Whether the work, killed at a moment and gone on with, has made the same."""
    folder.mkdir()
    killed = run(work.command(folder), kill_at=moment) == -signal.SIGKILL
    same = run(work.resumed(folder)) == 0 and work.results(folder) == expected
    shutil.rmtree(folder)
    return killed and same


def measure(work: Work, times: int, seed: int, scratch: Path) -> list[list[str]]:
    """A row for each kind of moment that was drawn."""
    names, expected = undisturbed(work, scratch / work.name)
    drawn = sorted(random.Random(seed).sample(range(len(names)), min(times, len(names))))
    tried: dict[str, list[bool]] = {}
    for moment in drawn:
        survived = survives(work, scratch / f"{work.name}-{moment}", moment, expected)
        tried.setdefault(names[moment], []).append(survived)
        print(f"{work.name}: {names[moment]} ({moment} of {len(names)}): {survived}", file=sys.stderr, flush=True)
    return [[work.name, name, str(len(found)), str(sum(found))] for name, found in sorted(tried.items())]


def main() -> None:
    """Measure and print; or be the child."""
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(prog="python -m benchmarks.survival", description=__doc__)
    parser.add_argument("data", type=Path, help="prepared data set")
    parser.add_argument("source", type=Path, help="source to prepare, such as class folders")
    parser.add_argument("--times", type=int, default=20, help="of each work")
    parser.add_argument("--work", nargs="+", choices=["train", "prepare", "export"], default=["train", "prepare"])
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
