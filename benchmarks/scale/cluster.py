"""Batch prediction on a Ray cluster of two nodes, with a node and the command killed, and in one process.

python -m benchmarks.scale.cluster MODEL PHOTOS [--count 100000] [--out benchmarks/results/cluster.md]

MODEL is an exported file. PHOTOS is a folder, whose photos are linked under COUNT names. Both nodes are on this
machine, with one core each. A node is killed with SIGKILL after a quarter of the parts and `twincar predict` itself
after half of them; the same command is then run again, with one node left. The same photos are predicted by one process
without a cluster, which is killed after half of its parts too. All rows must be the same.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.measuring import Section
from twincar.core.files import write_text
from twincar.core.listing import find_photos
from twincar.inference.batch import read_rows

_FOLDER = 1000
"""Photos a folder."""
_EVERY = 1.0
"""Seconds between two measurements of memory."""
WARM_UP = 0.2
"""Share of the time before which memory may grow."""


@dataclass
class Command:
    """One `twincar predict --out`, from its start to its end or to when it was killed."""

    seconds: float = 0.0
    parts: int = 0
    times: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    """Of the command's process, MiB."""
    workers: list[float] = field(default_factory=list)
    """Of the largest of the cluster's workers, MiB."""

    @property
    def slope(self) -> float:
        """Growth of its memory after the warm-up, MiB in 10,000 photos: a line of least squares."""
        first = round(WARM_UP * len(self.times))
        if len(self.times) - first < 2:
            return math.nan
        a_second = float(np.polyfit(self.times[first:], self.memory[first:], 1)[0])
        return a_second * self.seconds / self.parts * 10


def link_photos(photos: Sequence[Path], count: int, folder: Path) -> None:
    """Links `count` names to fewer photos; every ten thousandth is a broken file."""
    for number in range(count):
        place = folder / f"{number // _FOLDER:04d}"
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"{number % _FOLDER:04d}.jpg"
        if number % 10_000 == 4321:
            path.write_bytes(b"no photo")
        else:
            os.link(photos[number % len(photos)], path)


def run(arguments: Sequence[str], out: Path, *, at: dict[int, Callable[[], bool]]) -> Command:
    """Run the command; `at` these numbers of parts call a function, and kill the command if it returns true."""
    begun, command, before = time.perf_counter(), Command(), _parts(out)
    # In a group of its own, as the cluster is to outlive it.
    process = subprocess.Popen([sys.executable, "-m", "twincar", *arguments], start_new_session=True)
    while process.poll() is None:
        if memory := _memory(process.pid):
            command.times.append(time.perf_counter() - begun)
            command.memory.append(memory)
            command.workers.append(max(map(_memory, _workers()), default=0.0))
        for parts in [parts for parts in at if parts <= _parts(out)]:
            if at.pop(parts)():
                process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_EVERY)
    command.seconds, command.parts = time.perf_counter() - begun, _parts(out) - before
    if process.wait() not in (1, -9):  # a few photos are broken, and told
        raise SystemExit(f"twincar {' '.join(arguments)} ended with {process.returncode}")
    return command


def _parts(out: Path) -> int:
    return len(list(out.glob("part-*.parquet")))


def _memory(process: int) -> float:
    """Memory of a process, MiB; 0 if it has just ended."""
    try:
        pages = Path(f"/proc/{process}/statm").read_text(encoding="utf-8").split()[1]
    except OSError:
        return 0.0
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _workers() -> list[int]:
    """Ray's worker processes, recognised by their names."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it may have ended meanwhile
            if path.read_bytes().startswith(b"ray::"):
                found.append(int(path.parent.name))
    return found


def on_a_cluster(arguments: Sequence[str], out: Path, parts: int) -> tuple[list[Command], str]:
    """The commands, of which the second resumes the first; and what was killed when."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    doomed = cluster.add_node(num_cpus=1)
    killed: list[str] = []

    def kill_node() -> bool:
        killed.append(f"node killed after {_parts(out)} parts")
        cluster.remove_node(doomed, allow_graceful=False)
        return False

    def kill_command() -> bool:
        killed.append(f"command killed after {_parts(out)}")
        return True

    there = [*arguments, "--cluster", cluster.address, "--out", str(out)]
    try:
        commands = [run(there, out, at={parts // 4: kill_node, parts // 2: kill_command}), run(there, out, at={})]
    finally:
        cluster.shutdown()
    return commands, ", ".join(killed)


def measure(model: Path, photos: Path, count: int, folder: Path) -> Section:
    """Measure everything."""
    originals = [Path(photo) for photo in find_photos([str(photos)])]
    link_photos(originals, count, folder / "photos")
    arguments = ["predict", str(folder / "photos"), "--model", str(model)]
    parts = -(-count // 1000)
    clustered, killed = on_a_cluster(arguments, folder / "cluster", parts)
    alone_arguments = [*arguments, "--out", str(folder / "alone")]
    alone = [
        run(alone_arguments, folder / "alone", at={parts // 2: lambda: True}),
        run(alone_arguments, folder / "alone", at={}),
    ]
    return _section(count, len(originals), folder, clustered, alone, killed)


def _section(
    count: int, originals: int, folder: Path, clustered: list[Command], alone: list[Command], killed: str
) -> Section:
    names, equal = [], True
    there, here = (read_rows(str(folder / name)) for name in ("cluster", "alone"))
    for row, other in zip(there, here, strict=True):
        names.append(row["photo"])
        equal &= row == other
    once = names == [str(folder / "photos" / f"{n // _FOLDER:04d}" / f"{n % _FOLDER:04d}.jpg") for n in range(count)]
    header = ["command", "parts", "seconds", "photos/s", "memory", "growth in 10,000 photos", "largest worker"]
    rows = [
        [
            what,
            str(command.parts),
            f"{command.seconds:.0f}",
            f"{command.parts * 1000 / command.seconds:.0f}",
            f"{max(command.memory):.0f} MiB",
            f"{command.slope:+.1f} MiB",
            f"{max(command.workers):.0f} MiB",
        ]
        for what, command in (
            ("cluster, until killed", clustered[0]),
            ("cluster, the same command again, one node", clustered[1]),
            ("one process, until killed", alone[0]),
            ("one process, the same command again", alone[1]),
        )
    ]
    said = (
        f"{count:,} names of {originals:,} photos; {killed}. Every photo has one row, in order: {once}. "
        f"Rows of both ways are the same: {equal}. Memory is that of the command's own process."
    )
    if not (once and equal):
        raise SystemExit(said)
    return Section("Many photos on a cluster", header, rows, [said])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale.cluster", description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/cluster.md"))
    arguments = parser.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    folder = Path(tempfile.mkdtemp(dir=arguments.photos.absolute().parent))  # links stay on one disk
    try:
        section = measure(arguments.model, arguments.photos, arguments.count, folder)
    finally:
        shutil.rmtree(folder)
    write_text(arguments.out, section.to_markdown())
    print(section.to_markdown())


if __name__ == "__main__":
    main()
