"""The metrics of the server, in Prometheus' text format and by its conventions for names, units and labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest

from twincar.core.errors import Defect
from twincar.core.version import __version__
from twincar.deploy.server.batching import Item
from twincar.deploy.server.limits import RefusalReason
from twincar.inference.results import Explanation, Failure, Prediction, Reason
from twincar.models.levels import LevelName

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BATCHES = (1, 2, 4, 8, 16)
_ACCEPTED, _NOT_SURE, _REJECTED = "accepted", "not_sure", "rejected"
_DEFECTS = (Defect.EMPTY, Defect.NOT_AN_IMAGE, Defect.TOO_LARGE, Defect.TRUNCATED)  # that an upload may have


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
        self.requests = Counter("twincar_requests", "Requests with a response.", ["route", "status"], registry=every)
        about = "From the headers of a request to the end of its response."
        self.seconds = Histogram("twincar_request_duration_seconds", about, ["route"], buckets=_SECONDS, registry=every)
        about = "Cars answered: accepted at a level, not_sure, or rejected as no car, too small, cut off or unknown."
        self.answers = Counter("twincar_answers", about, ["outcome", "level"], registry=every)
        self.failed = Counter("twincar_failed_photos", "Photos that could not be read.", ["reason"], registry=every)
        self.taught = Counter("twincar_taught_photos", "Photos by which the model was taught cars.", registry=every)
        self.batches = Histogram("twincar_batch_photos", "Cars computed at a time.", buckets=_BATCHES, registry=every)
        about = "Requests that were refused."
        self.rejected = Counter("twincar_rejected_requests", about, ["reason"], registry=every)
        about = "Photos that wait or are processed."
        Gauge("twincar_queue_photos", about, registry=every).set_function(waiting)
        ProcessCollector(registry=every)
        for level in get_args(LevelName):
            self.answers.labels(_ACCEPTED, level)
        for outcome in (_NOT_SURE, _REJECTED):
            self.answers.labels(outcome, "")
        for defect in _DEFECTS:
            self.failed.labels(defect.value)
        for reason in get_args(RefusalReason):
            self.rejected.labels(reason)

    def count(self, items: Sequence[Item]) -> None:
        """Count the results of a request."""
        for item in items:
            if isinstance(item, Failure):
                self.failed.labels(item.error.defect.value).inc()
                continue
            for car in item:
                self._count_car(car.prediction if isinstance(car, Explanation) else car)

    def _count_car(self, prediction: Prediction) -> None:
        if prediction.answer:
            self.answers.labels(_ACCEPTED, prediction.answer.level).inc()
        else:
            self.answers.labels(_NOT_SURE if prediction.reason == Reason.NOT_SURE else _REJECTED, "").inc()

    def to_text(self) -> bytes:
        """The current values in Prometheus' text format."""
        return generate_latest(self.registry)
