"""Answers for photos: the likeliest classes with make, model, body and year.

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

_OPEN = 3  # classes told of a group, at most
_OPEN_SHARE = 0.1  # of the likeliest one's probability; what is less likely than that is not told


@dataclass(frozen=True)
class Question:
    """What is asked about one photo."""

    top_k: int = 5
    """How many candidates the answer holds."""
    level: LevelName | None = None
    """The level to answer at; unless given, the most specific one that is probable enough."""
    explain: bool = False
    """Whether to show where the model looked."""


@dataclass(frozen=True)
class PreparedPhoto:
    """A photo as the network takes it."""

    name: str
    """What the answer calls it."""
    image: NDArray[np.uint8]
    """H×W×3."""
    visible_box: tuple[float, float, float, float]
    """The part of the photo that is left in it: left, top, right, bottom, pixels of the upright photo."""


class Classifier:
    """A trained model, ready to answer, and what makes an answer good enough to be given."""

    def __init__(
        self,
        engine: Engine,
        spec: ModelSpec,
        *,
        confidence: float = CONFIDENCE,
        false_rejection: float = FALSE_REJECTION,
    ) -> None:
        for name, share in (("confidence", confidence), ("false_rejection", false_rejection)):
            if not 0 <= share <= 1:
                raise UsageError(f"Expected {name} to be a share from 0 to 1, but found {share}.")
        self.spec = spec
        self.engine = engine
        self.confidence = confidence
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
        confidence: float = CONFIDENCE,
        false_rejection: float = FALSE_REJECTION,
    ) -> Classifier:
        """Load a run folder, a `.safetensors` file of ours, published weights (`.pth`), an exported model, or one of
        these from the hub.

        Exported models (an `.onnx` file, an OpenVINO folder) need no torch; nor do those that `push` has published.

        Args:
            model: a path, or `owner/name` or `owner/name@revision` on the hub, see `find_repository`; the model in the
                box unless given.
            revision: branch, tag or commit on the hub, another way to write `@revision`.
            engine: what computes; see `open_engine`, also for the next two.
            classes: names for published weights.
            backbone: of published weights.
            confidence: how probable an answer has to be to be given.
            false_rejection: share of the photos of known cars that may be turned away as unknown.

        Raises:
            UsageError: nothing is there, that engine does not open such a model, the model has other names or another
                backbone of its own, or a share is out of range.
            HubError: the hub does not give it.
            CheckpointError: it is damaged, not safe to open, or does not fit.
            MissingExtraError: the engine is not installed.
        """
        model = MODEL if model is None else model
        path = find_model(model, revision, engine)
        opened, spec = open_engine(path, engine, classes=classes, backbone=backbone)
        if not spec.calibration.is_fitted:
            log.warning(
                "%s is not calibrated: it names the likeliest classes, but no answer is accepted, as nobody knows how "
                "probable they are, and no photo is turned away.", path.name,
            )  # fmt: skip
        return cls(opened, spec, confidence=confidence, false_rejection=false_rejection)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Every answer there can be, in the order of the logits."""
        return self.spec.classes.names

    @overload
    def predict(self, photos: Photo, *, top_k: int = 5, tta: bool = False) -> Prediction: ...
    @overload
    def predict(self, photos: list[Any], *, top_k: int = 5, tta: bool = False) -> list[Prediction | Failure]: ...
    def predict(
        self, photos: Photo | list[Any], *, top_k: int = 5, tta: bool = False
    ) -> Prediction | list[Prediction | Failure]:
        """Answer for one photo or a list of them: paths, bytes, PIL images or uint8 arrays (height×width×3).

        In a list a photo that cannot be read costs the others nothing: a `Failure` stands in its place, whose
        `accepted` is False and whose `error` says why.

        Args:
            photos: one photo, or a list.
            top_k: how many candidates an answer holds.
            tta: average over the mirror image and a wider view, for four times the work.

        Raises:
            PhotoError: the one photo cannot be read.
            UsageError: `top_k` is less than 1.
        """
        if not isinstance(photos, list):  # one photo is quicker without threads that read ahead
            views = read_views(photos, self.spec.preprocessing, tta=tta)
            return self._prediction(_name_of(photos), self._logits(views[None]), top_k)
        return list(self.stream(photos, top_k=top_k, tta=tta))

    def explain(self, photo: Photo, *, target: str | None = None, top_k: int = 5) -> Explanation:
        """Answer for one photo and show what in it speaks for one class, by Grad-CAM++.

        Args:
            photo: path, bytes, PIL image or uint8 array (height×width×3).
            target: name of the class to explain, in any spelling; the likeliest unless given.
            top_k: how many candidates the answer holds.

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
        """What `answer` needs of a photo.

        Args:
            photo: upright and RGB, as `read_photo` and `decode_photo` give it.
            name: what the answer calls it.
        """
        preprocessing = self.spec.preprocessing
        return PreparedPhoto(name, preprocessing(photo), preprocessing.visible_box(photo.width, photo.height))

    def answer(self, photos: Sequence[PreparedPhoto], questions: Sequence[Question]) -> list[Prediction | Explanation]:
        """Answer for one batch of photos, of each its own question; an `Explanation` for those that ask for it."""
        images = np.stack([photo.image for photo in photos])
        features = None
        if any(question.explain for question in questions):
            logits, features = self.engine.logits_and_features(images)
        else:
            logits = self.engine.logits(images)
        self._check_logits(logits)
        answers: list[Prediction | Explanation] = []
        for row, (photo, question) in enumerate(zip(photos, questions, strict=True)):
            own = slice(row, row + 1)
            answer = self._prediction(photo.name, logits[own], question.top_k, question.level)
            if question.explain and features is not None:
                answers.append(self._explanation(photo, answer, logits[own], features[own]))
            else:
                answers.append(answer)
        return answers

    def stream(
        self, photos: Iterable[Photo], *, top_k: int = 5, tta: bool = False, batch_size: int = 32
    ) -> Iterator[Prediction | Failure]:
        """Answer for any number of photos in their order; memory does not grow with their number."""
        names: dict[int, str] = {}

        def named() -> Iterator[Photo]:
            for position, photo in enumerate(photos):
                names[position] = _name_of(photo)
                yield photo

        for batch in iterate_batches(named(), self.spec.preprocessing, batch_size=batch_size, tta=tta):
            answers: dict[int, Prediction | Failure] = {
                position: Failure(names[position], error) for position, error in batch.failures.items()
            }
            if batch.positions:
                for position, row in zip(batch.positions, self._logits(batch.images), strict=True):
                    answers[position] = self._prediction(names[position], row[None], top_k)
            for position in sorted(answers):
                del names[position]
                yield answers[position]

    def _logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits, N×K, averaged over the views of N×V×H×W×3."""
        logits: NDArray[np.float32] = self.engine.view_logits(images).mean(axis=1)
        return self._check_logits(logits)

    def _check_logits(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits, N×K, that are one finite number a class."""
        if logits.shape[1] != len(self.class_names) or not np.isfinite(logits).all():
            raise CheckpointError(
                f"Expected a finite number for each of {len(self.class_names)} classes from the model, but found "
                f"{logits.shape[1]} numbers, not all of them finite. The model is damaged; export it again."
            )
        return logits

    def _prediction(
        self, photo: str, logits: NDArray[np.float32], top_k: int, level: LevelName | None = None
    ) -> Prediction:
        """The answer for a photo of this name, of its logits, 1×K."""
        probabilities = self.spec.calibration.probabilities(logits)
        found = {name: self._level_answer(group, probabilities) for name, group in self.levels.items()}
        wanted = (level,) if level else ANSWERED
        answer = next((found[name] for name in wanted if found[name].probability >= self.confidence), None)
        reason: Reason = "" if answer else "not sure"
        if not self.spec.calibration.is_fitted:
            answer, reason = None, "not calibrated"
        elif self.spec.calibration.in_distribution_score(logits)[0] < self.false_rejection:
            answer, reason = None, "not a car this model knows"
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
        """Of a photo's logits, 1×K, and feature map, 1×C×h×w; of the likeliest class unless told otherwise."""
        chosen = logits.argmax(axis=1) if target is None else np.array([target])
        with engine_errors():
            heat = grad_cam_plus_plus(features, self.engine.head, chosen)[0]
        return Explanation(prediction, self.class_names[chosen[0]], heat, photo.visible_box)

    def _level_answer(self, level: Level, probabilities: NDArray[np.float32]) -> LevelAnswer:
        groups, shares = level.likeliest(probabilities)
        members = np.flatnonzero(level.group_of == groups[0])
        likeliest = members[np.argsort(-probabilities[0, members], kind="stable")][:_OPEN]
        enough = _OPEN_SHARE * probabilities[0, likeliest[0]]
        possible = tuple(self.class_names[member] for member in likeliest if probabilities[0, member] >= enough)
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
