"""How speed is measured: two or more implementations run alternately, and the ratio of their medians.

A machine that is busy with other work slows all implementations alike, so a ratio is more reliable than a single time.
"""

from __future__ import annotations

import platform
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path

from twincar.core.machine import describe_cpu

_PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow", "opencv-python-headless", "simplejpeg", "onnxruntime",
             "openvino", "nncf", "lightning")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Sizes of the measurements."""

    backbone: str = "efficientnetv2_rw_s"
    size: int = 224
    """Pixels of a side of the network's input."""
    batch: int = 32
    read: int = 512
    """Photos in a round of training input; a round of the baseline then takes some seconds."""
    one_by_one: int = 5
    """Photos in a round of inference, one by one."""
    at_once: int = 64
    """Photos in a round of inference, in batches."""
    rounds: int = 5
    photos: tuple[int, ...] = (1_000, 4_000, 16_000, 64_000)
    """As work grows."""
    classes: tuple[int, ...] = (196, 1_000, 3_000, 10_000)
    """As work grows."""
    evaluated: int = 20_000
    """Photos in the evaluations, whatever the number of classes."""


FULL = Scale()
SMALLEST = Scale(
    backbone="tf_efficientnetv2_b0", size=32, batch=2, read=4, one_by_one=1, at_once=2, rounds=1,
    photos=(96, 192), classes=(4, 8), evaluated=40,
)  # fmt: skip
"""To check that all of it runs; the results are meaningless."""


@dataclass(frozen=True)
class Section:
    """One part of `results.md`: a table and notes."""

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)
    """Paragraphs below the table: what was measured, on which data, which goals were missed."""

    def to_markdown(self) -> str:
        """The section as it stands in `results.md`."""
        lines = [f"## {self.title}", "", _line(self.header), _line(["---"] * len(self.header))]
        lines += [_line(row) for row in self.rows]
        return "\n".join([*lines, *(f"\n{note}" for note in self.notes)]) + "\n"


def in_turn(
    ways: Mapping[str, Callable[[], object]], *, rounds: int = FULL.rounds, warm_up: int = 1
) -> dict[str, list[float]]:
    """Seconds of each way, `rounds` of each, alternating: a, b, a, b, ...; `warm_up` rounds before are not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for count in range(-warm_up, rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if count >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds: Mapping[str, list[float]], yardstick: str, ours: str) -> float:
    """How many times faster `ours` is than `yardstick`: the ratio of the medians."""
    return statistics.median(seconds[yardstick]) / statistics.median(seconds[ours])


def spread(seconds: Mapping[str, list[float]], yardstick: str, ours: str) -> str:
    """The ratio with the lowest and the highest of any round, as '5.2 (4.9 to 5.6)'."""
    rounds = [theirs / own for theirs, own in zip(seconds[yardstick], seconds[ours], strict=True)]
    return f"{ratio(seconds, yardstick, ours):.1f} ({min(rounds):.1f} to {max(rounds):.1f})"


def peak_memory() -> int:
    """Peak resident memory of this process, bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would count what the process that started this one held
        return int(status.read_text(encoding="utf-8").split("VmHWM:")[1].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def describe_machine() -> str:
    """The day, the processor and the versions, in one sentence."""
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return (
        f"{date.today():%d %B %Y}, {describe_cpu()}, {platform.system()}, Python {platform.python_version()}; "
        f"{packages}."
    )


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
