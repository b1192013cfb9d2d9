"""Teach the served model over HTTP: one car at a time, in a thread of its own, while others are being predicted for.

A request that is under way is answered by the model that it began with. A failure changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from twincar.core.errors import DataError, Defect, LabelError, MissingExtraError, PhotoError, StorageError, UsageError
from twincar.core.files import sha256_of_file, write_bytes
from twincar.core.photos import NamedPhoto
from twincar.core.wording import counted
from twincar.deploy.server.codes import photo_code
from twincar.deploy.server.limits import RETRY, Limits, Refusal
from twincar.deploy.server.requests import Upload
from twincar.deploy.server.schema import TeachOptions
from twincar.deploy.server.served import ServedModel
from twincar.inference.classifier import Classifier
from twincar.inference.results import Failure
from twincar.inference.teach_errors import TeachCode, TeachError
from twincar.models.calibration import Calibration
from twincar.models.spec import ModelSpec

if TYPE_CHECKING:
    from twincar.inference.teach import Taught

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_ADVICE: dict[TeachCode, str] = {
    "name_trained": "",
    "name_exists": "Add photos to it with add=true, or remove it first with DELETE.",
    "unknown_name": "",
    "photos_repeated": "",
    "photos_of_another_car": "Leave them out, or remove that car first with DELETE.",
    "no_car": "Leave them out.",
    "several_cars": "Teach each car by a name of its own.",
}
"""What a client can do, in its own words: it has no command line."""


class Teaching:
    """Makes models from the served one that know a car more, or less."""

    def __init__(self, served: ServedModel, limits: Limits, keep: Path | None) -> None:
        """Check that the model can be taught.

        Args:
            served: the model.
            limits: on the time that teaching takes, and on the pixels of a photo.
            keep: the file to which each changed model is written; None for none.

        Raises:
            MissingExtraError: onnx is not installed.
            UsageError: the model is not an exported file, or has no statistics of its classes.
        """
        _check_extra()
        from twincar.inference.teach import check_teachable

        check_teachable(served.classifier)
        self._limits = limits
        self._keep = keep
        self._kept = _hash(keep)
        self._busy = False
        self._thread = ThreadPoolExecutor(1, "teach")

    def stop(self) -> None:
        """Start nothing more; no request may be under way."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Take the one turn that there is; the served model changes within one only.

        Raises:
            Refusal: another request has it.
        """
        if self._busy:
            message = "Expected to teach one car at a time, but another one is being taught: try again in a second."
            raise Refusal(503, "teaching", message, RETRY)
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    async def teach(
        self, served: ServedModel, uploads: Sequence[Upload | Failure], options: TeachOptions
    ) -> tuple[ServedModel, Taught]:
        """The model that also knows this car, and what became of the photos.

        Raises:
            Refusal: the photos or the name cannot be used, it took too long, or the model could not be kept.
        """
        from twincar.inference.teach import teach

        with _refusals(self._limits):
            cars = {options.name: [self._photo(upload) for upload in uploads]}
            changed, taught = await self._change(
                served, lambda out: teach(served.classifier, cars, out=out, add=options.add)
            )
        (car,) = taught.cars
        logger.info("Taught %s by %s: %d classes.", car.name, counted(car.added, "photo"), taught.classes)
        return changed, taught

    async def forget(self, served: ServedModel, name: str) -> ServedModel:
        """The model without a car that it was taught.

        Raises:
            Refusal: there is no name, it was not taught this car, it took too long, or the model could not be kept.
        """
        from twincar.inference.teach import forget

        if not name.strip():
            message = "Expected the name of a car in the address, ?name=Seat%20Arona%20SUV%202018, but found none."
            raise Refusal(422, "invalid_option", message)
        with _refusals(self._limits):
            changed, spec = await self._change(served, lambda out: forget(served.classifier, name, out=out))
        before = served.classifier.spec.classes
        logger.info("Forgot %s: %d classes.", before[before.index(name)], len(spec.classes))  # as the model spells it
        return changed

    def _photo(self, upload: Upload | Failure) -> NamedPhoto:
        if isinstance(upload, Failure):
            raise upload.error
        return NamedPhoto(upload.label, upload.data, self._limits.photo_pixels)

    async def _change(self, served: ServedModel, write: Callable[[Path], Result]) -> tuple[ServedModel, Result]:
        """The changed model, kept if it is to be. What takes too long is finished in its thread, and thrown away."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._limits.response_seconds):
            changed, result = await loop.run_in_executor(self._thread, _changed, served, write)
        if self._keep is not None:
            await loop.run_in_executor(self._thread, self._store, self._keep, changed)
        return changed, result

    def _store(self, path: Path, changed: ServedModel) -> None:
        if _hash(path) != self._kept:
            raise Refusal(
                409,
                "model_changed",
                f"Expected {path.name} as this server wrote it, but another program has changed it since. Restart the "
                "server, which then serves that file.",
            )
        assert changed.classifier.path is not None
        write_bytes(path, changed.classifier.path.read_bytes())
        self._kept = changed.sha256


