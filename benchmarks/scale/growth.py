"""Time and peak memory by the number of photos, and of classes.

    python -m benchmarks.scale.growth FOLDER [--largest 4000] [--smallest]

Photos are toy cars, repeated with a unique comment in each file, so nothing is downloaded and no two files are the
same. Each step runs in a separate process. Results stay in FOLDER as `<step>-<count>.json` and are not measured
again, so a run can be done in parts: `--step prepare 1000` measures one.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.measuring import FULL, SMALLEST, Scale, Section, peak_memory
from twincar.core.labels import ClassNames

RESULTS = Path(__file__).parents[1] / "results"
_DRAWN = 42  # different photos of each of the 24 toy cars; the rest are repetitions
_MEMORY = 16e9  # bytes of a common machine: where a line of memory ends
_STRAIGHT = 1.1  # exponent up to which a line is called straight

Work = Callable[[], object]


@dataclass(frozen=True)
class Cost:
    """What one step took."""

    count: int
    """Photos, or classes."""
    seconds: float
    peak: int
    """Most memory resident at once, bytes, with the interpreter and its libraries."""


@dataclass(frozen=True)
class Line:
    """The costs of one step at every count."""

    step: str
    unit: str
    """'photo' or 'class'."""
    costs: list[Cost]

    @property
    def exponent(self) -> float:
        """Of the power law through the seconds, by least squares of the logarithms; 1 is a straight line."""
        return _exponent(self.costs)

    @property
    def last_exponent(self) -> float:
        """The same between the two largest counts, where what is fixed weighs least."""
        return _exponent(self.costs[-2:])

    @property
    def memory(self) -> tuple[float, float]:
        """Bytes for each photo or class, and bytes at none, by least squares."""
        if len(self.costs) < 2:
            return math.nan, math.nan
        slope, base = np.polyfit([cost.count for cost in self.costs], [float(cost.peak) for cost in self.costs], 1)
        return float(slope), float(base)

    def to_row(self) -> list[str]:
        """Its row of the table."""
        first, last = self.costs[0], self.costs[-1]
        return [
            self.step,
            _dotted(f"{cost.count:,}" for cost in self.costs) + (" photos" if self.unit == "photo" else " classes"),
            _dotted(f"{cost.seconds:.3g}" for cost in self.costs),
            f"{self.exponent:.2f} · {self.last_exponent:.2f}",
            f"{first.seconds / first.count * 1000:.3g} · {last.seconds / last.count * 1000:.3g}",
            _dotted(f"{cost.peak / 1e6:.0f}" for cost in self.costs),
            f"{max(self.memory[0], 0):,.0f}",
        ]


def _exponent(costs: list[Cost]) -> float:
    if len(costs) < 2:
        return math.nan
    fit = np.polyfit(np.log([cost.count for cost in costs]), np.log([cost.seconds for cost in costs]), 1)
    return float(fit[0])


def measure(folder: Path, pictures: Path, scale: Scale = FULL, *, largest: int = FULL.photos[-1]) -> Section:
    """Measure every step at every count, and draw `growth_photos.png` and `growth_classes.png`.

    Args:
        folder: scratch space; about 10 kB a photo.
        pictures: folder for the two drawings.
        scale: the counts.
        largest: the most photos.
    """
    counts = [count for count in scale.photos if count <= largest]
    for count in counts:
        _photos(folder, count)  # here, so that no step's peak is that of drawing toy cars
    photos = [Line(step, "photo", [_cost(folder, step, n, scale) for n in counts]) for step in _PHOTO_STEPS]
    classes = [Line(step, "class", [_cost(folder, step, n, scale) for n in scale.classes]) for step in _CLASS_STEPS]
    _draw(photos, "photos", pictures / "growth_photos.png")
    _draw(classes, f"classes ({scale.evaluated:,} photos each time)", pictures / "growth_classes.png")
    return Section(
        title="Scaling",
        header=["step", "at", "seconds", "exponent, all · last", "ms each, first · last", "peak MB", "bytes each"],
        rows=[line.to_row() for line in [*photos, *classes]],
        notes=[_method(scale), _judgement(photos, classes), _first_bend(photos, classes, scale.evaluated), *_PICTURES],
    )


_PICTURES = [f"![{name}](results/growth_{name}.png)" for name in ("photos", "classes")]


def _method(scale: Scale) -> str:
    return (
        f"Each step ran once in a separate process, {os.cpu_count()} cores, files in the page cache. Photos: toy cars, "
        "192 pixels wide, repeated as separate files. The epoch is the input only (training loader, 64×96 pixels,"
        " no worker processes: each would hold its own copy of the list of photos); the network's time is constant per "
        "photo. Predict is `Classifier.stream` with `tf_efficientnetv2_b0` of random weights at 32×48 pixels. "
        f"Evaluation is the part after the network for {scale.evaluated:,} photos, whose logits are in memory; the "
        "confusion matrix is its counting, table and figure alone. With more than 200 classes the figure shows the "
        "100 most often confused, and with more than 1,000 the table lists only the cells that are not 0; so 196 "
        "classes take the longest. Exponent: of a power law fitted to the seconds, at all counts and at the last two; 1"
        " is linear, less than 1 means a fixed cost at the start. Peak: resident memory with the interpreter and "
        "its libraries. Bytes each: what a photo or class adds."
    )


def _judgement(photos: list[Line], classes: list[Line]) -> str:
    bent = [line for line in [*photos, *classes] if max(line.exponent, line.last_exponent) > _STRAIGHT]
    if not bent:
        return f"No step grows faster than linearly: no exponent is above {_STRAIGHT}."
    steps = ", ".join(f"{line.step} ({line.last_exponent:.2f})" for line in bent)
    return f"Steps that grow faster than linearly: {steps}."


def _first_bend(photos: list[Line], classes: list[Line], evaluated: int) -> str:
    """Which step would fill the memory first, if its growth continues."""
    first = min(photos, key=_full_at)
    evaluation = classes[0]
    logits = 4 * evaluated
    slope, base = evaluation.memory
    full_at = round((_MEMORY - base) / (slope + logits), -3)
    return (
        f"The first limit would be memory. Of {_MEMORY / 1e9:.0f} GB, {first.step} is the first to need all, at about "
        f"{_full_at(first) / 1e6:.1f} million photos ({first.memory[0]:,.0f} bytes a photo: its row, not its pixels). "
        "Balanced sampling has a limit of 16.7 million photos (2²⁴, of `torch.multinomial`). Evaluation of "
        f"{evaluated:,} photos needs all at about {full_at:,.0f} classes: the logits of all photos are kept, 4 bytes "
        f"for each photo and class ({logits:,} a class, and with --tta for each view), and for a moment twice, when "
        "the batches are concatenated."
    )


def _full_at(line: Line) -> float:
    slope, base = line.memory
    return (_MEMORY - base) / slope if slope > 0 else math.inf


def _dotted(parts: Iterable[str]) -> str:
    return " · ".join(parts)


# ----------------------------------------------------------------------------------------------- one measurement


def _cost(folder: Path, step: str, count: int, scale: Scale) -> Cost:
    """Measured in a process of its own, or read where that was done before."""
    file = folder / f"{step.replace(' ', '-')}-{count}.json"
    if not file.exists():
        command = [sys.executable, "-m", "benchmarks.scale.growth", str(folder), "--step", step, str(count)]
        command += ["--smallest"] if scale == SMALLEST else []
        subprocess.run(command, check=True, cwd=Path(__file__).parents[2], stdout=sys.stderr)
    return Cost(**json.loads(file.read_text()))


def _measure_here(folder: Path, step: str, count: int, scale: Scale) -> Cost:
    if step in _PHOTO_STEPS:
        work = _PHOTO_STEPS[step](folder, count)
    else:
        work = _CLASS_STEPS[step](folder, count, scale.evaluated)
    start = time.perf_counter()
    work()
    cost = Cost(count, time.perf_counter() - start, peak_memory())
    (folder / f"{step.replace(' ', '-')}-{count}.json").write_text(json.dumps(asdict(cost)))
    return cost


def _photos(folder: Path, count: int) -> Path:
    """A folder of that many photos in class folders, no two the same bytes."""
    from twincar.data.toy.cars import CLASS_NAMES, draw_data_set

    source, each = folder / f"photos-{count}", min(_DRAWN, -(-count // len(CLASS_NAMES)))
    if source.exists():
        return source
    drawn = folder / f"toycars-{each}"
    if not (drawn / "toycars.json").exists():
        draw_data_set(drawn, photos_per_class={"train": each})
    seeds = [path.read_bytes() for path in sorted((drawn / "photos").rglob("*.jpg"))]
    unfinished = folder / f"photos-{count}.part"
    shutil.rmtree(unfinished, ignore_errors=True)
    for name in CLASS_NAMES:
        (unfinished / name).mkdir(parents=True)
    for number in range(count):
        label, turn = number % len(CLASS_NAMES), number // len(CLASS_NAMES)
        seed = seeds[label * each + turn % each]
        comment = b"\xff\xfe\x00\x0a" + f"{number:08d}".encode()
        (unfinished / CLASS_NAMES[label] / f"{number:08d}.jpg").write_bytes(seed[:2] + comment + seed[2:])
    unfinished.rename(source)
    return source


# ------------------------------------------------------------------------- the steps: set up, then give the work


def _prepare(folder: Path, count: int) -> Work:
    from twincar.data.prepare import prepare

    source, out = _photos(folder, count), folder / f"prepared-{count}"
    shutil.rmtree(out, ignore_errors=True)
    return lambda: prepare(str(source), out)


def _audit(folder: Path, count: int) -> Work:
    from twincar.data.sources import open_source
    from twincar.data.validate import audit_source

    source = _photos(folder, count)
    return lambda: audit_source(open_source(str(source)))


def _epoch(folder: Path, count: int) -> Work:
    from twincar.core.augmentation import AugmentConfig
    from twincar.core.preprocess import Preprocessing
    from twincar.data.dataset import PreparedData
    from twincar.data.loading.loader import TrainingPhotos, training_loader

    def work() -> None:
        data = PreparedData.open(folder / f"prepared-{count}")
        photos = TrainingPhotos(data, AugmentConfig(), Preprocessing(height=64, width=96), seed=0)
        for _ in training_loader(photos, batch_size=32, balanced=True, workers=0):
            pass

    if not (folder / f"prepared-{count}").exists():
        _prepare(folder, count)()
    return work


def _predict(folder: Path, count: int) -> Work:
    from twincar.core.listing import find_photos
    from twincar.core.preprocess import Preprocessing
    from twincar.data.toy.cars import CLASS_NAMES
    from twincar.inference.classifier import Classifier
    from twincar.models.checkpoint import save_model
    from twincar.models.network import CarNet
    from twincar.models.spec import ModelSpec

    backbone, model = "tf_efficientnetv2_b0", folder / "model.safetensors"
    if not model.exists():
        preprocessing = Preprocessing(height=32, width=48)  # the fewest pixels: the network's part is constant
        spec = ModelSpec(backbone=backbone, head="linear", classes=ClassNames(CLASS_NAMES), preprocessing=preprocessing)
        save_model(model, CarNet(backbone, len(CLASS_NAMES), head="linear"), spec)
    source, classifier = _photos(folder, count), Classifier.load(model)

    def work() -> None:
        for _ in classifier.stream(find_photos([str(source)])):
            pass

    return work


def _evaluation(folder: Path, count: int, evaluated: int) -> Work:
    from twincar.core.files import write_csv
    from twincar.core.preprocess import Preprocessing
    from twincar.core.runs import MONITOR, RunFolder
    from twincar.data.dataset import ANNOTATIONS, Annotation, PreparedData
    from twincar.evaluation.evaluate import report_logits
    from twincar.evaluation.subject import Subject
    from twincar.models.spec import ModelSpec

    labels, answers = _labels_and_answers(count, evaluated)
    logits = np.random.default_rng(0).standard_normal((evaluated, 1, count), np.float32)
    logits[np.arange(evaluated), 0, answers] += 12
    annotations = [
        Annotation(file=f"test/{i}.jpg", label=label, split="test", width=192, height=110, box=None, sha256="0" * 64)
        for i, label in enumerate(labels.tolist())
    ]
    run = RunFolder(folder / f"run-{count}")
    subject = Subject(run.path)
    spec = ModelSpec(
        backbone="", head="linear", classes=_names(count), preprocessing=Preprocessing(height=224, width=224)
    )
    averages = ("precision_macro", "recall_macro", "precision_weighted", "recall_weighted")
    columns = [
        "train_acc",
        "train_loss",
        MONITOR,
        *(f"val_{name}" for name in ("acc", "loss", "top3", "top5", *averages)),
    ]
    write_csv(run.metrics, [{"epoch": 1, **dict.fromkeys(columns, 0.5)}])
    data = PreparedData(folder, folder, spec.classes, tuple(annotations), {"sha256": {ANNOTATIONS: "0" * 64}})
    vars(subject).update(run=run, spec=spec, data=data)  # as it would open them, without files
    return lambda: report_logits(subject, annotations, labels, logits)


def _confusion(folder: Path, count: int, evaluated: int) -> Work:
    from twincar.evaluation.evaluate import _draw_matrix, _write_matrix
    from twincar.metrics.classification import confusion_matrix, per_class_report

    labels, answers = _labels_and_answers(count, evaluated)
    names, out = _names(count), folder / f"confusion-{count}"

    def work() -> None:
        matrix = confusion_matrix(labels, answers, count)
        per_class_report(matrix, names.names)
        _write_matrix(out, matrix, names)
        _draw_matrix(out, "test", matrix, names)

    return work


def _labels_and_answers(classes: int, evaluated: int) -> tuple[np.ndarray, np.ndarray]:
    """The truth, and answers that are right for four photos in five, else one of twenty neighbours."""
    rng = np.random.default_rng(classes)
    labels = np.arange(evaluated) % classes
    near = (labels + rng.integers(1, 20, evaluated)) % classes
    return labels, np.where(rng.random(evaluated) < 0.8, labels, near)


def _names(classes: int) -> ClassNames:
    return ClassNames(tuple(f"Make{index // 40} Model {index} Sedan 2012" for index in range(classes)))


_PHOTO_STEPS = {"prepare": _prepare, "audit": _audit, "epoch": _epoch, "predict": _predict}
_CLASS_STEPS = {"evaluation": _evaluation, "confusion matrix": _confusion}


# ---------------------------------------------------------------------------------------------------- the pictures


def _draw(lines: list[Line], unit: str, path: Path) -> None:
    """Time on the left, memory on the right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), dpi=110, layout="constrained")
    seconds, memory = figure.subplots(1, 2)
    for line, color in zip(lines, ("#0072B2", "#E69F00", "#009E73", "#D55E00"), strict=False):
        counts = np.array([cost.count for cost in line.costs])
        took, peak = [cost.seconds for cost in line.costs], [cost.peak / 1e6 for cost in line.costs]
        seconds.plot(counts, took, "o-", color=color, label=line.step)
        slope, base = line.memory
        memory.plot(counts, peak, "o", color=color, label=f"{line.step}: {_bytes(slope)} each")
        memory.plot(counts, (base + slope * counts) / 1e6, color=color, linewidth=1.5)
    if lines[0].unit == "photo":
        least = min(line.costs[0].seconds for line in lines) * 0.6
        seconds.plot(counts, least * counts / counts[0], "--", color="#6e6e6e", label="a straight line")
        seconds.set(yscale="log", title="Time, logarithmic")
        seconds.yaxis.set_major_formatter("{x:g}")
    else:
        seconds.set(ylim=(0, None), title="Time")
    seconds.set(xscale="log", ylabel="seconds")
    seconds.set_xticks(counts, [f"{count:,}" for count in counts])
    seconds.xaxis.minorticks_off()
    memory.set(ylabel="MB", ylim=(0, None), xlim=(0, None), title="Peak memory, libraries included")
    memory.xaxis.set_major_formatter("{x:,.0f}")
    for axes in (seconds, memory):
        axes.set_title(axes.get_title(), fontweight="bold")
        axes.set_xlabel(unit)
        axes.legend(frameon=False, fontsize=9)
        axes.grid(color="#e4e4e4", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _bytes(count: float) -> str:
    return f"{count / 1000:,.1f} kB" if count >= 1000 else f"{max(count, 0):,.0f} bytes"


def main() -> None:
    """Print the section, or measure one step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="scratch space")
    parser.add_argument("--largest", type=int, default=FULL.photos[-1], help="the most photos")
    parser.add_argument("--smallest", action="store_true", help="see that all of it runs; the figures say nothing")
    parser.add_argument("--pictures", type=Path, default=RESULTS, help="folder for these")
    parser.add_argument("--step", nargs=2, metavar=("NAME", "COUNT"), help="measure one step only")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    folder, scale = arguments.folder.resolve(), SMALLEST if arguments.smallest else FULL
    if arguments.step:
        print(_measure_here(folder, arguments.step[0], int(arguments.step[1]), scale))
    else:
        print(measure(folder, arguments.pictures, scale, largest=arguments.largest).to_markdown())


if __name__ == "__main__":
    main()
