"""The routes of the server. Each GET route also responds to HEAD.

POST /v1/predict   predictions for photos
GET  /v1/model     a description of the model
GET  /healthz      whether the process works (restart it if not)
GET  /readyz       whether it can take another photo now (use another server if not)
GET  /metrics      for Prometheus
GET  /docs         documentation to read and try; /openapi.json is the same for programs
"""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from http import HTTPStatus
from typing import Any, get_args

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse
from PIL import Image
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twincar.core import html as pages
from twincar.core.errors import Defect
from twincar.core.version import __version__
from twincar.deploy.server.access import RequireKey
from twincar.deploy.server.batching import Batching, Item
from twincar.deploy.server.counters import Counters
from twincar.deploy.server.limits import ByteBudget, Limits, Refusal, read_body
from twincar.deploy.server.request_log import REQUEST_ID, RequestLog
from twincar.deploy.server.requests import Upload, parse_body
from twincar.deploy.server.schema import ModelDescription, PhotosAsForm, PhotosAsJson, PredictResponse, Refused, State
from twincar.deploy.server.settings import HttpSettings
from twincar.inference.classifier import Classifier
from twincar.inference.photo_options import PhotoOptions
from twincar.inference.results import Failure, photo_dict
from twincar.models.levels import LevelName

_REFUSED = {
    400: "The body is damaged.",
    408: "The request did not arrive in time.",
    413: "Too many bytes, photos or pixels.",
    415: "Neither a form nor JSON.",
    422: "The request has an unknown option, or no photo could be read.",
    500: "Something went wrong inside the server.",
    503: "Too many photos are waiting; `Retry-After` says for how many seconds to wait.",
    504: "There was no response in time.",
}


def create_app(
    classifier: Classifier, *, name: str, limits: Limits | None = None, settings: HttpSettings | None = None
) -> FastAPI:
    """The server as an ASGI application; its `state.service` is the `Service` behind it.

    Args:
        classifier: the model.
        name: the name of the model for clients.
        limits: limits on requests; see `Limits` for the defaults.
        settings: access and CORS; see `HttpSettings`.
    """
    settings = settings or HttpSettings()
    service = Service(classifier, name, limits or Limits(), bool(settings.api_key))
    app = FastAPI(
        title="TwinCar",
        version=__version__,
        summary="Tells look-alike cars apart: from a photo to make, model, body and year.",
        docs_url=None,  # FastAPI's own page loads its scripts from the internet
        redoc_url=None,
        openapi_url=None,  # FastAPI's own route would not require the key
        servers=[{"url": settings.root_path}] if settings.root_path else None,
        lifespan=service.running,
    )
    app.state.service = service
    _add_middleware(app, service.counters, settings)
    app.add_exception_handler(Refusal, service.refused)
    app.add_exception_handler(HTTPException, _as_json)
    app.include_router(_routes(service, settings.api_key))
    unavailable = {
        "response_model": State,
        "responses": {503: {"description": "No; `status` says why.", "model": State}},
    }
    _get(app, "/healthz", service.healthz, summary="Whether the process works", **unavailable)
    _get(app, "/readyz", service.readyz, summary="Whether there is room for a photo now", **unavailable)
    return app


def _add_middleware(app: FastAPI, counters: Counters, settings: HttpSettings) -> None:
    """Add the middleware, from the innermost to the outermost."""
    app.add_middleware(_ServerErrors)
    if settings.allow_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allow_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "X-API-Key", REQUEST_ID],
            expose_headers=["Retry-After", REQUEST_ID],
        )
    app.add_middleware(RequestLog, counters=counters, access_log=settings.access_log)
    if settings.root_path:
        app.add_middleware(_Prefix, root_path=settings.root_path)


