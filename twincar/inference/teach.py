"""Teach an exported model further classes by a few photos each, without torch and without its training photos.

The penultimate features of the photos give each class a row of the head (`models.taught_rows`), next to those of the
known classes, which stay as they are; the thresholds of rejection are adjusted. The result is a model file like any
other. Its header says for each taught class how many photos it has, since when, and their hashes; the photos are not
kept.

Shapes: N photos, K classes, C penultimate features.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import finalize

import numpy as np

from twincar.core.errors import UsageError
from twincar.core.labels import ClassNames, shorten
from twincar.core.photos import Photo
from twincar.core.progress import Progress
from twincar.core.wording import command, counted
from twincar.inference.new_photos import NewPhotos, by_class, check_cohesion, look_alikes, read_cars, similarity_of
from twincar.inference.teach_errors import TeachNameError
from twincar.models.class_statistics import ClassStatistics
from twincar.models.engines.open import open_engine
from twincar.models.onnx_head import ExportedModel
from twincar.models.spec import ModelSpec, TaughtClass
from twincar.models.taught_rows import FEW, FittedRow, NewClass, add_classes, rejection_without

if TYPE_CHECKING:
    from twincar.inference.classifier import Classifier

log = logging.getLogger(__name__)

Result = TypeVar("Result")

_FEW_NAMED = {1: "seven in ten", 2: "eight in ten"}
"""The share of other photos of a car that is named after so few photos, as `benchmarks.quality.teaching` found it."""


@dataclass(frozen=True)
class TaughtCar:
    """What became of the photos of one car."""

    name: str
    photos: int
    """By how many it is known now, those of before included."""
    added: int
    repeated: int
    """Photos that were there already, or twice, and were left out."""
    similarity: float | None
    """Mean cosine of the features of any two of the added photos, seen from the center of the known classes; 0 for
    photos of unrelated cars. None for a single photo."""
    named: float | None
    """The share of the added photos that the row of all others names right; None for fewer than three photos."""

    @property
    def warning(self) -> str:
        """That there are too few photos, and how good to expect them to be; empty if there are enough."""
        if self.photos >= FEW:
            return ""
        return (
            f"{self.name} has {counted(self.photos, 'photo')} only: expect about {_FEW_NAMED[self.photos]} of its "
            "other photos to be named. Teach three to ten, from several sides."
        )


@dataclass(frozen=True)
class Taught:
    """A model file with taught classes."""

    path: Path
    classes: int
    """The number of classes it knows now."""
    known_similarity: float
    """The similarity that photos of one class that the model was trained on have, to compare that of a car with."""
    cars: tuple[TaughtCar, ...]

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self) | {"path": str(self.path)}


def teach(
    classifier: Classifier,
    cars: Mapping[str, Sequence[Photo]],
    *,
    out: Path,
    add: bool = False,
    on_photo: Progress | None = None,
) -> Taught:
    """Write a copy of a classifier's model that also knows these cars.

    Args:
        classifier: of an exported `.onnx` file with statistics of its classes.
        cars: photos by the name of the car. In each the main car is taken, as in `predict`.
        out: the file to write.
        add: whether photos may be added to cars that were taught before.
        on_photo: called with the number of finished photos and their total, for a progress bar.

    Raises:
        UsageError: the model is not an exported file or has no statistics, a name is there already, a car has no
            photos or one that is another car's too, or `out` exists.
        DataError: a photo cannot be read, no car is found in it, or the photos of one name show several cars.
        LabelError: a name has control characters.
        StorageError: the file cannot be written.
    """
    path = exported_file(classifier)
    check_out(out)
    model, statistics = _open(path)
    cars = by_class(classifier.spec, cars, add)
    found = read_cars(classifier, cars, on_photo)
    similarities = {name: similarity_of(photos.features, statistics) for name, photos in found.items()}
    check_cohesion(similarities, statistics, found)
    spec, rows = _teach(model, statistics, classifier.spec, found)
    model.write(out, spec)
    earlier = {taught.name: taught.photos for taught in spec.taught}
    taught_cars = tuple(
        TaughtCar(name, earlier[name], len(photos.hashes), photos.repeated, similarities[name], rows[name].named)
        for name, photos in found.items()
    )
    for car in taught_cars:
        if car.warning:
            log.warning("%s", car.warning)
    if alike := look_alikes(found, statistics):
        log.warning(
            "Photos of %s look as much alike as those of one car: %s. If they show one car, teach it by one name; if "
            "not, these are confused most, and more photos help.",
            counted(len(alike), "pair of cars", "pairs of cars"),
            shorten(f"{one} and {other}" for one, other in alike),
        )
    return Taught(out, len(spec.classes), statistics.cohesion, taught_cars)


def in_memory(classifier: Classifier, write: Callable[[Path], Result]) -> tuple[Classifier, Result]:
    """A classifier of the model file that `write` makes of this one's, such as by `teach`; and what `write` returns."""
    folder = TemporaryDirectory(prefix="twincar-")
    try:
        path = Path(folder.name) / "taught.onnx"
        result = write(path)
        changed = reopened(classifier, path)
    except BaseException:
        folder.cleanup()
        raise
    finalize(changed, folder.cleanup)  # the file lives as long as the classifier, so that it can be saved
    return changed, result


