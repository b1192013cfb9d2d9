"""How well half of the classes of Stanford Cars is learnt from a few photos each (Semantic Shift Benchmark).

python -m benchmarks.quality.taught_classes MODEL --known DATA --photos DATA --test DATA [--all-classes MODEL]

MODEL is an exported file with statistics of its classes, trained on the known classes of the published open-set split
of Stanford Cars (Vaze et al., 2022, https://arxiv.org/abs/2110.06207). The other classes are taught by photos drawn
from the training split of `--photos`; all classes of `--test` are measured. Features are computed once, and the rest is
done by the code of `teach`.

    teach               what `twincar teach` does
    nearest photo       of all training photos of the known classes and the taught ones, by the cosine of the features
    nearest class mean  under the covariance that `teach` has (LDA: Mensink et al., 2013)
    linear probe        logistic regression on the features of the same photos as the nearest photo, by scikit-learn
    trained on all      the model of `--all-classes`: the same training with all photos of all classes

In the second table half of the other classes are taught, and the rest stay unknown.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.measuring import Section
from benchmarks.quality.teaching import logits_of, rejected
from twincar.core.labels import ClassNames
from twincar.core.options import FALSE_REJECTION
from twincar.evaluation.feature_statistics import penultimate_features
from twincar.evaluation.split_predictions import labelled_split
from twincar.evaluation.subject import Subject
from twincar.inference.embedding import unit_length
from twincar.inference.new_photos import least_similarity, similarity_of
from twincar.metrics.classification import expected_calibration_error
from twincar.models.calibration import Calibration, softmax
from twincar.models.class_statistics import ClassStatistics
from twincar.models.onnx_head import ExportedModel, LastLayer
from twincar.models.taught_rows import FEW, NewClass, add_classes, pooled_whitening

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

_STRENGTH = 0.1  # of the linear probe: the inverse of its penalty
_ITERATIONS = 100  # of the linear probe
_BLOCK = 1024  # photos that are compared with all others at once


@dataclass(frozen=True)
class Photos:
    """Penultimate features, N×C, and classes, N: the known ones first, then the others."""

    features: Floats
    labels: Labels

    def of(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Photos:
        """Some of them."""
        return Photos(self.features[rows], self.labels[rows])


@dataclass(frozen=True)
class Material:
    """What is measured: a model of K classes, and photos of these and of others."""

    layer: LastLayer
    statistics: ClassStatistics
    calibration: Calibration
    classes: ClassNames
    """The model's classes first, then the others."""
    known: Photos
    """Training photos of the model's classes."""
    photos: Photos
    """Training photos of the other classes."""
    test: Photos

    @property
    def first(self) -> int:
        """The number of classes that the model knows: the index of the first other one."""
        return len(self.layer.bias)

    def draw(self, count: int, draw: int, classes: Labels) -> Photos:
        """At most `count` photos of each of these classes; those of fewer photos are among those of more."""
        random, chosen = np.random.default_rng(draw), []
        for label in range(self.first, len(self.classes)):
            own = random.permutation(np.flatnonzero(self.photos.labels == label))[:count]
            chosen += [own] if label in classes else []
        return self.photos.of(np.concatenate(chosen))


@dataclass(frozen=True)
class Scores:
    """Shares of the test photos."""

    taught: float
    """Accuracy on the classes that were taught."""
    known: float
    """Accuracy on the classes that the model was trained on."""
    overall: float
    harmonic: float
    """The harmonic mean of the first two."""
    error: float
    """Expected calibration error (ECE) over all classes; not a number for ways without probabilities."""

    @classmethod
    def measure(cls, predicted: Labels, confidence: Floats | None, labels: Labels, first: int) -> Scores:
        """From predictions and truth, N, where classes from `first` on were taught."""
        right = predicted == labels
        taught, known = float(right[labels >= first].mean()), float(right[labels < first].mean())
        harmonic = 2 * taught * known / (taught + known) if taught + known else 0.0
        error = float("nan") if confidence is None else expected_calibration_error(confidence, right)
        return cls(taught, known, float(right.mean()), harmonic, error)


@dataclass(frozen=True)
class Rejections:
    """Shares of the test photos before some classes were taught, and after."""

    known_rejected: float
    """Of the known classes."""
    known_rejected_after: float
    taught_accepted: float
    """Of the taught classes."""
    taught_accepted_after: float
    unknown_accepted: float
    """Of the classes that stay unknown."""
    unknown_accepted_after: float
    unknown_as_taught: float
    """Of these, accepted as a taught class."""

    @classmethod
    def measure(
        cls,
        before: Floats,
        after: Floats,
        labels: Labels,
        taught: Labels,
        calibrations: tuple[Calibration, Calibration],
    ) -> Rejections:
        """From logits before, N×K, and after, N×(K+M), the truth, N, the M taught classes, and both calibrations."""
        first = before.shape[1]
        known, own = labels < first, np.isin(labels, taught)
        unknown = ~known & ~own
        accepted, accepted_after = (~rejected(*pair) for pair in zip((before, after), calibrations, strict=True))
        as_taught = accepted_after & (after.argmax(axis=1) >= first)
        shares = [1 - accepted[known].mean(), 1 - accepted_after[known].mean()]
        shares += [found[group].mean() for group in (own, unknown) for found in (accepted, accepted_after)]
        return cls(*map(float, [*shares, as_taught[unknown].mean()]))