def _routes(service: Service, api_key: str) -> APIRouter:
    """The routes that require the key, if there is one."""
    router = APIRouter(dependencies=[Depends(RequireKey(api_key))] if api_key else None)
    without_key = {401: "The API key is missing or wrong."} if api_key else {}
    responses = _described(without_key)
    router.post(
        "/v1/predict",
        summary="Name the cars in photos",
        response_model=PredictResponse,
        responses=_described({**_REFUSED, **without_key}),
        openapi_extra={"requestBody": _request_body()},
    )(service.predict)
    about = {"summary": "A description of the model", "response_model": ModelDescription, "responses": responses}
    _get(router, "/v1/model", service.model, **about)
    about = {"summary": "Counters for Prometheus", "response_class": PlainTextResponse, "responses": responses}
    _get(router, "/metrics", service.metrics, **about)
    for path, handler in (("/docs", service.docs), ("/openapi.json", service.openapi), ("/", service.root)):
        _get(router, path, handler, include_in_schema=False)
    return router


def _get(router: APIRouter | FastAPI, path: str, handler: Callable[..., Any], **about: Any) -> None:
    """Route GET and HEAD, which HTTP requires and FastAPI does not add by itself."""
    router.get(path, **about)(handler)
    router.head(path, include_in_schema=False)(handler)


