"""Dynamic batching: photos of all requests are decoded by several threads and predicted in batches by one.

The photos that become ready while a batch is computed make the next batch, so batches grow with the load, and a single
photo does not wait for others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

from twincar.core.errors import PhotoError
from twincar.core.machine import available_cores
from twincar.core.options import Cars
from twincar.core.photos import decode_photo
from twincar.core.wording import counted
from twincar.deploy.server.limits import RETRY, Limits, Refusal
from twincar.inference.classifier import Classifier
from twincar.inference.crops import PreparedCrop
from twincar.inference.photo_options import PhotoOptions
from twincar.inference.results import Explanation, Failure, Prediction

Result = TypeVar("Result")
Size = tuple[int, int]
Car = Prediction | Explanation
"""The result for one car, or for a whole photo."""


@dataclass(frozen=True)
class PhotoCars:
    """The result for one photo."""

    cars: Sequence[Car]
    """The most prominent first; one for the whole photo if there is none."""
    width: int
    """Of the upright photo, pixels."""
    height: int


Item = PhotoCars | Failure
"""The result for one photo, or why there is none."""

_BATCH = 16  # largest batch; larger ones are not faster on a CPU, and all photos wait for the last
_WAIT = 0.005  # seconds that a batch waits for photos that are being decoded


@dataclass(frozen=True)
class _Waiting:
    """A preprocessed crop that waits for its batch."""

    classifier: Classifier
    crop: PreparedCrop
    options: PhotoOptions
    result: asyncio.Future[Car]


class Batching:
    """The queue of photos, in one event loop."""

    def __init__(self, limits: Limits, on_batch: Callable[[int], None]) -> None:
        """Make an empty queue.

        Args:
            limits: on the photos in flight, and on their pixels.
            on_batch: called with the number of cars of every batch.
        """
        self.in_flight = 0
        """Number of photos that wait or are processed."""
        self._limits = limits
        self._on_batch = on_batch
        self._decoding = 0
        self._ready: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._decoders = ThreadPoolExecutor(available_cores(), "decode")
        self._computer = ThreadPoolExecutor(1, "compute")
        self._loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start computing batches."""
        self._loop = asyncio.create_task(self._compute_batches())

    async def stop(self) -> None:
        """Stop; no photo may be in flight."""
        if self._loop:
            self._loop.cancel()
            with suppress(asyncio.CancelledError):
                await self._loop
        self._decoders.shutdown(cancel_futures=True)
        self._computer.shutdown(cancel_futures=True)

    @property
    def alive(self) -> bool:
        """Whether batches are being computed."""
        return self._loop is not None and not self._loop.done()

    def check_room(self, photos: int = 1) -> None:
        """Check that the queue has room for more photos.

        Raises:
            Refusal: it has not.
        """
        if self.in_flight + photos > self._limits.queue:
            found = f"{self.in_flight} of {self._limits.queue} places are taken"
            message = f"Expected room for {counted(photos, 'photo')}, but {found}."
            raise Refusal(503, "queue_full", f"{message} Try again in a second.", RETRY)

    @contextmanager
    def reserve(self, photos: int) -> Iterator[None]:
        """Reserve room in the queue for photos.

        Raises:
            Refusal: there is not enough.
        """
        self.check_room(photos)
        self.in_flight += photos
        try:
            yield
        finally:
            self.in_flight -= photos

    async def in_thread(self, work: Callable[..., Result], *arguments: object) -> Result:
        """Run work that would block the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._decoders, work, *arguments)

    async def predict(
        self, classifier: Classifier, label: str, data: bytes, options: PhotoOptions, cars: Cars = "all"
    ) -> Item:
        """Decode one photo, find its cars, and predict for each (or the main one) in a batch with others."""
        self._decoding += 1
        try:
            crops, (width, height) = await self.in_thread(self._prepare, classifier, label, data)
        except PhotoError as error:
            return Failure(label, error)
        finally:
            self._decoding -= 1
        loop = asyncio.get_running_loop()
        chosen = crops[:1] if cars == "main" else crops
        waiting = [_Waiting(classifier, crop, options, loop.create_future()) for crop in chosen]
        for item in waiting:
            self._ready.put_nowait(item)
        return PhotoCars(await asyncio.gather(*(item.result for item in waiting)), width, height)

    def _prepare(self, classifier: Classifier, label: str, data: bytes) -> tuple[list[PreparedCrop], Size]:
        image = decode_photo(data, label, max_pixels=self._limits.photo_pixels)
        return classifier.prepare(image, label), image.size

    async def _compute_batches(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = [waiting for waiting in await self._gather() if not waiting.result.done()]
            if not batch:  # all these requests were cancelled
                continue
            self._on_batch(len(batch))
            try:
                predictions = await loop.run_in_executor(self._computer, _compute, batch)
            except Exception as error:  # any error of the engine fails these requests, but not the next batch
                for waiting in batch:
                    if not waiting.result.done():
                        waiting.result.set_exception(error)
                continue
            for waiting, prediction in zip(batch, predictions, strict=True):
                if not waiting.result.done():
                    waiting.result.set_result(prediction)

    async def _gather(self) -> Sequence[_Waiting]:
        """The next batch: all photos that are ready, and those that become ready within a moment."""
        batch = [await self._ready.get()]
        with suppress(TimeoutError):
            async with asyncio.timeout(_WAIT):
                while len(batch) < _BATCH and (self._decoding or not self._ready.empty()):
                    batch.append(await self._ready.get())
        return batch


def _compute(batch: Sequence[_Waiting]) -> list[Car]:
    """The predictions for a batch, each by the classifier that its request began with."""
    found: list[Car] = []
    for classifier, group in groupby(batch, key=lambda waiting: waiting.classifier):
        crops, options = zip(*((waiting.crop, waiting.options) for waiting in group), strict=True)
        found += classifier.predict_batch(crops, options)
    return found