def by_teaching(material: Material, taught: Photos) -> tuple[Labels, Floats]:
    """What `twincar teach` does: predicted classes and their probabilities, N."""
    logits, calibration = taught_logits(material, taught)
    return _most_likely(calibration.probabilities(logits))


def taught_logits(material: Material, taught: Photos) -> tuple[Floats, Calibration]:
    """After M classes were taught, logits of the test photos, N×(K+M), in the order of their labels."""
    layer, new = material.layer, [NewClass(own) for own in _by_class(taught)]
    head = add_classes(new, layer.weight, layer.bias, material.statistics, material.calibration)
    return logits_of(material.test.features, LastLayer(head.weight, head.bias)), head.calibration


def by_nearest_photo(material: Material, taught: Photos) -> tuple[Labels, None]:
    """The class of the most similar training photo, known or taught."""
    photos = unit_length(np.concatenate([material.known.features, taught.features]))
    labels = np.concatenate([material.known.labels, taught.labels])
    test = unit_length(material.test.features)
    blocks = [test[start : start + _BLOCK] @ photos.T for start in range(0, len(test), _BLOCK)]
    return labels[np.concatenate([block.argmax(axis=1) for block in blocks])], None


def by_nearest_mean(material: Material, taught: Photos) -> tuple[Labels, None]:
    """The class whose mean is nearest under the covariance of `teach`, pooled over the known classes and the photos."""
    statistics, new = material.statistics, [NewClass(own) for own in _by_class(taught)]
    differences = np.stack([*statistics.means, *(own.mean for own in new)]) - statistics.center
    directions = pooled_whitening(new, statistics)(differences)
    offsets = (directions * differences).sum(axis=1) / 2
    return ((material.test.features - statistics.center) @ directions.T - offsets).argmax(axis=1), None


