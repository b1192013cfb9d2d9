"""Answers: from photo files to named cars, from a cold process to its first answer, and Grad-CAM++.

python -m benchmarks.answers DATA

The network is the published one with random weights; its batch norms have seen photos, so its numbers stay in range.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks import yardstick
from benchmarks.measuring import ROUNDS, Section, in_turn, ratio, spread
from twincar.data.annotations import PreparedData
from twincar.export import Exported, export
from twincar.labels import ClassNames, stanford_cars
from twincar.machine import available_cores
from twincar.modeling.checkpoint import save_model
from twincar.modeling.network import CarNet
from twincar.modeling.spec import ModelSpec
from twincar.predict import Classifier
from twincar.preprocess import Preprocessing, read_photo

BACKBONE, SIZE = "efficientnetv2_rw_s", 224
ONE, MANY = 5, 64  # photos a round
GOALS = {
    "onnxruntime": (2.0, 2.3),
    "OpenVINO bf16": (3.5, 4.0),
    "OpenVINO int8": (5.0, 6.5),
}
COLD_GOAL, COLD_SECONDS, HELP_SECONDS = 8, 1.0, 0.3


def measure(data: PreparedData | Path) -> Section:
    """Times the yardstick, for one photo after another and for many at once, of every engine."""
    opened = data if isinstance(data, PreparedData) else PreparedData.open(data)
    paths = [opened.path(annotation) for annotation in opened.split("val")]
    photos = (paths * (MANY // len(paths) + 1))[:MANY]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        network = _network(photos)
        classifiers, notes = _classifiers(network, folder, opened)
        theirs = yardstick.build_network(BACKBONE).eval()
        ways = ["yardstick", *classifiers]
        one = _both(theirs, classifiers, photos[:ONE], _one_by_one, _ours_one_by_one)
        many = _both(theirs, classifiers, photos, _in_batches, _ours_at_once)
        rows = [
            [
                name,
                f"{1000 * np.median(one[name]) / ONE:.0f}",
                spread(one, "yardstick", name),
                f"{MANY / np.median(many[name]):.1f}",
                spread(many, "yardstick", name),
                " and ".join(f"{goal}" for goal in GOALS.get(name, ())),
            ]
            for name in ways
        ]
        notes = [
            f"{BACKBONE} with 196 classes at {SIZE}×{SIZE} pixels, from photo files of {opened.folder.name} to five "
            f"candidates each, {available_cores()} cores; {ONE} photos one by one, {MANY} in batches of 32; median of "
            f"{ROUNDS} rounds in turn.",
            *notes,
            _explaining(theirs, classifiers, photos[:ONE]),
            _cold_start(theirs, folder, photos[0]),
        ]
    header = ["way", "one photo, ms", "times", "many, photos/s", "times", "goals"]
    return Section("Answers", header, rows, notes)


def _network(photos: Sequence[Path]) -> CarNet:
    """Random weights, and batch norms that know the range of what comes through."""
    torch.manual_seed(0)
    network = CarNet(BACKBONE, yardstick.CLASSES)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the mean of all batches
    pixels = np.stack([Preprocessing(height=SIZE, width=SIZE)(read_photo(photo)) for photo in photos[:32]])
    with torch.no_grad():
        network.train()(torch.from_numpy(pixels).permute(0, 3, 1, 2).float())
    return network.eval()


def _classifiers(network: CarNet, folder: Path, data: PreparedData) -> tuple[dict[str, Classifier], list[str]]:
    """Every engine with the same weights, and what the exports cost in accuracy."""
    spec = ModelSpec(
        backbone=BACKBONE,
        head="mlp",
        classes=_names(data.classes),
        preprocessing=Preprocessing(height=SIZE, width=SIZE),
    )
    save_model(folder / "model.safetensors", network, spec)

    def exported(name: str, **how: object) -> Exported:
        return export(folder / "model.safetensors", out=folder / name, data_folder=data.folder, force=True, **how)  # type: ignore[arg-type]

    files = {
        "onnxruntime": exported("model.onnx"),
        "OpenVINO fp32": exported("fp32", format="openvino"),
        "OpenVINO bf16": exported("bf16", format="openvino", precision="bf16"),
        "OpenVINO int8": exported("int8", format="openvino", precision="int8"),
    }
    notes = [
        "Largest difference of a probability from torch's fp32 (random weights say nothing of accuracy): "
        + ", ".join(f"{name} {file.comparison.largest_difference:.1g}" for name, file in files.items())
        + "."
    ]
    classifiers = {"torch": Classifier.load(folder / "model.safetensors")}
    return classifiers | {name: Classifier.load(file.path) for name, file in files.items()}, notes


def _names(own: ClassNames) -> ClassNames:
    """As many classes as the yardstick has: those of the data, and of Stanford Cars what is missing."""
    names = (*own.names, *(name for name in stanford_cars() if own.find(name) is None))
    return ClassNames(names[: yardstick.CLASSES])


def _both(
    network: torch.nn.Module,
    classifiers: Mapping[str, Classifier],
    photos: Sequence[Path],
    theirs: Callable[[torch.nn.Module, Sequence[Path]], None],
    ours: Callable[[Classifier, Sequence[Path]], None],
) -> dict[str, list[float]]:
    """Seconds of the yardstick and of every engine on the same photos, in turn."""
    ways = {name: partial(ours, classifier, photos) for name, classifier in classifiers.items()}
    return in_turn({"yardstick": partial(theirs, network, photos), **ways})


def _one_by_one(network: torch.nn.Module, photos: Sequence[Path]) -> None:
    for photo in photos:
        yardstick.answer(network, [photo], SIZE)


def _in_batches(network: torch.nn.Module, photos: Sequence[Path]) -> None:
    for start in range(0, len(photos), 32):
        yardstick.answer(network, photos[start : start + 32], SIZE)


def _ours_one_by_one(classifier: Classifier, photos: Sequence[Path]) -> None:
    for photo in photos:
        classifier.predict(photo)


def _ours_at_once(classifier: Classifier, photos: Sequence[Path]) -> None:
    classifier.predict(list(photos))


def _explaining(network: torch.nn.Module, classifiers: dict[str, Classifier], photos: Sequence[Path]) -> str:
    def each(explain: Callable[[Path], object]) -> Callable[[], None]:
        return lambda: [explain(photo) and None for photo in photos] and None

    names = ("torch", "onnxruntime")
    ways = {"yardstick": each(lambda photo: yardstick.explain(network, photo, SIZE) is None)}
    seconds = in_turn(ways | {name: each(partial(classifiers[name].explain)) for name in names})
    per_photo = {name: f"{1000 * np.median(times) / len(photos):.0f} ms" for name, times in seconds.items()}
    return (
        f"Grad-CAM++ of a photo: {per_photo['yardstick']} by the grad-cam package; "
        + "; ".join(f"{per_photo[n]} by ours on {n}, {spread(seconds, 'yardstick', n)} times as fast" for n in names)
        + "."
    )


def _cold_start(theirs: torch.nn.Module, folder: Path, photo: Path) -> str:
    weights = folder / "weights.pth"
    torch.save(theirs.state_dict(), weights)
    commands = {
        "yardstick": ["-m", "benchmarks.yardstick", BACKBONE, str(weights), str(photo)],
        "ours": ["-m", "twincar", "predict", "--model", str(folder / "model.onnx"), str(photo)],
        "help": ["-m", "twincar", "--help"],
    }
    runs = {
        name: partial(subprocess.run, [sys.executable, *command], check=True, capture_output=True)
        for name, command in commands.items()
    }
    seconds = in_turn(runs)
    middle = {name: float(np.median(times)) for name, times in seconds.items()}
    return (
        f"Cold process to first answer: {middle['yardstick']:.2f} s with torch and timm, {middle['ours']:.2f} s with "
        f"`twincar predict` on an exported model, {ratio(seconds, 'yardstick', 'ours'):.1f} times as fast (goals: "
        f"under {COLD_SECONDS:.0f} s, {COLD_GOAL} times). `twincar --help`: {middle['help']:.2f} s (goal: under "
        f"{HELP_SECONDS} s)."
    )


if __name__ == "__main__":
    print(measure(Path(sys.argv[1])).to_markdown())
