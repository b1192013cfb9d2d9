"""The `Classifier`: predicts the most likely classes of photos, with make, model, body and year.

>>> import twincar
>>> classifier = twincar.load("runs/toycars")                                        # doctest: +SKIP
>>> prediction = classifier.predict("car.jpg")                                       # doctest: +SKIP
>>> prediction.make, prediction.model, prediction.body, prediction.year              # doctest: +SKIP
('Aurora', 'Falcon', 'Sedan', 2012)
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twincar.core.errors import CheckpointError, UsageError
from twincar.core.labels import ClassNames
from twincar.core.options import CONFIDENCE, FALSE_REJECTION, EngineName
from twincar.core.photos import Photo, read_photo
from twincar.core.preprocess import iterate_batches, read_views
from twincar.inference.results import Candidate, Explanation, Failure, LevelAnswer, Prediction, Reason
from twincar.models.bundled import MODEL
from twincar.models.cam.gradcam import grad_cam_plus_plus
from twincar.models.engines.base import Engine, engine_errors
from twincar.models.engines.open import open_engine
from twincar.models.levels import ANSWERED, CLASS, SINGLE, Level, LevelName, levels_of
from twincar.models.locate import find_model
from twincar.models.spec import ModelSpec

log = logging.getLogger(__name__)

_MAX_ALTERNATIVES = 3  # most classes listed as alternatives of a group
_ALTERNATIVE_SHARE = 0.1  # least probability of an alternative, as a share of that of the most likely one


@dataclass(frozen=True)
class PredictOptions:
    """The options of the prediction for one photo."""

    top_k: int = 5
    """Number of candidates in the prediction."""
    level: LevelName | None = None
    """The level of the answer; by default the most specific one that is probable enough."""
    explain: bool = False
    """Whether to add a heatmap of what the model looked at."""


@dataclass(frozen=True)
class PreparedPhoto:
    """A photo after preprocessing."""

    name: str
    """Its name in the prediction."""
    image: NDArray[np.uint8]
    """The network's input, H×W×3."""
    visible_box: tuple[float, float, float, float]
    """The part of the photo that the network sees: left, top, right, bottom, pixels of the upright photo."""