def by_linear_probe(material: Material, taught: Photos) -> tuple[Labels, Floats]:
    """Logistic regression on the features of all training photos of the known classes, and of the taught ones."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=_STRENGTH, max_iter=_ITERATIONS))
    labels = np.concatenate([material.known.labels, taught.labels])
    probe.fit(np.concatenate([material.known.features, taught.features]), labels)
    return _most_likely(softmax(probe.decision_function(material.test.features)))


WAYS: dict[str, Callable[[Material, Photos], tuple[Labels, Floats | None]]] = {
    "teach": by_teaching,
    "nearest photo": by_nearest_photo,
    "nearest class mean": by_nearest_mean,
    "linear probe": by_linear_probe,
}


def accuracy_section(material: Material, counts: Sequence[int], draws: int, trained_on_all: Scores | None) -> Section:
    """The table of accuracies: each row the mean of the draws, and their standard deviation."""
    others, test = np.arange(material.first, len(material.classes)), material.test
    known = test.of(test.labels < material.first)
    before = float((logits_of(known.features, material.layer).argmax(axis=1) == known.labels).mean())
    rows, refused = [["before teaching", "0", "", f"{before:.1%}", "", "", ""]], []
    for count in counts:
        drawn = [material.draw(count, draw, others) for draw in range(draws)]
        refused.append(f"{count_refused(material, drawn) / draws:.1f} with {count}")
        for name, way in WAYS.items():
            found = [Scores.measure(*way(material, taught), test.labels, material.first) for taught in drawn]
            rows.append([name, str(count), *map(cell, zip(*map(astuple, found), strict=True))])
    if trained_on_all:
        rows.append(["trained on all", "all", *(cell([value]) for value in astuple(trained_on_all))])
    return Section(
        f"{len(others)} classes taught to a model of {material.first}",
        ["way", "photos a class", "taught classes", "known classes", "all", "harmonic mean", "ECE"],
        rows,
        [
            f"Accuracy on {len(test.labels)} photos, {len(known.labels)} of them of known classes; mean and standard "
            f"deviation of {draws} draws of the photos to teach by.",
            "Classes whose photos `teach` would refuse as several cars, in a draw: " + ", ".join(refused) + ".",
        ],
    )


def rejection_section(material: Material, counts: Sequence[int], draws: int) -> Section:
    """The table of rejections: half of the other classes are taught, drawn for each draw, and half stay unknown."""
    before = logits_of(material.test.features, material.layer)
    others, rows = np.arange(material.first, len(material.classes)), []
    for count in counts:
        found = []
        for draw in range(draws):
            half = np.random.default_rng(draw).permutation(others)[: len(others) // 2]
            after, calibration = taught_logits(material, material.draw(count, draw, half))
            calibrations = material.calibration, calibration
            found.append(Rejections.measure(before, after, material.test.labels, half, calibrations))
        rows.append([str(count), *map(cell, zip(*map(astuple, found), strict=True))])
    header = ["photos a class"]
    header += ["known, rejected before", "after", "taught, accepted before", "after"]
    header += ["still unknown, accepted before", "after", "as a taught car"]
    note = f"At most {FALSE_REJECTION:.0%} of the photos of known cars were to be rejected, on validation photos."
    return Section("Cars that stay unknown", header, rows, [note])


def count_refused(material: Material, draws: Iterable[Photos]) -> int:
    """How many classes `teach` would refuse in these draws, because their photos seem to show several cars."""
    least, found = least_similarity(material.statistics), 0
    for taught in draws:
        similarities = [similarity_of(own, material.statistics) for own in _by_class(taught) if len(own) >= FEW]
        found += sum(similarity is not None and similarity < least for similarity in similarities)
    return found


def cell(values: Sequence[float]) -> str:
    """Mean and standard deviation of shares in percent; empty where there are none."""
    if np.isnan(values).any():
        return ""
    mean = f"{np.mean(values):.1%}"
    return f"{mean} ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else mean


def _by_class(photos: Photos) -> list[Floats]:
    """The features of each class, in the order of the labels."""
    return [photos.features[photos.labels == label] for label in np.unique(photos.labels)]


def _most_likely(probabilities: Floats) -> tuple[Labels, Floats]:
    return probabilities.argmax(axis=1), probabilities.max(axis=1)


def read_material(model: Path, known: Path, photos: Path, test: Path, split: str) -> Material:
    """Compute the features of all photos."""
    subject, exported = Subject.open(model), ExportedModel.read(model)
    names = subject.spec.classes
    others = [name for name in Subject.open(model, data_folder=photos).data.classes.names if names.find(name) is None]
    classes = ClassNames((*names.names, *others))

    def read(data: Path, part: str, only_new: bool = False) -> Photos:
        opened = Subject.open(model, data_folder=data, split=part).data
        annotations, labels = labelled_split(opened, part, classes)
        rows = np.flatnonzero(labels >= len(names)) if only_new else np.arange(len(labels))
        chosen = [opened.photo(annotations[row]) for row in rows]
        return Photos(penultimate_features(subject.engine, subject.spec.preprocessing, chosen), labels[rows])

    assert exported.statistics is not None, f"no statistics in {model}: twincar teach --statistics-from"
    return Material(
        exported.last_layer, exported.statistics, subject.spec.calibration, classes,
        read(known, "train"), read(photos, "train", only_new=True), read(test, split),
    )  # fmt: skip


def score_trained_on_all(model: Path, test: Path, split: str, known: ClassNames) -> Scores:
    """The scores of a model that was trained on all classes, of which some are known to the other model."""
    subject = Subject.open(model, data_folder=test, split=split)
    annotations, labels = labelled_split(subject.data, split, subject.spec.classes)
    logits, _ = subject.compute_logits([subject.data.photo(annotation) for annotation in annotations])
    predicted, confidence = _most_likely(subject.spec.calibration.probabilities(logits[:, 0]))
    is_new = np.array([known.find(name) is None for name in subject.spec.classes.names])
    order = np.argsort(np.argsort(is_new, kind="stable"), kind="stable")  # known classes first
    return Scores.measure(order[predicted], confidence, order[labels], int((~is_new).sum()))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    for flag in ("--known", "--photos", "--test"):
        parser.add_argument(flag, type=Path, required=True)
    parser.add_argument("--split", default="test", help="of --test; constants are chosen on 'val'")
    parser.add_argument("--all-classes", type=Path)
    parser.add_argument("--photos-per-class", type=int, nargs="+", default=[1, 5, 10, 20])
    parser.add_argument("--draws", type=int, default=5)
    given = parser.parse_args()
    material = read_material(given.model, given.known, given.photos, given.test, given.split)
    trained_on_all = None
    if given.all_classes:
        known = ClassNames(material.classes.names[: material.first])
        trained_on_all = score_trained_on_all(given.all_classes, given.test, given.split, known)
    print(accuracy_section(material, given.photos_per_class, given.draws, trained_on_all).to_markdown())
    print(rejection_section(material, given.photos_per_class, given.draws).to_markdown())


if __name__ == "__main__":
    main()
