"""Training input: photos a second that one core decodes, augments and batches, compared with the baseline.

python -m benchmarks DATA --only training-input
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

from benchmarks.measuring import FULL, Scale, Section, in_turn, ratio, spread
from benchmarks.speed.yardstick import PillowPhotos, training_transforms
from twincar.core.augmentation import AugmentConfig
from twincar.core.machine import tune_glibc_malloc
from twincar.core.photos import read_photo_bytes
from twincar.core.preprocess import Preprocessing
from twincar.data.dataset import Annotation, PreparedData
from twincar.data.loading import augment as stages
from twincar.data.loading.augment import AugmentParams, fit_of, sample_params
from twincar.data.loading.decode import decode_reduced
from twincar.data.loading.loader import PhotoLoader, TrainingPhotos, training_loader
from twincar.data.loading.surroundings import Pixels

GOALS = {"TwinCar": 5, "TwinCar with --cache": 13}


def measure(data: PreparedData, scale: Scale = FULL) -> Section:
    """Photos a second on one core for a prepared data set, with the published strengths, and the time of each stage."""
    tune_glibc_malloc()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    few = _some_training_photos(data, scale.read)
    with tempfile.TemporaryDirectory() as folder:
        few = replace(few, folder=Path(folder))  # where its cache goes
        started = time.perf_counter()
        cached = _loader(few, scale, cache=True)
        build = time.perf_counter() - started
        loaders: dict[str, DataLoader[object]] = {"baseline": _yardstick(few, scale)}
        loaders |= {"TwinCar": _loader(few, scale, cache=False), "TwinCar with --cache": cached}
        seconds = in_turn({name: partial(_read_all, loader) for name, loader in loaders.items()}, rounds=scale.rounds)
        profile = _profile(few, scale)
    photos = len(few.annotations)
    rows = [
        [name, f"{photos / statistics.median(times):.0f}", spread(seconds, "baseline", name), f"{GOALS.get(name, 1)}"]
        for name, times in seconds.items()
    ]
    notes = [
        f"{photos} training photos of {data.folder.name} drawn at random, {scale.size}×{scale.size} pixels, the "
        f"published strengths, batches of {scale.batch}, one core, no loader processes; median of {scale.rounds} "
        "alternating rounds. The baseline is Pillow and torchvision's transforms with ToTensor and Normalize.",
        _about_cache(data, scale.size, build / photos),
        "Time of each stage in TwinCar, microseconds a photo: "
        + "; ".join(f"{k} {v:.0f}" for k, v in profile.items())
        + ".",
        *_shortfalls(seconds),
    ]
    return Section("Training input", ["input pipeline", "photos/s", "speed-up", "goal"], rows, notes)


def _some_training_photos(data: PreparedData, count: int) -> PreparedData:
    annotations = data.split("train")
    chosen = np.random.default_rng(0).permutation(len(annotations))[:count]
    return replace(data, annotations=tuple(annotations[index] for index in sorted(chosen)))


def _yardstick(data: PreparedData, scale: Scale) -> DataLoader[object]:
    chain = training_transforms(AugmentConfig(), height=scale.size, width=scale.size)
    labels = [annotation.label or 0 for annotation in data.annotations]
    photos = PillowPhotos([data.path(annotation) for annotation in data.annotations], labels, chain)
    return DataLoader(photos, batch_size=scale.batch, shuffle=True)


def _loader(data: PreparedData, scale: Scale, *, cache: bool) -> PhotoLoader:
    preprocessing = Preprocessing(height=scale.size, width=scale.size)
    photos = TrainingPhotos(data, AugmentConfig(), preprocessing, seed=0, cache=cache)
    return training_loader(photos, batch_size=scale.batch, balanced=False, workers=0)


def _read_all(loader: DataLoader[object]) -> None:
    for _ in loader:
        pass


def _about_cache(data: PreparedData, size: int, build: float) -> str:
    annotations = data.split("train")
    cached = sum(_cached_bytes(annotation, size) for annotation in annotations)
    files = sum(data.path(annotation).stat().st_size for annotation in annotations)
    return (
        f"The cache of all {len(annotations)} training photos takes {cached / 1e9:.2f} GB ({files / 1e9:.2f} GB as "
        f"files) and, at {1000 * build:.1f} ms a photo, {build * len(annotations):.0f} s to build."
    )


def _cached_bytes(annotation: Annotation, size: int) -> int:
    fit = fit_of(AugmentConfig(), (annotation.width, annotation.height), height=size, width=size)
    return 3 * fit.width * fit.height if fit else 0


def _shortfalls(seconds: dict[str, list[float]]) -> list[str]:
    reached = {name: ratio(seconds, "baseline", name) for name in GOALS}
    return [
        f"{name}: a speed-up of {reached[name]:.1f} is below the goal of {goal}."
        for name, goal in GOALS.items()
        if reached[name] < goal
    ]


def _profile(data: PreparedData, scale: Scale) -> dict[str, float]:
    """Microseconds a photo of each stage, each measured separately over all photos."""
    side = scale.size
    photos = TrainingPhotos(data, AugmentConfig(), Preprocessing(height=side, width=side), seed=0, cache=True)
    sizes = [view.size for view in photos.views]
    strengths = AugmentConfig()
    generators = [np.random.default_rng((0, 0, place)) for place in range(len(sizes))]
    draws = [sample_params(strengths, rng, *size) for rng, size in zip(generators, sizes, strict=True)]
    files = [read_photo_bytes(path) for path in photos.paths]
    decoded = [decode_reduced(file, "", 1.0) for file in files]
    crops = [stages._crop(photo, what, full) for photo, what, full in zip(decoded, draws, sizes, strict=True)]
    assert photos.cache is not None
    cached = [stages._crop(photos.cache[index], what, sizes[index]) for index, what in enumerate(draws)]
    images = [stages._rotate(what, crop, side, side) for what, crop in zip(draws, cached, strict=True)]

    def each(work: Callable[[int], object]) -> float:
        return median_time(lambda: [work(index) and None for index in range(len(sizes))]) / len(sizes)

    def median_time(work: Callable[[], object]) -> float:
        return 1e6 * statistics.median(in_turn({"": work}, rounds=scale.rounds)[""])

    def alone(*names: str) -> list[AugmentParams]:
        return [replace(what, jitter=tuple(j for j in what.jitter if j[0] in names), blur_sigma=0.0) for what in draws]

    colors, hues = alone("brightness", "contrast", "saturation"), alone("hue")
    blurs = [replace(what, jitter=()) for what in draws]
    batch: list[Pixels] = images[: scale.batch]
    return {
        "generator": each(lambda i: np.random.default_rng((0, 0, i)).bit_generator),
        "sample parameters": each(lambda i: sample_params(strengths, generators[i], *sizes[i])),
        "reading the file": each(lambda i: read_photo_bytes(photos.paths[i])),
        "decoding": each(lambda i: decode_reduced(files[i], "", 1.0) is None),
        "resize": each(lambda i: stages._resize(crops[i], side, side) is None),
        "pick (from the cache)": each(lambda i: stages._rotate(draws[i], cached[i], side, side) is None),
        "pick (after the resize)": each(lambda i: stages._rotate(draws[i], images[i], side, side) is None),
        "hue": each(lambda i: stages._finish(hues[i], images[i]) is None),
        "brightness, contrast and saturation": each(lambda i: stages._finish(colors[i], images[i]) is None),
        "blur": each(lambda i: stages._finish(blurs[i], images[i]) is None),
        "batching": median_time(lambda: np.stack(batch)) / len(batch),
    }
