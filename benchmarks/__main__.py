"""Runs every benchmark and writes `benchmarks/results.md` with a figure of all speed-ups.

python -m benchmarks [DATA] [--only training-step] [--smallest] [--out FOLDER]

Without DATA the toy cars are drawn; for photos of another size the results differ.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measuring import FULL, SMALLEST, Scale, Section, describe_machine
from benchmarks.scale import growth
from benchmarks.speed import inference, training_input, training_step
from benchmarks.speed.picture import draw_ratios
from twincar.data.dataset import PreparedData
from twincar.data.prepare import prepare

HERE = Path(__file__).parent
PARTS = {
    "training-input": training_input.measure,
    "training-step": training_step.measure,
    "inference": inference.measure,
}


def main() -> None:
    """Measure each part in a process of its own, and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("data", type=Path, nargs="?", help="prepared data set; the toy cars unless given")
    parser.add_argument("--only", choices=[*PARTS, "growth"], help="print one part; growth draws its figures as well")
    parser.add_argument("--smallest", action="store_true", help="check that all parts run; the results are meaningless")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for results.md and its pictures")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    pictures = arguments.out / "results"
    if arguments.only:
        scale = SMALLEST if arguments.smallest else FULL
        print(_measure(arguments.only, arguments.data, scale, pictures).to_markdown())
        return
    sections = []
    for part in [*PARTS, "growth"]:
        command = [sys.executable, "-m", "benchmarks", "--only", part, "--out", str(arguments.out)]
        command += [str(arguments.data)] if arguments.data else []
        command += ["--smallest"] if arguments.smallest else []
        print(f"Measuring {part}", file=sys.stderr, flush=True)
        sections.append(subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout)
    name = arguments.data.name if arguments.data else "toy cars"
    head = f"# Speed measurements\n\n{describe_machine()}\n\nData: {name}.\n"
    head += "\n![Every speed-up over the baseline as a bar](results/ratios.png)\n"
    results = arguments.out / "results.md"
    results.write_text("\n".join([head, *sections]), encoding="utf-8")
    draw_ratios(results, pictures / "ratios.png")
    print(f"Written: {results}")


def _measure(part: str, data: Path | None, scale: Scale, pictures: Path) -> Section:
    with tempfile.TemporaryDirectory() as scratch:
        if part == "growth":
            return growth.measure(Path(scratch), pictures, scale)
        opened = PreparedData.open(data) if data else prepare("toycars", Path(scratch) / "toycars")
        return PARTS[part](opened, scale)


if __name__ == "__main__":
    main()
