"""Runs every benchmark and writes `benchmarks/results.md` with a picture of all ratios.

python -m benchmarks [DATA] [--only training-step]

Without DATA the toy cars are drawn; on photos of another size the figures differ.
"""

from __future__ import annotations

import argparse
import logging
import platform
import subprocess
import sys
import tempfile
from datetime import date
from importlib.metadata import version
from pathlib import Path

from benchmarks import answers, growth, training_input, training_step
from benchmarks.measuring import Section
from benchmarks.picture import draw_ratios
from twincar.data.annotations import PreparedData
from twincar.data.prepare import prepare
from twincar.machine import available_cores

HERE = Path(__file__).parent
PARTS = {
    "training-input": training_input.measure,
    "training-step": training_step.measure,
    "answers": answers.measure,
}
_PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow", "opencv-python-headless", "simplejpeg", "onnxruntime",
             "openvino", "nncf", "lightning")  # fmt: skip


def main() -> None:
    """Measure, a process a part, and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("data", type=Path, nargs="?", help="prepared data set; the toy cars unless given")
    parser.add_argument("--only", choices=[*PARTS, "growth"], help="print one part, and write nothing")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    if arguments.only:
        print(_measure(arguments.only, arguments.data).to_markdown())
        return
    sections = []
    for part in [*PARTS, "growth"]:
        command = [sys.executable, "-m", "benchmarks", "--only", part]
        command += [str(arguments.data)] if arguments.data else []
        print(f"Measuring {part}", file=sys.stderr, flush=True)
        sections.append(subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout)
    head = f"# What was measured\n\n{_machine()}\n\nData: {arguments.data.name if arguments.data else 'toy cars'}.\n"
    head += "\n![Every ratio to the yardstick as a bar](results/ratios.png)\n"
    (HERE / "results.md").write_text("\n".join([head, *sections]), encoding="utf-8")
    draw_ratios(HERE / "results.md", HERE / "results" / "ratios.png")
    print(f"Written: {HERE / 'results.md'}")


def _measure(part: str, data: Path | None) -> Section:
    with tempfile.TemporaryDirectory() as scratch:
        if part == "growth":
            return growth.measure(Path(scratch))
        opened = PreparedData.open(data) if data else prepare("toycars", Path(scratch) / "toycars")
        return PARTS[part](opened)


def _machine() -> str:
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return (
        f"{date.today():%d %B %Y}, {available_cores()} cores of an {cpu}, {platform.system()}, Python "
        f"{platform.python_version()}; {packages}."
    )


if __name__ == "__main__":
    main()
