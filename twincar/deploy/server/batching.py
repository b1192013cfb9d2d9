"""Photos of all requests → answers: decoded by a few threads, computed in batches by one.

While a batch is computed, the photos that become ready meanwhile make the next one; so batches grow with the load, and
a photo that is alone is not kept waiting. Nothing here waits for photos that nobody has sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from twincar.core.errors import PhotoError
from twincar.core.machine import available_cores
from twincar.core.photos import decode_photo
from twincar.deploy.server.limits import RETRY, Limits, Refusal, count_photos
from twincar.inference.classifier import Classifier, PreparedPhoto, Question
from twincar.inference.results import Explanation, Failure, Prediction

Result = TypeVar("Result")
Item = Prediction | Explanation | Failure
"""What comes of a photo."""

_BATCH = 16  # photos; more of them are no quicker on a CPU, and all wait for the last
_WAIT = 0.005  # seconds a batch that could start waits for photos that are being decoded


@dataclass(frozen=True)
class _Waiting:
    """A photo that is ready to be computed."""

    photo: PreparedPhoto
    question: Question
    answer: asyncio.Future[Prediction | Explanation]


class Batching:
    """One model and the photos that wait for it; lives in one event loop."""

    def __init__(self, classifier: Classifier, limits: Limits, on_batch: Callable[[int], None]) -> None:
        """Take a model.

        Args:
            classifier: answers a batch at a time.
            limits: on photos that wait, and on their pixels.
            on_batch: called with the number of photos of every batch.
        """
        self.taken = 0
        """Places that are taken."""
        self._classifier = classifier
        self._limits = limits
        self._on_batch = on_batch
        self._decoding = 0
        self._ready: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._decoders = ThreadPoolExecutor(available_cores(), "decode")
        self._computer = ThreadPoolExecutor(1, "compute")
        self._loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to compute."""
        self._loop = asyncio.create_task(self._compute_batches())

    async def stop(self) -> None:
        """End; nothing may be under way."""
        if self._loop:
            self._loop.cancel()
            with suppress(asyncio.CancelledError):
                await self._loop
        self._decoders.shutdown(cancel_futures=True)
        self._computer.shutdown(cancel_futures=True)

    @property
    def alive(self) -> bool:
        """Whether answers can come."""
        return self._loop is not None and not self._loop.done()

    def check_room(self, photos: int = 1) -> None:
        """See whether so many more photos may wait.

        Raises:
            Refusal: they may not.
        """
        if self.taken + photos > self._limits.queue:
            taken = f"{self.taken} of {self._limits.queue} places are taken"
            message = f"Expected room for {count_photos(photos)}, but {taken}."
            raise Refusal(503, "queue full", f"{message} Try again in a second.", RETRY)

    @contextmanager
    def places(self, photos: int) -> Iterator[None]:
        """Keep places for photos.

        Raises:
            Refusal: there are not as many.
        """
        self.check_room(photos)
        self.taken += photos
        try:
            yield
        finally:
            self.taken -= photos

    async def in_thread(self, work: Callable[..., Result], *arguments: object) -> Result:
        """Do what takes longer than the event loop may stand still."""
        return await asyncio.get_running_loop().run_in_executor(self._decoders, work, *arguments)

    async def answer(self, label: str, data: bytes, question: Question) -> Item:
        """Decode one photo, and compute it together with others."""
        self._decoding += 1
        try:
            photo = await self.in_thread(self._prepare, label, data)
        except PhotoError as error:
            return Failure(label, error)
        finally:
            self._decoding -= 1
        waiting = _Waiting(photo, question, asyncio.get_running_loop().create_future())
        self._ready.put_nowait(waiting)
        return await waiting.answer

    def _prepare(self, label: str, data: bytes) -> PreparedPhoto:
        image = decode_photo(data, label, max_pixels=self._limits.photo_pixels)
        return self._classifier.prepare(image, label)

    async def _compute_batches(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = [waiting for waiting in await self._gather() if not waiting.answer.done()]
            if not batch:  # whoever asked has given up
                continue
            self._on_batch(len(batch))
            try:
                answers = await loop.run_in_executor(self._computer, self._compute, batch)
            except Exception as error:  # of the engine's own kinds; those who asked are told, the next batch is tried
                for waiting in batch:
                    if not waiting.answer.done():
                        waiting.answer.set_exception(error)
                continue
            for waiting, answer in zip(batch, answers, strict=True):
                if not waiting.answer.done():
                    waiting.answer.set_result(answer)

    async def _gather(self) -> Sequence[_Waiting]:
        """The next batch: all that are ready, and those that become so in a moment."""
        batch = [await self._ready.get()]
        with suppress(TimeoutError):
            async with asyncio.timeout(_WAIT):
                while len(batch) < _BATCH and (self._decoding or not self._ready.empty()):
                    batch.append(await self._ready.get())
        return batch

    def _compute(self, batch: Sequence[_Waiting]) -> list[Prediction | Explanation]:
        return self._classifier.predict_batch(
            [waiting.photo for waiting in batch], [waiting.question for waiting in batch]
        )
