"""How well new cars are taught: three directions of a row compared, and what it costs the known cars.

python -m benchmarks.quality.teaching MODEL --data DATA --teach FOLDER --measure FOLDER [--features FOLDER]

MODEL is an exported file with statistics of its classes. The test photos of DATA are of known classes, cut as the model
was trained; each other FOLDER has half of the photos of one car that the model does not know. Each row of the table is
the mean of twenty draws of the photos to teach by. Features are computed once if they have a folder.

    imprinting   the mean of the photos, from the center (Qi et al., 2018)
    LDA          times the inverse of the shared covariance, with a ridge (Mensink et al., 2013; Hayes and Kanan, 2020):
                 what `teach` does
    ridge        times the inverse of it and of the covariance of the class means

Scale and bias are fitted alike for all three.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twincar.core.listing import find_photos
from twincar.core.options import FALSE_REJECTION
from twincar.evaluation.feature_statistics import penultimate_features
from twincar.evaluation.split_predictions import labelled_split
from twincar.evaluation.subject import Subject
from twincar.inference.classifier import Classifier
from twincar.inference.new_photos import features_of
from twincar.models.calibration import Calibration
from twincar.models.class_statistics import ClassStatistics
from twincar.models.onnx_head import ExportedModel, LastLayer
from twincar.models.taught_rows import Directions, NewClass, Whitening, add_classes

Floats = NDArray[np.float32]

COUNTS = (1, 2, 3, 5, 10, 20)
DRAWS = 20


@dataclass(frozen=True)
class Photos:
    """Features of the photos."""

    known: Floats
    labels: NDArray[np.int64]
    teach: Floats
    measure: Floats


def read_features(model: Path, data: Path, teach: Path, measure: Path, cache: Path | None) -> Photos:
    """Compute the features, or read them from the folder `cache`, where they are written otherwise."""
    names = ("known", "labels", "teach", "measure")
    if cache and all((cache / f"{name}.npy").is_file() for name in names):
        return Photos(*(np.load(cache / f"{name}.npy") for name in names))
    subject, classifier = Subject.open(model, data_folder=data, split="test"), Classifier.load(model)
    annotations, labels = labelled_split(subject.data, "test", subject.spec.classes)
    known = penultimate_features(subject.engine, subject.spec.preprocessing, map(subject.data.photo, annotations))
    new = [features_of(classifier, "the new car", list(find_photos([str(folder)]))) for folder in (teach, measure)]
    found = Photos(known, labels, *new)
    if cache:
        cache.mkdir(parents=True, exist_ok=True)
        for name in names:
            np.save(cache / f"{name}.npy", getattr(found, name))
    return found


def directions(statistics: ClassStatistics) -> dict[str, Directions]:
    """The three methods."""
    return {
        "imprinting": lambda means: means,
        "LDA": Whitening(statistics, 0.0),
        "ridge": Whitening(statistics, 1.0),
    }


def measure(photos: Photos, layer: LastLayer, statistics: ClassStatistics, calibration: Calibration) -> Iterator[str]:
    """The rows of the table."""
    before = logits_of(photos.known, layer)
    right, new = (before.argmax(axis=1) == photos.labels).mean(), len(layer.bias)
    untaught = logits_of(photos.measure, layer)
    sure = (calibration.probabilities(untaught).max(axis=1) >= 0.8) & ~rejected(untaught, calibration)
    yield (
        f"before: known cars right {right:.1%}; new car rejected {rejected(untaught, calibration).mean():.1%}, "
        f"accepted as another with a probability of at least 0.8 {sure.mean():.1%}\n"
    )
    yield "| method | photos | new car named | named and accepted | known cars named so | known cars right |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for method, direction in directions(statistics).items():
        for count in [count for count in COUNTS if count <= len(photos.teach)]:
            found = []
            for draw in range(DRAWS):
                chosen = photos.teach[np.random.default_rng(draw).permutation(len(photos.teach))[:count]]
                head = add_classes([NewClass(chosen)], layer.weight, layer.bias, statistics, calibration, [direction])
                taught = LastLayer(head.weight, head.bias)
                after, others = logits_of(photos.measure, taught), logits_of(photos.known, taught).argmax(axis=1)
                named = after.argmax(axis=1) == new
                accepted = named & ~rejected(after, head.calibration)
                found.append(
                    (named.mean(), accepted.mean(), (others == new).mean(), (others == photos.labels).mean() - right)
                )
            named_, accepted_, taken, change = np.mean(found, axis=0)
            yield f"| {method} | {count} | {named_:.1%} | {accepted_:.1%} | {taken:.2%} | {100 * change:+.2f} points |"


def logits_of(features: Floats, layer: LastLayer) -> Floats:
    """Logits, N×K, of penultimate features, N×C."""
    logits: Floats = (features @ layer.weight.T + layer.bias).astype(np.float32)
    return logits


def rejected(logits: Floats, calibration: Calibration) -> NDArray[np.bool_]:
    """Whether each photo is rejected at the default threshold, N."""
    found: NDArray[np.bool_] = calibration.in_distribution_score(logits) < FALSE_REJECTION
    return found


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    for flag in ("--data", "--teach", "--measure"):
        parser.add_argument(flag, type=Path, required=True)
    parser.add_argument("--features", type=Path)
    given = parser.parse_args(arguments)
    exported, spec = ExportedModel.read(given.model), Classifier.load(given.model).spec
    statistics = exported.statistics
    assert statistics is not None, f"no statistics in {given.model}: twincar teach --statistics-from"
    photos = read_features(given.model, given.data, given.teach, given.measure, given.features)
    for line in measure(photos, exported.last_layer, statistics, spec.calibration):
        print(line)


if __name__ == "__main__":
    main()