class Classifier:
    """A trained model with the thresholds by which a prediction is accepted."""

    def __init__(
        self,
        engine: Engine,
        spec: ModelSpec,
        *,
        min_confidence: float = CONFIDENCE,
        false_rejection: float = FALSE_REJECTION,
    ) -> None:
        for name, share in (("min_confidence", min_confidence), ("false_rejection", false_rejection)):
            if not 0 <= share <= 1:
                raise UsageError(f"Expected {name} to be a share from 0 to 1, but found {share}.")
        self.spec = spec
        self.engine = engine
        self.min_confidence = min_confidence
        self.false_rejection = false_rejection
        self.levels = levels_of(spec.classes)

    @classmethod
    def load(
        cls,
        model: str | Path | None = None,
        *,
        revision: str | None = None,
        engine: EngineName = "auto",
        classes: ClassNames | None = None,
        backbone: str = "",
        min_confidence: float = CONFIDENCE,
        false_rejection: float = FALSE_REJECTION,
    ) -> Classifier:
        """Load a run folder, a `.safetensors` file of a run, third-party weights (`.pth`), an exported model, or one of
        these from the hub.

        Exported models (an `.onnx` file, an OpenVINO folder) and models published by `push` need no torch.

        Args:
            model: a path, or `owner/name` or `owner/name@revision` on the hub, see `find_repository`; by default the
                bundled model.
            revision: branch, tag or commit on the hub, another way to write `@revision`.
            engine: the inference engine; see `open_engine`, also for the next two.
            classes: class names of third-party weights.
            backbone: backbone of third-party weights.
            min_confidence: least probability with which an answer is given.
            false_rejection: share of the photos of known cars that may be rejected as unknown.

        Raises:
            UsageError: there is no such model, the engine cannot open it, it has its own class names or backbone, or a
                share is out of range.
            HubError: it cannot be downloaded from the hub.
            CheckpointError: it is damaged, not safe to open, or does not fit.
            MissingExtraError: the engine is not installed.
        """
        model = MODEL if model is None else model
        path = find_model(model, revision, engine)
        opened, spec = open_engine(path, engine, classes=classes, backbone=backbone)
        if not spec.calibration.is_fitted:
            log.warning(
                "%s is not calibrated: it names the most likely classes, but no answer is accepted, because their "
                "probabilities are not reliable, and no photo is rejected as unknown.", path.name,
            )  # fmt: skip
        return cls(opened, spec, min_confidence=min_confidence, false_rejection=false_rejection)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the model, in the order of the logits."""
        return self.spec.classes.names

    @overload
    def predict(self, photos: Photo, *, top_k: int = 5, tta: bool = False) -> Prediction: ...
    @overload
    def predict(self, photos: list[Any], *, top_k: int = 5, tta: bool = False) -> list[Prediction | Failure]: ...
    def predict(
        self, photos: Photo | list[Any], *, top_k: int = 5, tta: bool = False
    ) -> Prediction | list[Prediction | Failure]:
        """Predict for one photo or a list of them: paths, bytes, PIL images or uint8 arrays (height×width×3).

        In a list, a photo that cannot be read does not affect the others: its item is a `Failure`, whose `accepted` is
        False and whose `error` says why.

        Args:
            photos: one photo, or a list.
            top_k: number of candidates in a prediction.
            tta: average over the mirror image and a wider view, which takes up to four times as long.

        Raises:
            PhotoError: a single photo cannot be read.
            UsageError: `top_k` is less than 1.
        """
        if not isinstance(photos, list):  # a single photo is faster without threads that read ahead
            views = read_views(photos, self.spec.preprocessing, tta=tta)
            return self._prediction(_name_of(photos), self._logits(views[None]), top_k)
        return list(self.stream(photos, top_k=top_k, tta=tta))

    def explain(self, photo: Photo, *, target: str | None = None, top_k: int = 5) -> Explanation:
        """Predict for one photo, with a Grad-CAM++ heatmap for one class.

        Args:
            photo: path, bytes, PIL image or uint8 array (height×width×3).
            target: name of the class to explain, in any spelling; by default the most likely one.
            top_k: number of candidates in the prediction.

        Raises:
            PhotoError: the photo cannot be read.
            LabelError: the model knows no class of that name.
        """
        prepared = self.prepare(read_photo(photo), _name_of(photo))
        logits, features = self.engine.logits_and_features(prepared.image[None])
        self._check_logits(logits)
        chosen = None if target is None else self.spec.classes.index(target)
        return self._explanation(prepared, self._prediction(prepared.name, logits, top_k), logits, features, chosen)

    def prepare(self, photo: Image.Image, name: str) -> PreparedPhoto:
        """Preprocess a photo for `predict_batch`.

        Args:
            photo: upright and RGB, as `read_photo` and `decode_photo` return it.
            name: its name in the prediction.
        """
        preprocessing = self.spec.preprocessing
        return PreparedPhoto(name, preprocessing(photo), preprocessing.visible_box(photo.width, photo.height))

    def predict_batch(
        self, photos: Sequence[PreparedPhoto], options: Sequence[PredictOptions]
    ) -> list[Prediction | Explanation]:
        """Predict for one batch of photos, each with its own options; an `Explanation` where one is requested."""
        images = np.stack([photo.image for photo in photos])
        features = None
        if any(chosen.explain for chosen in options):
            logits, features = self.engine.logits_and_features(images)
        else:
            logits = self.engine.logits(images)
        self._check_logits(logits)
        predictions: list[Prediction | Explanation] = []
        for row, (photo, chosen) in enumerate(zip(photos, options, strict=True)):
            own = slice(row, row + 1)
            prediction = self._prediction(photo.name, logits[own], chosen.top_k, chosen.level)
            if chosen.explain and features is not None:
                predictions.append(self._explanation(photo, prediction, logits[own], features[own]))
            else:
                predictions.append(prediction)
        return predictions

    def stream(
        self, photos: Iterable[Photo], *, top_k: int = 5, tta: bool = False, batch_size: int = 32
    ) -> Iterator[Prediction | Failure]:
        """Predict for any number of photos, in their order; memory does not grow with their number."""
        names: dict[int, str] = {}

        def named() -> Iterator[Photo]:
            for position, photo in enumerate(photos):
                names[position] = _name_of(photo)
                yield photo

        for batch in iterate_batches(named(), self.spec.preprocessing, batch_size=batch_size, tta=tta):
            predictions: dict[int, Prediction | Failure] = {
                position: Failure(names[position], error) for position, error in batch.failures.items()
            }
            if batch.positions:
                for position, row in zip(batch.positions, self._logits(batch.images), strict=True):
                    predictions[position] = self._prediction(names[position], row[None], top_k)
            for position in sorted(predictions):
                del names[position]
                yield predictions[position]

    def _logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits, N×K, averaged over the views of images, N×V×H×W×3."""
        logits: NDArray[np.float32] = self.engine.view_logits(images).mean(axis=1)
        return self._check_logits(logits)

    def _check_logits(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits, N×K, after checking that they are one finite number per class."""
        if logits.shape[1] != len(self.class_names) or not np.isfinite(logits).all():
            raise CheckpointError(
                f"Expected a finite number for each of {len(self.class_names)} classes from the model, but found "
                f"{logits.shape[1]} numbers, not all of them finite. The model is damaged; export it again."
            )
        return logits

    def _prediction(
        self, photo: str, logits: NDArray[np.float32], top_k: int, level: LevelName | None = None
    ) -> Prediction:
        """The prediction for a photo of this name, from its logits, 1×K."""
        probabilities = self.spec.calibration.probabilities(logits)
        found = {name: self._level_answer(group, probabilities) for name, group in self.levels.items()}
        wanted = (level,) if level else ANSWERED
        answer = next((found[name] for name in wanted if found[name].probability >= self.min_confidence), None)
        reason = Reason.NONE if answer else Reason.NOT_SURE
        if not self.spec.calibration.is_fitted:
            answer, reason = None, Reason.NOT_CALIBRATED
        elif self.spec.calibration.in_distribution_score(logits)[0] < self.false_rejection:
            answer, reason = None, Reason.UNKNOWN_CAR
        return Prediction(
            photo=photo,
            topk=self._candidates(probabilities[0], top_k),
            answer=answer,
            levels=tuple(found[name] for name in SINGLE if found[name].name),
            reason=reason,
        )

    def _explanation(
        self,
        photo: PreparedPhoto,
        prediction: Prediction,
        logits: NDArray[np.float32],
        features: NDArray[np.float32],
        target: int | None = None,
    ) -> Explanation:
        """From a photo's logits, 1×K, and feature map, 1×C×h×w; for the most likely class unless `target` is given."""
        chosen = logits.argmax(axis=1) if target is None else np.array([target])
        with engine_errors():
            heatmap = grad_cam_plus_plus(features, self.engine.head, chosen)[0]
        return Explanation(prediction, self.class_names[chosen[0]], heatmap, photo.visible_box)

    def _level_answer(self, level: Level, probabilities: NDArray[np.float32]) -> LevelAnswer:
        groups, shares = level.most_likely(probabilities)
        members = np.flatnonzero(level.group_of == groups[0])
        ranked = members[np.argsort(-probabilities[0, members], kind="stable")][:_MAX_ALTERNATIVES]
        enough = _ALTERNATIVE_SHARE * probabilities[0, ranked[0]]
        possible = tuple(self.class_names[member] for member in ranked if probabilities[0, member] >= enough)
        is_class = level.name == CLASS
        return LevelAnswer(level.name, level.groups[groups[0]], float(shares[0]), () if is_class else possible)

    def _candidates(self, probabilities: NDArray[np.float32], top_k: int) -> tuple[Candidate, ...]:
        if top_k < 1:
            raise UsageError(f"Expected top_k to be at least 1, but found {top_k}.")
        order = np.argsort(-probabilities, kind="stable")[:top_k]
        cars = self.spec.classes.cars
        return tuple(Candidate(self.class_names[i], float(probabilities[i]), cars[i]) for i in order)


def _name_of(photo: Photo) -> str:
    if isinstance(photo, str | Path):
        return str(photo)
    if isinstance(photo, Image.Image):
        return str(getattr(photo, "filename", "") or "picture in memory")
    return "bytes" if isinstance(photo, bytes) else "array in memory"
