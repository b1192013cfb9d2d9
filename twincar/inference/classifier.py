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
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twincar.core.errors import UsageError
from twincar.core.files import write_bytes
from twincar.core.labels import ClassNames
from twincar.core.options import CONFIDENCE, FALSE_REJECTION, Cars, DetectOptions, EngineName
from twincar.core.photos import Photo, read_photo
from twincar.core.wording import counted
from twincar.inference.crops import CarFinder, PreparedCrop, iterate_crop_batches, name_of, prepare_crops
from twincar.inference.embedding import EmbeddedCar, Embeddings, gather, stream_embeddings
from twincar.inference.photo_options import PhotoOptions
from twincar.inference.ranking import check_logits, level_answer, most_likely
from twincar.inference.results import Explanation, Failure, Prediction, Status
from twincar.models.bundled import MODEL
from twincar.models.cam.gradcam import grad_cam_plus_plus
from twincar.models.engines.base import Engine, engine_errors
from twincar.models.engines.open import open_engine
from twincar.models.levels import ANSWERED, CLASS, SINGLE, LevelName, levels_of
from twincar.models.locate import find_model
from twincar.models.spec import ModelSpec

log = logging.getLogger(__name__)

_BATCH = 32


class Classifier:
    """A trained model with the thresholds by which a prediction is accepted."""

    def __init__(
        self,
        engine: Engine,
        spec: ModelSpec,
        *,
        finder: CarFinder | None = None,
        min_confidence: float = CONFIDENCE,
        false_rejection: float = FALSE_REJECTION,
    ) -> None:
        for name, share in (("min_confidence", min_confidence), ("false_rejection", false_rejection)):
            if not 0 <= share <= 1:
                raise UsageError(f"Expected {name} to be a share from 0 to 1, but found {share}.")
        self.spec = spec
        self.engine = engine
        self.path: Path | None = None
        """The file or folder of the model, if it was loaded from one."""
        self.finder = finder
        """Cuts the cars out of photos; None if the model gets whole photos."""
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
        detection: DetectOptions = DetectOptions(),
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
            detection: whether the cars in photos are found and cut out first; by default for models that were trained
                on such crops.
            min_confidence: least probability with which an answer is given.
            false_rejection: share of the photos of known cars that may be rejected as unknown.

        Raises:
            UsageError: there is no such model or detector, the engine cannot open it, it has its own class names or
                backbone, or a share is out of range.
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
        finder = CarFinder.for_model(spec, detection)
        found = cls(opened, spec, finder=finder, min_confidence=min_confidence, false_rejection=false_rejection)
        found.path = path
        return found

    def teach(self, name: str, photos: Sequence[Photo], *, add: bool = False) -> Classifier:
        """A classifier that also knows a car of which these are photos; this one stays as it is. See `inference.teach`.

        Args:
            name: of the car, such as 'Seat Arona SUV 2018'.
            photos: three or more, better from several sides. The main car of each is taken.
            add: whether photos may be added to a car that was taught before.

        Raises:
            UsageError: the model is not an exported file with statistics of its classes, or the name is there already.
            DataError: a photo cannot be read, no car is found in it, or the photos show several cars.
        """
        from twincar.inference.teach import in_memory, teach

        return in_memory(self, lambda out: teach(self, {name: photos}, out=out, add=add))[0]

    def save(self, path: str | Path) -> Path:
        """Write the model file, with what it was taught; returns its path.

        Raises:
            UsageError: the model is not an exported `.onnx` file, or something is at `path`.
            StorageError: it cannot be written.
        """
        from twincar.inference.teach import check_out, exported_file

        source, path = exported_file(self), Path(path)
        check_out(path)
        write_bytes(path, source.read_bytes())
        return path

    def __repr__(self) -> str:
        """A line: the network, its number of classes, and where it was loaded from."""
        where = f" from {str(self.path)!r}" if self.path else ""
        return f"<Classifier {self.spec.backbone}, {counted(len(self.class_names), 'class', 'classes')}{where}>"

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

        If the cars in photos are found first, the prediction is for the main car, the most prominent one. In a list, a
        photo that cannot be read does not affect the others: its item is a `Failure`, whose `status` is
        'unreadable' and whose `error` says why.

        Args:
            photos: one photo, or a list.
            top_k: number of candidates in a prediction.
            tta: average over the mirror image and a wider view, which takes up to four times as long.

        Raises:
            PhotoError: a single photo cannot be read.
            UsageError: `top_k` is less than 1.
        """
        if not isinstance(photos, list):  # a single photo is faster without threads that read ahead
            return self._predict_cars(photos, "main", top_k, tta)[0]
        return list(self.stream(photos, top_k=top_k, tta=tta))

    def predict_cars(self, photo: Photo, *, top_k: int = 5, tta: bool = False) -> list[Prediction]:
        """Predict for each car in a photo, the most prominent first; each prediction has its `box`.

        If the cars are not found first (see `load`), it is one prediction for the whole photo; if none is found, one
        without candidates, whose `car` is None.
        Arguments and errors are those of `predict`.
        """
        return self._predict_cars(photo, "all", top_k, tta)

    def embed(self, photos: list[Any]) -> Embeddings:
        """Embed the main car of each photo of a list: what the model's head sees of it, as a vector of unit length.

        Photos are those of `predict`, and their cars are found and cut out in the same way. `vectors` has a row for
        each photo that can be read, N×D float32, and `cars` says which photo it is; the others are in `failures`.
        """
        found = stream_embeddings(self.engine, self.spec.preprocessing, self.finder, photos)
        return gather(found, self.engine.head.features)

    def embed_stream(self, photos: Iterable[Photo], *, cars: Cars = "main") -> Iterator[EmbeddedCar | Failure]:
        """Embed any number of photos, in their order; memory does not grow with their number. See `stream`."""
        return stream_embeddings(self.engine, self.spec.preprocessing, self.finder, photos, cars=cars)

    def explain(self, photo: Photo, *, target: str | None = None, top_k: int = 5) -> Explanation:
        """Predict for the main car of one photo, with a Grad-CAM++ heatmap for one class.

        Args:
            photo: path, bytes, PIL image or uint8 array (height×width×3).
            target: name of the class to explain, in any spelling; by default the most likely one.
            top_k: number of candidates in the prediction.

        Raises:
            PhotoError: the photo cannot be read.
            LabelError: the model knows no class of that name.
        """
        (crop,) = prepare_crops(read_photo(photo), name_of(photo), self.spec.preprocessing, self.finder)
        return self.explain_crop(crop, target=target, top_k=top_k)

    def explain_crop(self, crop: PreparedCrop, *, target: str | None = None, top_k: int = 5) -> Explanation:
        """The same for one of the crops that `prepare` returns."""
        logits, features = self.engine.logits_and_features(crop.views)
        check_logits(logits, len(self.class_names))
        chosen = None if target is None else self.spec.classes.index(target)
        return self._explanation(crop, self._prediction(crop, logits, top_k), logits, features, chosen)

    def prepare(self, photo: Image.Image, name: str) -> list[PreparedCrop]:
        """Preprocess the cars in a photo, or the whole photo, for `predict_batch`.

        Args:
            photo: upright and RGB, as `read_photo` and `decode_photo` return it.
            name: its name in the predictions.
        """
        return prepare_crops(photo, name, self.spec.preprocessing, self.finder, cars="all")

    def predict_batch(
        self, crops: Sequence[PreparedCrop], options: Sequence[PhotoOptions]
    ) -> list[Prediction | Explanation]:
        """Predict for one batch of crops, each with its own options; an `Explanation` where one is requested."""
        images = np.concatenate([crop.views for crop in crops])
        features = None
        if any(chosen.explain for chosen in options):
            logits, features = self.engine.logits_and_features(images)
        else:
            logits = self.engine.logits(images)
        check_logits(logits, len(self.class_names))
        predictions: list[Prediction | Explanation] = []
        for row, (crop, chosen) in enumerate(zip(crops, options, strict=True)):
            own = slice(row, row + 1)
            prediction = self._prediction(crop, logits[own], chosen.top_k, chosen.level)
            if chosen.explain and features is not None:
                predictions.append(self._explanation(crop, prediction, logits[own], features[own]))
            else:
                predictions.append(prediction)
        return predictions

    def stream(
        self,
        photos: Iterable[Photo],
        *,
        cars: Cars = "main",
        top_k: int = 5,
        tta: bool = False,
        batch_size: int = _BATCH,
    ) -> Iterator[Prediction | Failure]:
        """Predict for any number of photos, in their order; memory does not grow with their number.

        With `cars` 'all' there is a prediction for each car that is found, the most prominent of each photo first.
        """
        batches = iterate_crop_batches(
            photos, self.spec.preprocessing, self.finder, batch_size=batch_size, cars=cars, tta=tta
        )
        for batch in batches:
            yield from self._predict_crops(batch, top_k)

    def _predict_cars(self, photo: Photo, cars: Cars, top_k: int, tta: bool) -> list[Prediction]:
        crops = prepare_crops(
            read_photo(photo), name_of(photo), self.spec.preprocessing, self.finder, cars=cars, tta=tta
        )
        batches = (crops[start : start + _BATCH] for start in range(0, len(crops), _BATCH))
        return [found for batch in batches for found in self._predict_crops(batch, top_k)]

    @overload
    def _predict_crops(self, crops: Sequence[PreparedCrop], top_k: int) -> list[Prediction]: ...
    @overload
    def _predict_crops(self, crops: Sequence[PreparedCrop | Failure], top_k: int) -> list[Prediction | Failure]: ...
    def _predict_crops(self, crops: Sequence[PreparedCrop | Failure], top_k: int) -> Sequence[Prediction | Failure]:
        """Predict for one batch of crops; failures keep their places."""
        views = [crop.views for crop in crops if isinstance(crop, PreparedCrop)]
        logits = iter(self._logits(np.stack(views))) if views else iter(())
        return [
            self._prediction(crop, next(logits)[None], top_k) if isinstance(crop, PreparedCrop) else crop
            for crop in crops
        ]

    def _logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits, N×K, averaged over the views of images, N×V×H×W×3."""
        logits: NDArray[np.float32] = self.engine.view_logits(images).mean(axis=1)
        return check_logits(logits, len(self.class_names))

    def _prediction(
        self, prepared: PreparedCrop, logits: NDArray[np.float32], top_k: int, level: LevelName | None = None
    ) -> Prediction:
        """The prediction for a crop, from its logits, 1×K."""
        probabilities = self.spec.calibration.probabilities(logits)
        found = {name: level_answer(group, self.spec.classes, probabilities) for name, group in self.levels.items()}
        wanted = (level,) if level else ANSWERED
        answer = next((found[name] for name in wanted if found[name].probability >= self.min_confidence), None)
        status = Status.NOT_SURE
        if answer:
            status = Status.NAMED if answer.level == CLASS else Status.NAMED_IN_PART
        if not prepared.crop.is_car:
            answer, status = None, Status.NO_CAR
        elif not self.spec.calibration.is_fitted:
            answer, status = None, Status.NOT_CALIBRATED
        elif min(prepared.size) < self.spec.preprocessing.least_side:
            answer, status = None, Status.TOO_SMALL
        elif prepared.crop.is_cut_off:
            answer, status = None, Status.CUT_OFF
        elif self.spec.calibration.in_distribution_score(logits)[0] < self.false_rejection:
            answer, status = None, Status.UNKNOWN_CAR
        is_car = prepared.crop.is_car
        return Prediction(
            photo=prepared.name,
            topk=most_likely(self.spec.classes, probabilities[0], top_k) if is_car else (),
            answer=answer,
            levels=() if status.rejects else tuple(found[name] for name in SINGLE if found[name].name),
            status=status,
            box=prepared.crop.box,
            car=prepared.crop.number,
            car_count=prepared.crop.count,
        )

    def _explanation(
        self,
        crop: PreparedCrop,
        prediction: Prediction,
        logits: NDArray[np.float32],
        features: NDArray[np.float32],
        target: int | None = None,
    ) -> Explanation:
        """From a crop's logits, 1×K, and feature map, 1×C×h×w; for the most likely class unless `target` is given."""
        chosen = logits.argmax(axis=1) if target is None else np.array([target])
        with engine_errors():
            heatmap = grad_cam_plus_plus(features, self.engine.head, chosen)[0]
        return Explanation(prediction, self.class_names[chosen[0]], heatmap, crop.visible_box)