def _described(refused: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    return {status: {"description": about, "model": Refused} for status, about in sorted(refused.items())}


class Service:
    """One model and its counters; the public coroutines are the handlers of the routes."""

    def __init__(self, classifier: Classifier, name: str, limits: Limits, needs_key: bool = False) -> None:
        engine = classifier.engine.name
        self.counters = Counters(lambda: self.batching.in_flight, model=name, engine=engine)
        self.draining = False
        """Whether the server is shutting down."""
        self.batching = Batching(classifier, limits, self.counters.batches.observe)
        self._about = _describe(classifier, name, limits)
        self._limits = limits
        self._needs_key = needs_key
        self._held = ByteBudget(limits.held_bytes)

    @asynccontextmanager
    async def running(self, _: FastAPI) -> AsyncIterator[None]:
        """Run the batching while the server is up."""
        await self.batching.start()
        yield
        await self.batching.stop()

    def drain(self) -> None:
        """Report from now on that the server is not ready; requests are still processed."""
        self.draining = True

    async def predict(self, request: Request) -> Response:
        """One photo or several, as files of a form or as base64 in JSON, with the same options for all.

        Each item of the response is the prediction for the main car of a photo, and `cars` lists all of them.
        The item of a photo that cannot be read has an `error`; the others have their predictions.
        """
        if request.query_params:
            message = "Expected the options in the form (-F top_k=3) or in the JSON, but found them in the address."
            raise Refusal(422, "not understood", message)
        self.batching.check_room()
        with self._held.reserve() as reserve:
            body = await read_body(request, self._limits, reserve)
            items = await self._in_time(request.headers.get("content-type", ""), body)
        self.counters.count(items)
        return _response(items)

    async def refused(self, _: Request, refusal: Exception) -> Response:
        """The response to a refused request."""
        assert isinstance(refusal, Refusal)
        self.counters.rejected.labels(refusal.reason).inc()
        return JSONResponse({"error": str(refusal)}, refusal.status, refusal.headers)

    async def model(self) -> Response:
        """Its classes with make, model, body and year, its input, its calibration and its provenance."""
        return JSONResponse(self._about)

    async def healthz(self) -> Response:
        """503 if the process must be restarted."""
        return _state(self.batching.alive, "ok", "the batching task has ended")

    async def readyz(self) -> Response:
        """503 while the queue is full, and after SIGTERM."""
        if self.draining:
            return _state(False, "", "stopping")
        return _state(self.batching.alive and self.batching.in_flight < self._limits.queue, "ready", "queue full")

    async def metrics(self) -> Response:
        """Build, requests by status, seconds, answers by outcome, failed photos, batches, photos in flight."""
        return Response(self.counters.to_text(), media_type=CONTENT_TYPE_LATEST)

    async def docs(self, request: Request) -> Response:
        """The documentation as a page."""
        page = pages.render(
            "serving.html.jinja",
            title=f"TwinCar: {self._about['name']}",
            address=str(request.base_url).rstrip("/"),
            api=request.app.openapi(),
            needs_key=self._needs_key,
            levels=get_args(LevelName),
        )
        return HTMLResponse(page)

    async def openapi(self, request: Request) -> Response:
        """The OpenAPI description."""
        return JSONResponse(request.app.openapi())

    async def root(self, request: Request) -> Response:
        """Redirect to the documentation."""
        prefix = request.scope["root_path"]
        return RedirectResponse(f"{prefix}/docs" if prefix else "docs")  # relative: it keeps an unknown prefix

    async def _in_time(self, content_type: str, body: bytes) -> Sequence[Item]:
        try:
            async with asyncio.timeout(self._limits.response_seconds):
                return await self._predict_all(content_type, body)
        except TimeoutError:
            seconds = f"{self._limits.response_seconds:.0f} seconds"
            raise Refusal(504, "too slow", f"Expected a response within {seconds}, but there was none.") from None

    async def _predict_all(self, content_type: str, body: bytes) -> Sequence[Item]:
        uploads, options = await self.batching.in_thread(parse_body, content_type, body, self._limits)
        with self.batching.reserve(len(uploads)):
            return await asyncio.gather(*(self._predict_one(upload, options) for upload in uploads))

    async def _predict_one(self, upload: Upload | Failure, options: PhotoOptions) -> Item:
        if isinstance(upload, Failure):
            return upload
        return await self.batching.predict(upload.label, upload.data, options)


class _ServerErrors:
    """Responds to an error within the other middleware, which adds its headers, and raises it again for the log."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, noting)
        except Exception:
            if scope["type"] == "http" and not started:
                error = {"error": "Something went wrong inside the server; see its log."}
                await JSONResponse(error, 500)(scope, receive, send)
            raise


class _Prefix:
    """Sets the prefix under which a proxy publishes the server, whether the proxy strips it from paths or not."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self.app = app
        self.root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["root_path"] = self.root_path
        await self.app(scope, receive, send)


def _response(items: Sequence[Item]) -> JSONResponse:
    """The response with all items; an error status if no photo could be read."""
    failures = [item for item in items if isinstance(item, Failure)]
    body: dict[str, Any] = {
        "predictions": [item.to_dict() if isinstance(item, Failure) else photo_dict(item) for item in items]
    }
    if len(failures) < len(items):
        return JSONResponse(body)
    too_large = all(failure.error.defect == Defect.TOO_LARGE for failure in failures)
    several = "Expected photos, but none of these could be read; see each."
    message = str(failures[0].error) if len(failures) == 1 else several
    return JSONResponse({"error": message, **body}, 413 if too_large else 422)


async def _as_json(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    message = f"{HTTPStatus(error.status_code).phrase}. See {request.scope['root_path']}/docs"
    headers = dict(error.headers or {})
    if headers.get("Allow") == "GET":
        headers["Allow"] = "GET, HEAD"  # HEAD is a separate route
    return JSONResponse({"error": message}, error.status_code, headers)


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
        "framing": spec.framing,
        "finds_cars": classifier.finder is not None,
        "calibration": {
            "temperature": spec.calibration.temperature,
            "photos": spec.calibration.photos,
            "confidence": classifier.min_confidence,
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
    """The description of the body of `predict`, which reads it itself to refuse a large one before it is in memory."""
    picture = io.BytesIO()
    Image.new("L", (48, 32), 128).save(picture, "PNG")
    photo = base64.b64encode(picture.getvalue()).decode()
    example = {"photos": [photo], "top_k": 3, "level": "make", "explain": True}
    kinds: dict[str, Any] = {"multipart/form-data": PhotosAsForm, "application/json": PhotosAsJson}
    content = {kind: {"schema": model.model_json_schema()} for kind, model in kinds.items()}
    content["application/json"]["example"] = example
    return {"required": True, "content": content}
