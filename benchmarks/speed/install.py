"""Installation without torch: its duration, its size, and the cold start to the first prediction.

python -m benchmarks.speed.install MODEL.onnx [--photo PHOTO] [--backbone tf_efficientnetv2_b0] [--out FILE]
    [--smallest]

Needs the package index that pip is configured for, twice; the first time fills pip's cache. Cold starts are
measured in the new installation and, as the baseline, in the environment this runs in, which has torch and timm.
Writes `benchmarks/results/install.md` unless `--out` names another file.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from functools import partial
from pathlib import Path

from benchmarks.measuring import FULL, SMALLEST, Section, describe_machine, in_turn, spread
from twincar.data.toy.cars import CLASS_NAMES, draw_photo

ROOT = Path(__file__).resolve().parents[2]
SECONDS_GOAL, MEGABYTES_GOAL, ANSWER_GOAL = 20, 250, 1.0
INSTALLS = 3


def measure(model: Path, photo: Path | None, backbone: str, *, smallest: bool = False) -> Section:
    """Install, and measure duration, size and cold starts."""
    installations, rounds = (1, SMALLEST.rounds) if smallest else (INSTALLS, FULL.rounds)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        wheel = _build(folder / "wheel")
        _install(wheel, folder / "first")  # pip's cache is full from here on, and the files are in the page cache
        installs = [_install(wheel, folder / f"install{number}") for number in range(installations)]
        python, site = folder / "first/bin/python", next((folder / "first/lib").glob("python*/site-packages"))
        added = _megabytes(site) - installs[0][1]
        seconds, own = (statistics.median(install[place] for install in installs) for place in (0, 2))
        photo = photo or _draw(folder / "car.jpg")
        cold = _cold(python, model, photo, backbone, folder, rounds)
        middle = {name: statistics.median(times) for name, times in cold.items()}
        rows = [
            ["`pip install twincar`, s", f"{seconds:.1f}", f"under {SECONDS_GOAL}"],
            ["of that, CPU time, s", f"{own:.1f}", ""],
            ["size in site-packages, MB", f"{added:.0f}", f"under {MEGABYTES_GOAL}"],
            ["cold start to first prediction, s", f"{middle['TwinCar']:.2f}", f"under {ANSWER_GOAL:.0f}"],
            ["the same with torch and timm, s", f"{middle['baseline']:.2f}", ""],
            ["speed-up", spread(cold, "baseline", "TwinCar"), ""],
            ["`twincar --help`, s", f"{middle['help']:.2f}", ""],
            ["`twincar info`, s", f"{middle['info']:.2f}", ""],
        ]
        notes = [
            f"The installation is the median of {installations}, each into a new environment, of the wheel built here "
            "and all it depends on, byte code compiled, from a package index nearby and pip's cache: over a network "
            "add the download. Sizes are without pip and setuptools, which every environment has. Cold starts "
            f"are the median of {rounds} alternating rounds; the network of the baseline is {backbone}.",
            "Largest: " + ", ".join(f"{name} {size:.0f} MB" for name, size in _largest(site)) + ".",
        ]
    return Section("Installation without torch", ["what", "measured", "goal"], rows, notes)


def _build(folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.iterdir())


def _install(wheel: Path, folder: Path) -> tuple[float, float, float]:
    """Seconds it took, megabytes of the empty environment, and seconds of CPU time."""
    venv.create(folder, with_pip=True)
    before = _megabytes(next((folder / "lib").glob("python*/site-packages")))
    worked, start = _worked(), time.perf_counter()
    subprocess.run([folder / "bin/pip", "install", "--quiet", wheel], check=True, capture_output=True)
    return time.perf_counter() - start, before, _worked() - worked


def _worked() -> float:
    """CPU seconds of the processes started here."""
    times = os.times()
    return times.children_user + times.children_system


def _megabytes(folder: Path) -> float:
    """Space on disk, as `du` counts it, of a folder with all below it."""
    return sum(path.lstat().st_blocks * 512 for path in (folder, *folder.rglob("*"))) / 1e6


_BEFORE = ("pip", "setuptools", "pkg_resources")


def _largest(site: Path, count: int = 6) -> list[tuple[str, float]]:
    sizes = {path.name: _megabytes(path) for path in site.iterdir() if path.is_dir() and path.name not in _BEFORE}
    return sorted(sizes.items(), key=lambda item: -item[1])[:count]


def _draw(path: Path) -> Path:
    draw_photo(CLASS_NAMES[0], seed=0, split="test").image.save(path, quality=92)
    return path


def _cold(python: Path, model: Path, photo: Path, backbone: str, folder: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds of whole processes, alternating; those of TwinCar in the new installation."""
    import torch  # deferred, with the yardstick: both take seconds

    from benchmarks.speed import yardstick

    weights = folder / "weights.pth"
    torch.save(yardstick.build_network(backbone).state_dict(), weights)
    ours: list[str | Path] = [python, "-m", "twincar"]
    commands: dict[str, tuple[list[str | Path], Path]] = {
        "baseline": ([sys.executable, "-m", "benchmarks.speed.yardstick", backbone, weights, photo], ROOT),
        "TwinCar": ([*ours, "predict", "--model", model.resolve(), photo.resolve()], folder),
        "help": ([*ours, "--help"], folder),
        "info": ([*ours, "info"], folder),
    }
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # the wheel's code, no checkout's
    return in_turn(
        {
            name: partial(subprocess.run, command, cwd=where, env=own, check=True, capture_output=True)
            for name, (command, where) in commands.items()
        },
        rounds=rounds,
    )


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.install", description=__doc__)
    parser.add_argument("model", type=Path, help="exported .onnx file")
    parser.add_argument("--photo", type=Path, help="a drawn one unless given")
    parser.add_argument("--backbone", default="tf_efficientnetv2_b0", help="of the model, for the yardstick")
    parser.add_argument("--smallest", action="store_true", help="see that all of it runs; the figures say nothing")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/install.md")
    arguments = parser.parse_args()
    section = measure(arguments.model, arguments.photo, arguments.backbone, smallest=arguments.smallest).to_markdown()
    arguments.out.write_text(f"{describe_machine()}\n\n{section}", encoding="utf-8")
    print(section)


if __name__ == "__main__":
    main()