def teach_response(taught: Taught, served: ServedModel) -> dict[str, Any]:
    """The response to a request that has taught a car, as in `schema.TeachResponse`."""
    (car,) = taught.cars
    now = {"classes": taught.classes, "sha256": served.sha256}
    return {**asdict(car), "known_similarity": taught.known_similarity, "warning": car.warning or None, **now}


def resume_taught(classifier: Classifier, taught: Path | None) -> Classifier:
    """The classifier of the file in which a server has kept what it was taught; the given one if there is none yet.

    Raises:
        MissingExtraError: onnx is not installed.
        UsageError: the file is of another model.
        CheckpointError: it is damaged.
    """
    if taught is None or not taught.exists():
        return classifier
    _check_extra()
    from twincar.inference.teach import reopened

    kept = reopened(classifier, taught)
    if _untaught(kept.spec) != _untaught(classifier.spec):
        raise UsageError(
            f"Expected a model in {taught} that was taught from the one to serve, but it was made from another one. "
            f"Choose another --taught, or serve it itself: twincar serve {taught} --allow-teach --taught {taught}"
        )
    return kept


def _check_extra() -> None:
    try:
        import onnx  # noqa: F401  # the server needs it for this only
    except ModuleNotFoundError:
        raise MissingExtraError(
            "--allow-teach needs onnx, which is not installed: pip install 'twincar[serve,teach]'"
        ) from None


def _untaught(spec: ModelSpec) -> ModelSpec:
    """The specification of a model before it was taught, without the quantiles, which teaching moves."""
    calibration = Calibration(temperature=spec.calibration.temperature, photos=spec.calibration.photos)
    return replace(spec.before_teaching(), calibration=calibration)


def _hash(path: Path | None) -> str | None:
    return sha256_of_file(path) if path is not None and path.is_file() else None


def _changed(served: ServedModel, write: Callable[[Path], Result]) -> tuple[ServedModel, Result]:
    """The model that `write` makes of the file of the served one."""
    from twincar.inference.teach import in_memory

    if _hash(served.classifier.path) != served.sha256:
        raise Refusal(
            409,
            "model_changed",
            "Expected the file of the model as it was when the server was started, but it has changed since. Restart "
            "the server.",
        )
    classifier, result = in_memory(served.classifier, write)
    return ServedModel.of(classifier), result


@contextmanager
def _refusals(limits: Limits) -> Iterator[None]:
    """Refuse a request with the sentence of an error for which its sender can do something."""
    try:
        yield
    except TeachError as error:
        status = 409 if isinstance(error, UsageError) else 422
        raise Refusal(status, error.code, f"{error.found} {_ADVICE[error.code]}".strip()) from None
    except PhotoError as error:
        raise Refusal(413 if error.defect == Defect.TOO_LARGE else 422, photo_code(error), str(error)) from None
    except LabelError as error:
        raise Refusal(422, "invalid_option", str(error)) from None
    except DataError as error:
        raise Refusal(422, "not_taught", str(error)) from None
    except UsageError as error:
        raise Refusal(409, "not_taught", str(error)) from None
    except StorageError as error:
        logger.error("%s", error)
        message = "Expected to keep the changed model, but it could not be written; the server's log says why."
        raise Refusal(507, "not_kept", f"{message} The model is as it was.") from None
    except TimeoutError:
        message = f"Expected to be done within {limits.response_seconds:.0f} seconds, but it took longer."
        raise Refusal(504, "timeout", f"{message} The model is as it was. Send fewer or smaller photos.") from None
