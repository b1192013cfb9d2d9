"""The metrics of the server, in Prometheus' text format and by its conventions for names, units and labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest

from twincar.core.version import __version__
from twincar.deploy.server.batching import Item
from twincar.deploy.server.codes import PhotoCode, RefusalCode, photo_code
from twincar.inference.results import Explanation, Failure, Prediction, Status
from twincar.inference.teach_errors import TeachCode
from twincar.models.levels import CLASS, LevelName

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BATCHES = (1, 2, 4, 8, 16)
_REQUEST = ("method", "route", "status")
_MAIN, _OTHER = "main", "other"


class Counters:
    """The counters of one server, which start at 0."""

    def __init__(self, waiting: Callable[[], int], *, model: str, engine: str) -> None:
        """Create the counters; every label exists from the start, so that rates are right from the first event.

        Args:
            waiting: returns the number of photos that wait or are processed.
            model: name of the model.
            engine: name of the inference engine.
        """
        self.registry = every = CollectorRegistry()
        about = "What runs here."
        Info("twincar_build", about, registry=every).info({"version": __version__, "model": model, "engine": engine})
        self.requests = Counter("twincar_requests", "Requests with a response.", _REQUEST, registry=every)
        about = "From the headers of a request to the end of its response."
        self.seconds = Histogram("twincar_request_duration_seconds", about, ["route"], buckets=_SECONDS, registry=every)
        about = "Cars: named, in part at a level, or why not; of a photo the main one, and the others."
        self.answers = Counter("twincar_answers", about, ["car", "status", "level"], registry=every)
        self.failed = Counter("twincar_failed_photos", "Photos that could not be read.", ["code"], registry=every)
        self.taught = Counter("twincar_taught_photos", "Photos by which the model was taught cars.", registry=every)
        self.batches = Histogram("twincar_batch_photos", "Cars computed at a time.", buckets=_BATCHES, registry=every)
        about = "Requests that were refused."
        self.rejected = Counter("twincar_rejected_requests", about, ["code"], registry=every)
        about = "Photos that wait or are processed."
        Gauge("twincar_queue_photos", about, registry=every).set_function(waiting)
        ProcessCollector(registry=every)
        for car in (_MAIN, _OTHER):
            for status in Status:
                for level in _levels(status):
                    self.answers.labels(car, status.name.lower(), level)
        for photo in get_args(PhotoCode):
            self.failed.labels(photo)
        for code in (*get_args(RefusalCode), *get_args(TeachCode), *get_args(PhotoCode)):
            self.rejected.labels(code)

    def count(self, items: Sequence[Item]) -> None:
        """Count the results of a request."""
        for item in items:
            if isinstance(item, Failure):
                self.failed.labels(photo_code(item.error)).inc()
                continue
            for car in item.cars:
                self._count_car(car.prediction if isinstance(car, Explanation) else car)

    def _count_car(self, prediction: Prediction) -> None:
        car = _MAIN if prediction.car in (1, None) else _OTHER
        answer = prediction.answer
        self.answers.labels(car, prediction.status.name.lower(), answer.level if answer else "").inc()

    def to_text(self) -> bytes:
        """The current values in Prometheus' text format."""
        return generate_latest(self.registry)


def _levels(status: Status) -> tuple[str, ...]:
    """The levels of the answers with a status; empty text without an answer, and none for what is no car."""
    if status is Status.UNREADABLE:
        return ()
    if status is Status.NAMED_IN_PART:
        return tuple(level for level in get_args(LevelName) if level != CLASS)
    return (CLASS,) if status is Status.NAMED else ("",)
