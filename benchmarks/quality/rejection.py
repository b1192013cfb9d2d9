"""Which score distinguishes unknown cars, and images without a car, from the cars that a model knows.

python -m benchmarks.quality.rejection MODEL --known DATA [--split val] [--unseen DATA] [--unknown FOLDER]
    [--features FOLDER]

MODEL is an exported file with statistics of its classes. DATA of --known is a prepared data set: its validation photos
set the threshold of each score, which rejects 5% of them, and those of --split are the known cars. Unknown are

    noise, text, plain, scene    drawn images without a car, others for --split test than for --split val
    unseen classes               photos of DATA of --unseen, of every second class that MODEL does not know
    easy, medium, hard           with --split test, the unseen classes of a DATA of --known prepared by --open-set
    FOLDER of --unknown          full photos of cars that MODEL does not know, of which the main car is cut out

A score is chosen on --split val; --split test is for the figures afterwards. Features are computed once if they have a
folder.

Shapes: N photos, K classes, C penultimate features.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.measuring import Section
from benchmarks.quality.teaching import logits_of
from twincar.core.listing import find_photos
from twincar.core.options import FALSE_REJECTION
from twincar.core.photos import Photo
from twincar.data.dataset import PreparedData, count_splits, spread
from twincar.data.open_set_split import UNSEEN
from twincar.data.toy.non_cars import non_car_images
from twincar.evaluation.feature_statistics import penultimate_features
from twincar.evaluation.split_predictions import labelled_split
from twincar.inference.classifier import Classifier
from twincar.inference.new_photos import features_of
from twincar.metrics.reliability import open_set
from twincar.models.calibration import Calibration, energy, max_logit, max_logit_zscore, share_below
from twincar.models.class_statistics import ClassStatistics
from twincar.models.onnx_head import ExportedModel, LastLayer
from twincar.models.taught_rows import Whitening

Floats = NDArray[np.float32]

NON_CARS = 400
MOST_UNSEEN = 1000  # photos of --unseen
SURE = 0.8  # probability of an answer
LOWER_OF = (
    ("maximum probability", "maximum logit"),
    ("maximum probability", "z-score"),
    ("maximum probability", "distance"),
    ("maximum probability", "relative distance"),
    ("z-score", "distance"),
    ("z-score", "relative distance"),
)
"""Pairs of scores of which the lower one counts, each as the share of validation photos that are lower."""


@dataclass(frozen=True, eq=False)
class Outputs:
    """What the network makes of N photos."""

    features: Floats
    """N×C."""
    logits: Floats
    """N×K."""


Score = Callable[[Outputs], Floats]
"""Higher for known cars, N."""


class Reader:
    """Computes features, or reads them from a folder, where they are written otherwise."""

    def __init__(self, classifier: Classifier, layer: LastLayer, cache: Path | None) -> None:
        self._classifier, self._layer, self._cache = classifier, layer, cache

    def of_crops(self, name: str, photos: Sequence[Photo]) -> Outputs:
        """Outputs for photos that are taken as they are."""
        engine, preprocessing = self._classifier.engine, self._classifier.spec.preprocessing
        return self._outputs(name, lambda: penultimate_features(engine, preprocessing, photos))

    def of_full_photos(self, name: str, photos: Sequence[Photo]) -> Outputs:
        """Outputs for the main car of each photo."""
        return self._outputs(name, lambda: features_of(self._classifier, name, photos))

    def _outputs(self, name: str, compute: Callable[[], Floats]) -> Outputs:
        path = self._cache and self._cache / f"{name}.npy"
        features = np.load(path) if path and path.is_file() else compute()
        if path and not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, features)
        return Outputs(features, logits_of(features, self._layer))


class ClassDistance:
    """Squared distance of features to the nearest class mean, in units of a covariance (Lee et al., 2018,
    https://arxiv.org/abs/1807.03888). The covariance has a ridge, as in `twincar/models/taught_rows.py`."""

    def __init__(self, statistics: ClassStatistics) -> None:
        center = statistics.center
        self._center, self._means = center, statistics.means[statistics.known] - center
        self._within, self._total = Whitening(statistics), Whitening(statistics, 1.0)

    def nearest(self, features: Floats) -> Floats:
        """To the nearest class mean, N."""
        seen = features - self._center
        directions = self._within(self._means)
        to_means = (self._means * directions).sum(axis=1) - 2 * seen @ directions.T
        nearest: Floats = (seen * self._within(seen)).sum(axis=1) + to_means.min(axis=1)
        return nearest

    def relative(self, features: Floats) -> Floats:
        """The same less the distance to the mean of all classes in units of the covariance of all photos, N (Ren et
        al., 2021, https://arxiv.org/abs/2106.09022)."""
        seen = features - self._center
        relative: Floats = self.nearest(features) - (seen * self._total(seen)).sum(axis=1)
        return relative


def candidate_scores(calibration: Calibration, statistics: ClassStatistics, validation: Outputs) -> dict[str, Score]:
    """The scores by their names; `validation` sets the shares of those that are the lower of two."""
    distance = ClassDistance(statistics)
    single: dict[str, Score] = {
        "TwinCar": lambda photos: calibration.in_distribution_score(photos.logits),
        "maximum logit": lambda photos: max_logit(photos.logits),
        "energy": lambda photos: energy(photos.logits),
        "maximum probability": lambda photos: calibration.probabilities(photos.logits).max(axis=1),
        "z-score": lambda photos: max_logit_zscore(photos.logits),
        "distance": lambda photos: -distance.nearest(photos.features),
        "relative distance": lambda photos: -distance.relative(photos.features),
    }
    lower = {
        f"lower of {first} and {second}": _lower_of(single[first], single[second], validation)
        for first, second in LOWER_OF
    }
    return {**single, **lower}


def _lower_of(first: Score, second: Score, validation: Outputs) -> Score:
    quantiles = [tuple(np.quantile(of(validation), np.linspace(0, 1, 101)).tolist()) for of in (first, second)]

    def lower(photos: Outputs) -> Floats:
        shares = [share_below(of(photos), known) for of, known in zip((first, second), quantiles, strict=True)]
        return np.minimum(*shares)

    return lower


def unknown_photos(
    reader: Reader, spec_classes: Sequence[str], known: PreparedData, split: str, unseen: Path | None
) -> Iterator[tuple[str, Outputs]]:
    """Groups of images without a car, and of photos of unseen classes."""
    kinds, images = zip(*non_car_images(NON_CARS, seed=0 if split == "test" else 1), strict=True)
    outputs = reader.of_crops(f"{split}-drawn", images)
    for kind in dict.fromkeys(kinds):
        which = np.array(kinds) == kind
        yield kind, Outputs(outputs.features[which], outputs.logits[which])
    if unseen:
        data = PreparedData.open(unseen)
        names = [name for name in data.classes.names if name not in spec_classes][::2]
        found = [photo for photo in data.annotations if photo.label is not None and data.classes[photo.label] in names]
        photos = [data.photo(photo) for photo in spread(found, MOST_UNSEEN)]
        yield f"unseen classes of {data.name}", reader.of_crops("unseen", photos)
    for name in count_splits(known.annotations) if split == "test" else ():
        if name.startswith(UNSEEN):
            yield name.removeprefix(UNSEEN), reader.of_crops(name, [known.photo(p) for p in known.split(name)])


def known_section(scores: dict[str, Score], validation: Outputs, known: Outputs, right: NDArray[np.bool_]) -> Section:
    """What each score does to the known cars."""
    rows = []
    for name, score in scores.items():
        accepted = score(known) >= np.quantile(score(validation), FALSE_REJECTION)
        rows.append([name, f"{1 - accepted.mean():.1%}", _share(right[~accepted]), _share(right[accepted])])
    header = ["score", "rejected", "of these right", "right of the accepted"]
    return Section(f"{len(right)} photos of known cars, {right.mean():.1%} right", header, rows)


def unknown_section(
    name: str,
    unknown: Outputs,
    scores: dict[str, Score],
    calibration: Calibration,
    known: tuple[Outputs, Outputs, NDArray[np.bool_]],
) -> Section:
    """How well each score separates a group of unknown photos; `known` is validation, known photos, and their right."""
    validation, photos, right = known
    sure = calibration.probabilities(unknown.logits).max(axis=1) >= SURE
    rows = []
    for title, score in scores.items():
        values = score(unknown)
        found = open_set(score(photos), right, values)
        accepted = values >= np.quantile(score(validation), FALSE_REJECTION)
        figures = [f"{figure:.3f}" for figure in (found.auroc, found.fpr95, found.oscr)]
        rows.append([title, *figures, f"{1 - accepted.mean():.1%}", f"{(accepted & sure).mean():.1%}"])
    header = ["score", "AUROC", "FPR at 95% TPR", "OSCR", "rejected", "accepted and sure"]
    return Section(f"{name}, {len(unknown.logits)} photos", header, rows)


def _share(hits: NDArray[np.bool_]) -> str:
    return f"{hits.mean():.1%}" if len(hits) else "-"


def main(arguments: list[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--known", type=Path, required=True, help="prepared data set")
    parser.add_argument("--split", default="val", choices=["val", "test"])
    parser.add_argument("--unseen", type=Path, help="prepared data set with other classes too")
    parser.add_argument("--unknown", type=Path, help="folder of full photos of an unknown car")
    parser.add_argument("--features", type=Path, help="folder that keeps the features")
    asked = parser.parse_args(arguments)
    classifier, exported = Classifier.load(asked.model), ExportedModel.read(asked.model)
    statistics, spec = exported.statistics, classifier.spec
    assert statistics is not None, f"no statistics in {asked.model}: twincar teach --statistics-from"
    reader, data = Reader(classifier, exported.last_layer, asked.features), PreparedData.open(asked.known)
    (validation, _), (known, right) = (_known(reader, data, split, classifier) for split in ("val", asked.split))
    scores = candidate_scores(spec.calibration, statistics, validation)
    print(known_section(scores, validation, known, right).to_markdown())
    groups = list(unknown_photos(reader, spec.classes.names, data, asked.split, asked.unseen))
    if asked.unknown:
        photos = list(find_photos([str(asked.unknown)]))
        groups.append((asked.unknown.name, reader.of_full_photos(f"unknown-{asked.unknown.name}", photos)))
    for name, unknown in groups:
        print(unknown_section(name, unknown, scores, spec.calibration, (validation, known, right)).to_markdown())


def _known(reader: Reader, data: PreparedData, split: str, classifier: Classifier) -> tuple[Outputs, NDArray[np.bool_]]:
    annotations, labels = labelled_split(data, split, classifier.spec.classes)
    outputs = reader.of_crops(split, [data.photo(annotation) for annotation in annotations])
    return outputs, outputs.logits.argmax(axis=1) == labels


if __name__ == "__main__":
    main()
