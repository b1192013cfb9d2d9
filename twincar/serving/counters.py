"""What `/metrics` tells, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BATCHES = (1, 2, 4, 8, 16)


class Counters:
    """Of one server; counting begins anew with every one."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        """Begin to count; `waiting` tells how many photos wait or are worked on."""
        self.registry = every = CollectorRegistry()
        self.requests = Counter("twincar_requests", "Requests answered.", ["route", "status"], registry=every)
        about = "From a request's headers to the end of its answer."
        self.seconds = Histogram("twincar_request_seconds", about, ["route"], buckets=_SECONDS, registry=every)
        self.photos = Counter("twincar_photos", "Photos that came: answered, unreadable.", ["outcome"], registry=every)
        self.batches = Histogram("twincar_batch_photos", "Photos computed at a time.", buckets=_BATCHES, registry=every)
        about = "Requests to predict that were turned away."
        self.rejected = Counter("twincar_rejected_requests", about, ["reason"], registry=every)
        about = "Photos that wait or are worked on."
        Gauge("twincar_queue_photos", about, registry=every).set_function(waiting)
        ProcessCollector(registry=every)

    def to_text(self) -> bytes:
        """All of them, as they are now."""
        return generate_latest(self.registry)
