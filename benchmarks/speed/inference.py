"""Inference: latency and throughput from photo files to predictions, cold start, and Grad-CAM++.

python -m benchmarks DATA --only inference

The network is the published one with random weights; its batch norms have statistics of photos, so activations stay in
range.
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

from benchmarks.measuring import FULL, Scale, Section, in_turn, ratio, spread
from benchmarks.speed import yardstick
from twincar.core.labels import ClassNames, stanford_cars
from twincar.core.machine import available_cores
from twincar.core.photos import read_photo
from twincar.core.preprocess import Preprocessing
from twincar.data.dataset import PreparedData
from twincar.deploy.export import Exported, export
from twincar.inference.classifier import Classifier
from twincar.models.checkpoint import save_model
from twincar.models.network import CarNet
from twincar.models.spec import ModelSpec

GOALS = {
    "onnxruntime": (2.0, 2.3),
    "OpenVINO bf16": (3.5, 4.0),
    "OpenVINO int8": (5.0, 6.5),
}
COLD_GOAL, COLD_SECONDS, HELP_SECONDS = 8, 1.0, 0.3


def measure(data: PreparedData, scale: Scale = FULL) -> Section:
    """Speed-up of every engine over the baseline, for photos one by one and in batches."""
    paths = [data.path(annotation) for annotation in data.split("val")]
    photos = (paths * (scale.at_once // len(paths) + 1))[: scale.at_once]
    few = photos[: scale.one_by_one]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        classifiers, notes = _classifiers(_network(photos, scale), scale, folder, data)
        theirs = yardstick.build_network(scale.backbone).eval()
        ways = ["baseline", *classifiers]
        one = _both(scale, theirs, classifiers, (few, _one_by_one, _ours_one_by_one))
        many = _both(scale, theirs, classifiers, (photos, _in_batches, _ours_at_once))
        rows = [
            [
                name,
                f"{1000 * np.median(one[name]) / len(few):.0f}",
                spread(one, "baseline", name),
                f"{len(photos) / np.median(many[name]):.1f}",
                spread(many, "baseline", name),
                " and ".join(f"{goal}" for goal in GOALS.get(name, ())),
            ]
            for name in ways
        ]
        notes = [
            f"{scale.backbone} with 196 classes at {scale.size}×{scale.size} pixels, from photo files of "
            f"{data.folder.name} to five candidates each, {available_cores()} cores; {len(few)} photos one by one, "
            f"{len(photos)} in batches of {scale.batch}; median of {scale.rounds} alternating rounds.",
            *notes,
            _explaining(scale, theirs, classifiers, few),
            _cold_start(scale, theirs, folder, photos[0]),
        ]
    header = ["engine", "one photo, ms", "speed-up", "batches, photos/s", "speed-up", "goals"]
    return Section("Inference", header, rows, notes)


def _network(photos: Sequence[Path], scale: Scale) -> CarNet:
    """Random weights, and batch norms with statistics of photos."""
    torch.manual_seed(0)
    network = CarNet(scale.backbone, yardstick.CLASSES)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the mean of all batches
    preprocessing = Preprocessing(height=scale.size, width=scale.size)
    pixels = np.stack([preprocessing(read_photo(photo)) for photo in photos[:32]])
    with torch.no_grad():
        network.train()(torch.from_numpy(pixels).permute(0, 3, 1, 2).float())
    return network.eval()


def _classifiers(
    network: CarNet, scale: Scale, folder: Path, data: PreparedData
) -> tuple[dict[str, Classifier], list[str]]:
    """Every engine with the same weights, and how far the exports differ."""
    spec = ModelSpec(
        backbone=scale.backbone,
        head="mlp",
        classes=_names(data.classes),
        preprocessing=Preprocessing(height=scale.size, width=scale.size),
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
        "Largest difference of a probability from torch's fp32 (random weights, so not a measure of accuracy): "
        + ", ".join(f"{name} {file.comparison.largest_difference:.1g}" for name, file in files.items())
        + "."
    ]
    classifiers = {"torch": Classifier.load(folder / "model.safetensors")}
    return classifiers | {name: Classifier.load(file.path) for name, file in files.items()}, notes


def _names(own: ClassNames) -> ClassNames:
    """As many classes as the baseline has: those of the data, completed by those of Stanford Cars."""
    names = (*own.names, *(name for name in stanford_cars() if own.find(name) is None))
    return ClassNames(names[: yardstick.CLASSES])


Theirs = Callable[[torch.nn.Module, Sequence[Path], Scale], None]
Ours = Callable[[Classifier, Sequence[Path]], None]


def _both(
    scale: Scale,
    network: torch.nn.Module,
    classifiers: Mapping[str, Classifier],
    work: tuple[Sequence[Path], Theirs, Ours],
) -> dict[str, list[float]]:
    """Seconds of the baseline and of every engine on the same photos, alternating."""
    photos, theirs, ours = work
    ways = {name: partial(ours, classifier, photos) for name, classifier in classifiers.items()}
    return in_turn({"baseline": partial(theirs, network, photos, scale), **ways}, rounds=scale.rounds)


def _one_by_one(network: torch.nn.Module, photos: Sequence[Path], scale: Scale) -> None:
    for photo in photos:
        yardstick.answer(network, [photo], scale.size)


def _in_batches(network: torch.nn.Module, photos: Sequence[Path], scale: Scale) -> None:
    for start in range(0, len(photos), scale.batch):
        yardstick.answer(network, photos[start : start + scale.batch], scale.size)


def _ours_one_by_one(classifier: Classifier, photos: Sequence[Path]) -> None:
    for photo in photos:
        classifier.predict(photo)


def _ours_at_once(classifier: Classifier, photos: Sequence[Path]) -> None:
    classifier.predict(list(photos))


def _explaining(
    scale: Scale, network: torch.nn.Module, classifiers: dict[str, Classifier], photos: Sequence[Path]
) -> str:
    def each(explain: Callable[[Path], object]) -> Callable[[], object]:
        return lambda: [explain(photo) and None for photo in photos]

    names = ("torch", "onnxruntime")
    ways = {"baseline": each(lambda photo: yardstick.explain(network, photo, scale.size) is None)}
    ways |= {name: each(partial(classifiers[name].explain)) for name in names}
    seconds = in_turn(ways, rounds=scale.rounds)
    per_photo = {name: f"{1000 * np.median(times) / len(photos):.0f} ms" for name, times in seconds.items()}
    return (
        f"Grad-CAM++ of a photo: {per_photo['baseline']} by the grad-cam package; "
        + "; ".join(f"{per_photo[n]} by TwinCar on {n}, {spread(seconds, 'baseline', n)} times as fast" for n in names)
        + "."
    )


def _cold_start(scale: Scale, theirs: torch.nn.Module, folder: Path, photo: Path) -> str:
    weights = folder / "weights.pth"
    torch.save(theirs.state_dict(), weights)
    commands = {
        "baseline": ["-m", "benchmarks.speed.yardstick", scale.backbone, str(weights), str(photo)],
        "TwinCar": ["-m", "twincar", "predict", "--model", str(folder / "model.onnx"), str(photo)],
        "help": ["-m", "twincar", "--help"],
    }
    runs = {
        name: partial(subprocess.run, [sys.executable, *command], check=True, capture_output=True)
        for name, command in commands.items()
    }
    seconds = in_turn(runs, rounds=scale.rounds)
    middle = {name: float(np.median(times)) for name, times in seconds.items()}
    return (
        f"Cold start to first prediction: {middle['baseline']:.2f} s with torch and timm, {middle['TwinCar']:.2f} s "
        "with `twincar predict` on an exported model, "
        f"{ratio(seconds, 'baseline', 'TwinCar'):.1f} times as fast (goals: "
        f"under {COLD_SECONDS:.0f} s, {COLD_GOAL} times). `twincar --help`: {middle['help']:.2f} s (goal: under "
        f"{HELP_SECONDS} s)."
    )
