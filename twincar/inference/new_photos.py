"""The photos of cars that a model is to be taught: their names, hashes and features, and whether each shows one car.

Shapes: N photos, C penultimate features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from twincar.core.errors import DataError, UsageError
from twincar.core.files import sha256_of, sha256_of_file
from twincar.core.labels import ClassNames, canonical_name, class_key, shorten
from twincar.core.photos import NamedPhoto, Photo, is_address, local_path, read_photo
from twincar.core.progress import Progress
from twincar.inference.crops import iterate_crops, name_of, prepare_crops
from twincar.inference.results import Failure
from twincar.inference.teach_errors import TeachNameError, TeachPhotosError
from twincar.models.class_statistics import ClassStatistics
from twincar.models.spec import ModelSpec
from twincar.models.taught_rows import FEW

if TYPE_CHECKING:
    from twincar.inference.classifier import Classifier

Floats = NDArray[np.float32]

_BATCH = 32
_LEAST_COHESION = 0.4  # of that of the known classes; photos of one new car have more, of several cars less


@dataclass(frozen=True, eq=False)
class NewPhotos:
    """The photos of one car that are new to the model."""

    features: Floats
    hashes: tuple[str, ...]
    repeated: int


def cars_of_source(path: str) -> dict[str, Sequence[Photo]]:
    """Photos by the name of the car, of class folders or a CSV file.

    Raises:
        UsageError: it is not such a source.
        DataError: it cannot be read, or has rows without a class.
    """
    from twincar.data.sources import open_source  # deferred: it imports more than a few photos need

    source = open_source(path, allow_untrained=True)
    cars: dict[str, list[Photo]] = {}
    for row in source.rows():
        if row.fault is not None:
            raise row.fault
        if not isinstance(row.label, int):
            raise DataError(f"Expected the name of a car for each photo of {path}, but {row.name} has none.")
        cars.setdefault(source.classes[row.label], []).append(row.photo)
    return dict(cars)


def by_class(spec: ModelSpec, cars: Mapping[str, Sequence[Photo]], add: bool) -> dict[str, Sequence[Photo]]:
    """The photos by the name that the class has, or will have, in the model.

    Raises:
        UsageError: a name is that of a known class, or has no photos.
        LabelError: a name has control characters.
    """
    first, chosen = len(spec.classes) - len(spec.taught), dict[str, Sequence[Photo]]()
    for given, photos in cars.items():
        index, name = spec.classes.find(given), canonical_name(given)
        if index is not None:
            name = spec.classes[index]
            if index < first:
                raise TeachNameError(
                    "name_trained", f"Expected the name of a new car, but the model was trained on {name!r}."
                )
            if not add:
                raise TeachNameError(
                    "name_exists",
                    f"Expected the name of a new car, but {name!r} was taught already.",
                    "Add photos to it by --add, or remove it first by --forget.",
                )
        if not photos:
            raise UsageError(f"Expected photos of {name!r}, but there are none.")
        if class_key(name) in map(class_key, chosen):
            raise UsageError(f"Expected each car once, but {name!r} is there in two spellings. Use one of them.")
        chosen[name] = photos
    ClassNames(tuple(chosen))  # checks the names
    return chosen


def read_cars(
    classifier: Classifier, cars: Mapping[str, Sequence[Photo]], on_photo: Progress | None
) -> dict[str, NewPhotos]:
    """The features of the photos of each car, without those by which it was taught before.

    Raises:
        UsageError: a car has no new photos, or one that is also another car's.
        DataError: a photo cannot be read, or no car is found in it.
    """
    known = {taught.name: taught.sha256 for taught in classifier.spec.taught}
    hashed = {name: list(zip(map(_hash, photos), photos, strict=True)) for name, photos in cars.items()}
    _check_owners(known, hashed)
    total, done, found = sum(map(len, cars.values())), 0, dict[str, NewPhotos]()
    for name, photos in hashed.items():
        new = {digest: photo for digest, photo in photos if digest not in known.get(name, ())}
        if not new:
            raise TeachNameError(
                "photos_repeated",
                f"Expected new photos of {name!r}, but it was taught by all {len(photos)} of them already.",
            )
        features = features_of(classifier, name, list(new.values()))
        found[name] = NewPhotos(features, tuple(new), len(photos) - len(new))
        done += len(photos)
        if on_photo:
            on_photo(done, total)
    return found


def _check_owners(known: Mapping[str, Sequence[str]], hashed: Mapping[str, Sequence[tuple[str, Photo]]]) -> None:
    """Check that no photo is there under two names: the network would have to tell a car from itself.

    Raises:
        UsageError: one is.
    """
    owners = {digest: name for name, digests in known.items() for digest in digests}
    for name, photos in hashed.items():
        shared = [(owners[digest], photo) for digest, photo in photos if owners.get(digest, name) != name]
        if shared:
            other = shared[0][0]
            same = [name_of(photo) for owner, photo in shared if owner == other]
            what_to_do = f", or remove {other!r} first by --forget" if other in known else " of one of the two"
            raise TeachNameError(
                "photos_of_another_car",
                f"Expected photos of {name!r} only, but {len(same)} of {len(photos)} are also photos of {other!r}: "
                f"{shorten(same)}.",
                f"Leave them out{what_to_do}.",
            )
        owners |= dict.fromkeys((digest for digest, _ in photos), name)


def _hash(photo: Photo) -> str:
    """The hash of a file, or of the pixels of an image that is none."""
    if isinstance(photo, NamedPhoto):
        photo = photo.data
    if isinstance(photo, bytes):
        return sha256_of(photo)
    if isinstance(photo, Path) or (isinstance(photo, str) and not is_address(photo)):
        path = Path(local_path(str(photo)))
        if path.is_file():
            return sha256_of_file(path)
    return sha256_of(np.asarray(read_photo(photo)).tobytes())


def features_of(classifier: Classifier, name: str, photos: Sequence[Photo]) -> Floats:
    """Penultimate features, N×C, of the main car of each photo.

    Raises:
        DataError: a photo cannot be read, or no car is found in it.
    """
    prepare = partial(prepare_crops, preprocessing=classifier.spec.preprocessing, finder=classifier.finder)
    crops, parts, without = iterate_crops(photos, prepare, ahead=2 * _BATCH), [], []
    while batch := list(islice(crops, _BATCH)):
        views = []
        for item in batch:
            if isinstance(item, Failure):
                raise item.error
            views.append(item[0].views)
            without += [] if item[0].crop.is_car else [item[0].name]
        pooled = classifier.engine.logits_and_features(np.concatenate(views))[1].mean(axis=(2, 3))
        parts.append(classifier.engine.head.penultimate(pooled))
    if without:
        raise TeachPhotosError(
            "no_car",
            f"Expected a car in each photo of {name!r}, but none is found in {len(without)} of {len(photos)}: "
            f"{shorten(without)}.",
            "Leave them out; for photos that are cut to the car already, use --detect never.",
        )
    return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)


def similarity_of(features: Floats, statistics: ClassStatistics) -> float | None:
    """Mean cosine of any two of N features seen from the center; None for fewer than two."""
    count = len(features)
    if count < 2:
        return None
    unit = _from_center(features, statistics)
    return float(((unit.sum(axis=0) ** 2).sum() - count) / (count * (count - 1)))


def look_alikes(found: Mapping[str, NewPhotos], statistics: ClassStatistics) -> list[tuple[str, str]]:
    """Pairs of names of at least three photos each, whose photos are as similar to each other as those of one name are.

    The mean cosine between the photos of the two is at least the lower one of those within them.
    """
    several = {name: photos.features for name, photos in found.items() if len(photos.features) >= FEW}
    means = {name: _from_center(features, statistics).mean(axis=0) for name, features in several.items()}
    within = {name: similarity_of(features, statistics) or 0.0 for name, features in several.items()}
    pairs = combinations(several, 2)
    return [(one, other) for one, other in pairs if means[one] @ means[other] >= min(within[one], within[other])]


def _from_center(features: Floats, statistics: ClassStatistics) -> Floats:
    """N features as vectors of unit length from the mean of all classes, N×C."""
    seen = features - statistics.center
    unit: Floats = seen / np.maximum(np.linalg.norm(seen, axis=1, keepdims=True), 1e-12)
    return unit


def least_similarity(statistics: ClassStatistics) -> float:
    """The mean cosine that photos of one name must have to be taken for photos of one car."""
    return _LEAST_COHESION * statistics.cohesion


def check_cohesion(
    similarities: Mapping[str, float | None], statistics: ClassStatistics, found: Mapping[str, NewPhotos]
) -> None:
    """Check that the photos of each name are alike enough to show one car.

    Raises:
        DataError: those of one name are not.
    """
    least = least_similarity(statistics)
    for name, similarity in similarities.items():
        if similarity is not None and len(found[name].hashes) >= FEW and similarity < least:
            raise TeachPhotosError(
                "several_cars",
                f"Expected {len(found[name].hashes)} photos of one car as {name!r}, but they seem to show several: "
                f"their mean similarity is {similarity:.2f}, where photos of one car that the model knows have "
                f"{statistics.cohesion:.2f}, and at least {least:.2f} is needed.",
                "Teach each car by a name of its own.",
            )
