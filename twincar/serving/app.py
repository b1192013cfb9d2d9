"""The addresses of the server.

POST /v1/predict   photos in, answers out
GET  /v1/model     what model this is
GET  /healthz      whether the process can go on (restart it if not)
GET  /readyz       whether it can take another photo now (send it elsewhere if not)
GET  /metrics      for Prometheus
GET  /docs         how to use it, to read and to try; /openapi.json is the same for programs
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from http import HTTPStatus
from typing import Any, get_args

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twincar import pages
from twincar.answers import Failure
from twincar.errors import Defect
from twincar.modeling.levels import LevelName
from twincar.predict import Classifier, Question
from twincar.serving.batching import Batching, Item
from twincar.serving.counters import Counters
from twincar.serving.intake import Upload, parse_body
from twincar.serving.limits import HeldBytes, Limits, Refusal, read_body
from twincar.serving.schema import Answers, ModelAnswer, PhotosAsForm, PhotosAsJson, Refused, State
from twincar.version import __version__

_REFUSED: dict[int | str, str] = {
    400: "The body is damaged.",
    408: "The request did not arrive in time.",
    413: "Too many bytes, photos or pixels.",
    415: "Neither a form nor JSON.",
    422: "Something unknown was asked, or no photo could be read.",
    503: "Too many photos are waiting; `Retry-After` says for how many seconds to wait.",
    504: "There was no answer in time.",
}


def create_app(classifier: Classifier, *, name: str, limits: Limits | None = None) -> FastAPI:
    """The server as an ASGI application; its `state.service` is the `Service` behind it.

    Args:
        classifier: the model.
        name: what clients see of where it comes from.
        limits: on requests; see `Limits` for what they are unless given.
    """
    service = Service(classifier, name, limits or Limits())
    app = FastAPI(
        title="TwinCar",
        version=__version__,
        summary="Tells look-alike cars apart: from a photo to make, model, body and year.",
        docs_url=None,  # FastAPI's own page fetches its scripts from elsewhere
        redoc_url=None,
        lifespan=service.running,
    )
    app.state.service = service
    app.add_middleware(_Counting, counters=service.counters)
    for kind in (Refusal, HTTPException, Exception):
        app.add_exception_handler(kind, _as_json)
    app.post(
        "/v1/predict",
        summary="Name the cars in photos",
        response_model=Answers,
        responses={status: {"description": about, "model": Refused} for status, about in _REFUSED.items()},
        openapi_extra={"requestBody": _request_body()},
    )(service.predict)
    app.get("/v1/model", summary="What model this is", response_model=ModelAnswer)(service.model)
    app.get("/healthz", summary="Whether the process can go on", response_model=State)(service.healthz)
    app.get("/readyz", summary="Whether there is room for a photo now", response_model=State)(service.readyz)
    app.get("/metrics", summary="Counters for Prometheus", response_class=PlainTextResponse)(service.metrics)
    app.get("/docs", include_in_schema=False)(service.docs)
    app.get("/", include_in_schema=False)(service.root)
    return app


class Service:
    """One model and what is counted about it; its public coroutines are the addresses."""

    def __init__(self, classifier: Classifier, name: str, limits: Limits) -> None:
        self.counters = Counters(lambda: self.batching.taken)
        self.batching = Batching(classifier, limits, self.counters.batches.observe)
        self._about = _describe(classifier, name, limits)
        self._limits = limits
        self._held = HeldBytes(limits.held_bytes)

    @asynccontextmanager
    async def running(self, _: FastAPI) -> AsyncIterator[None]:
        """Compute while the server is up."""
        await self.batching.start()
        yield
        await self.batching.stop()

    async def predict(self, request: Request) -> Response:
        """One photo or several, as files of a form or as base64 in JSON, with the same question about each.

        A photo that cannot be read gets an item with `error` in its place; the others are answered.
        """
        try:
            if request.query_params:
                message = "Expected what is asked in the form (-F top_k=3) or in the JSON, and found it in the address."
                raise Refusal(422, "not understood", message)
            self.batching.check_room()
            with self._held.account() as take:
                body = await read_body(request, self._limits, take)
                items = await self._in_time(request.headers.get("content-type", ""), body)
        except Refusal as refusal:
            self.counters.rejected.labels(refusal.reason).inc()
            raise
        unreadable = sum(isinstance(item, Failure) for item in items)
        self.counters.photos.labels("unreadable").inc(unreadable)
        self.counters.photos.labels("answered").inc(len(items) - unreadable)
        return _response(items)

    async def model(self) -> Response:
        """Its classes with make, model, body and year, its input, how far it can be trusted, where it comes from."""
        return JSONResponse(self._about)

    async def healthz(self) -> Response:
        """503 if it must be started anew."""
        return _state(self.batching.alive, "ok", "what computes has ended")

    async def readyz(self) -> Response:
        """503 while the queue is full."""
        return _state(self.batching.alive and self.batching.taken < self._limits.queue, "ready", "queue full")

    async def metrics(self) -> Response:
        """Requests by status, seconds, photos, batches, photos waiting, requests turned away."""
        return Response(self.counters.to_text(), media_type=CONTENT_TYPE_LATEST)

    async def docs(self, request: Request) -> Response:
        """How to use it."""
        page = pages.render(
            "serving.html.jinja",
            title=f"TwinCar: {self._about['name']}",
            address=str(request.base_url).rstrip("/"),
            api=request.app.openapi(),
            levels=get_args(LevelName),
        )
        return HTMLResponse(page)

    async def root(self) -> Response:
        """What a browser asks for first."""
        return RedirectResponse("/docs")

    async def _in_time(self, content_type: str, body: bytes) -> Sequence[Item]:
        try:
            async with asyncio.timeout(self._limits.answer_seconds):
                return await self._answers(content_type, body)
        except TimeoutError:
            seconds = f"{self._limits.answer_seconds:.0f} seconds"
            raise Refusal(504, "too slow", f"Expected an answer within {seconds}, and there was none.") from None

    async def _answers(self, content_type: str, body: bytes) -> Sequence[Item]:
        uploads, question = await self.batching.in_thread(parse_body, content_type, body, self._limits)
        with self.batching.places(len(uploads)):
            return await asyncio.gather(*(self._answer(upload, question) for upload in uploads))

    async def _answer(self, upload: Upload | Failure, question: Question) -> Item:
        if isinstance(upload, Failure):
            return upload
        return await self.batching.answer(upload.label, upload.data, question)


class _Counting:
    """Counts every request by route and status, and its seconds."""

    def __init__(self, app: ASGIApp, counters: Counters) -> None:
        self.app = app
        self.counters = counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.app(scope, receive, noting)
        finally:
            route = getattr(scope.get("route"), "path", "other")  # what a client makes up must not become a label
            self.counters.requests.labels(route, status).inc()
            self.counters.seconds.labels(route).observe(time.perf_counter() - start)


def _response(items: Sequence[Item]) -> JSONResponse:
    """The answers; an error if not one photo could be read."""
    failures = [item for item in items if isinstance(item, Failure)]
    body: dict[str, Any] = {"predictions": [item.to_dict() for item in items]}
    if len(failures) < len(items):
        return JSONResponse(body)
    too_large = all(failure.error.defect == Defect.TOO_LARGE for failure in failures)
    several = "Expected photos, and none of these could be read; see each."
    message = str(failures[0].error) if len(failures) == 1 else several
    return JSONResponse({"error": message, **body}, 413 if too_large else 422)


async def _as_json(_: Request, error: Exception) -> JSONResponse:
    if isinstance(error, Refusal):
        return JSONResponse({"error": str(error)}, error.status, error.headers)
    if isinstance(error, HTTPException):
        message = f"{HTTPStatus(error.status_code).phrase}. What there is: /docs"
        return JSONResponse({"error": message}, error.status_code, error.headers)
    return JSONResponse({"error": "Something went wrong inside the server; its log tells what."}, 500)


def _state(good: bool, yes: str, no: str) -> JSONResponse:
    return JSONResponse({"status": yes}) if good else JSONResponse({"status": no}, 503)


def _describe(classifier: Classifier, name: str, limits: Limits) -> dict[str, Any]:
    spec = classifier.spec
    return {
        "name": name,
        "version": __version__,
        "engine": classifier.engine.name,
        "arithmetic": spec.arithmetic,
        "backbone": spec.backbone,
        "head": spec.head,
        "input": asdict(spec.preprocessing),
        "calibration": {
            "temperature": spec.calibration.temperature,
            "photos": spec.calibration.photos,
            "confidence": classifier.confidence,
            "false_rejection": classifier.false_rejection,
        },
        "provenance": dict(spec.provenance),
        "limits": {
            "request_bytes": limits.request_bytes,
            "photo_bytes": limits.photo_bytes,
            "photo_pixels": limits.photo_pixels,
            "photos": limits.photos,
        },
        "classes": spec.classes.to_rows(),
    }


def _request_body() -> dict[str, Any]:
    """Of `predict`, which reads its body itself, to refuse what is too large before it is in memory."""
    example = {"photos": ["/9j/4AAQSkZJRgABAQ..."], "top_k": 3, "level": "make", "explain": True}
    kinds: dict[str, Any] = {"multipart/form-data": PhotosAsForm, "application/json": PhotosAsJson}
    content = {kind: {"schema": model.model_json_schema()} for kind, model in kinds.items()}
    content["application/json"]["example"] = example
    return {"required": True, "content": content}