def reopened(classifier: Classifier, path: Path) -> Classifier:
    """A classifier of another file that was made from its model, with the same engine, detector and thresholds."""
    engine, spec = open_engine(path, classifier.engine.name)
    found = type(classifier)(
        engine,
        spec,
        finder=classifier.finder,
        min_confidence=classifier.min_confidence,
        false_rejection=classifier.false_rejection,
    )
    found.path = path
    return found


def forget(classifier: Classifier, name: str, *, out: Path) -> ModelSpec:
    """Write a copy of a classifier's model without a class that was taught; returns its header.

    Raises:
        UsageError: no such class was taught, or as for `teach`.
        StorageError: the file cannot be written.
    """
    path, spec = exported_file(classifier), classifier.spec
    check_out(out)
    model, statistics = _open(path)
    index = spec.classes.find(name)
    first = len(spec.classes) - len(spec.taught)
    if index is None or index < first:
        taught = shorten(found.name for found in spec.taught) or "none"
        raise TeachNameError(
            "unknown_name", f"Expected the name of a car that was taught ({taught}), but found {name!r}."
        )
    layer = model.last_layer
    calibration = rejection_without([index], layer.weight, layer.bias, statistics, spec.calibration)
    model.last_layer = replace(layer, weight=np.delete(layer.weight, index, axis=0), bias=np.delete(layer.bias, index))
    model.statistics = statistics.without_class(index)
    names = tuple(known for number, known in enumerate(spec.classes.names) if number != index)
    left = tuple(taught for number, taught in enumerate(spec.taught, start=first) if number != index)
    spec = replace(spec, classes=ClassNames(names), taught=left, calibration=calibration)
    model.write(out, spec)
    return spec


def exported_file(classifier: Classifier) -> Path:
    """The `.onnx` file of a classifier.

    Raises:
        UsageError: it is a model of another kind.
    """
    if classifier.path is None or classifier.path.suffix != ".onnx":
        raise UsageError(
            f"Expected an exported .onnx file to teach, but found {classifier.path or 'a model in memory'}. Export "
            "it first, with its data: twincar export RUN"
        )
    return classifier.path


def check_teachable(classifier: Classifier) -> None:
    """Check that a classifier can be taught.

    Raises:
        UsageError: the model is not an exported file, or has no statistics of its classes.
        CheckpointError: it is damaged.
    """
    _open(exported_file(classifier))


def check_out(out: Path) -> None:
    """Check that a model file can be written to this path.

    Raises:
        UsageError: it has another suffix, or is there already.
    """
    if out.suffix != ".onnx":
        raise UsageError(f"Expected a name ending in .onnx for --out, but found {out}.")
    if out.exists():
        raise UsageError(f"A model is never overwritten, and {out} exists. Delete it, or choose another --out.")


def _open(path: Path) -> tuple[ExportedModel, ClassStatistics]:
    """Open the file and the statistics of its classes."""
    model = ExportedModel.read(path)
    if model.statistics is None:
        raise UsageError(
            f"Expected a model with statistics of the classes that it knows, but {path} has none: it was exported "
            "without its data, or by an earlier version. Add them from the data that it was trained on: "
            f"{command('teach', path, '--statistics-from', 'DATA', '--out', 'FILE')}"
        )
    return model, model.statistics


def _teach(
    model: ExportedModel, statistics: ClassStatistics, spec: ModelSpec, found: Mapping[str, NewPhotos]
) -> tuple[ModelSpec, dict[str, FittedRow]]:
    """Add the classes to the graph and to the header, each once and in the last place; returns both."""
    before = {taught.name: taught for taught in spec.taught}
    layer, classes = model.last_layer, spec.classes
    means = {name: statistics.means[classes.index(name)] for name in found if name in before}
    gone = [classes.index(name) for name in means]
    calibration = rejection_without(gone, layer.weight, layer.bias, statistics, spec.calibration)
    for index in sorted(gone, reverse=True):
        statistics = statistics.without_class(index)
    weight, bias = np.delete(layer.weight, gone, axis=0), np.delete(layer.bias, gone)
    new = [
        NewClass(photos.features, means.get(name), before[name].photos if name in before else 0)
        for name, photos in found.items()
    ]
    head = add_classes(new, weight, bias, statistics, calibration)
    model.last_layer = replace(layer, weight=head.weight, bias=head.bias)
    model.statistics = head.statistics
    kept = tuple(name for index, name in enumerate(classes.names) if index not in gone)
    today = datetime.now(UTC).date().isoformat()
    records = tuple(
        TaughtClass(
            name=name, photos=taught.count, date=today,
            sha256=(*(before[name].sha256 if name in before else ()), *found[name].hashes),
        )
        for name, taught in zip(found, new, strict=True)
    )  # fmt: skip
    spec = replace(
        spec,
        classes=ClassNames((*kept, *found)),
        calibration=head.calibration,
        taught=(*(taught for taught in spec.taught if taught.name not in found), *records),
    )
    return spec, dict(zip(found, head.rows, strict=True))
