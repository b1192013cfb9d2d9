"""The routes of the server. Each GET route also responds to HEAD.

POST   /v1/predict   predictions for photos
POST   /v1/teach     teaches the model a car, and DELETE removes one; only where this is allowed
GET    /v1/model     a description of the model
GET    /healthz      whether the process works (restart it if not)
GET    /readyz       whether to send it requests (not after SIGTERM; use another server then)
GET    /metrics      for Prometheus
GET    /docs         documentation to read and try; /openapi.json is the same for programs
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, get_args

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from twincar.core import html as pages
from twincar.core.options import Cars
from twincar.core.version import __version__
from twincar.deploy.server.access import RequireKey
from twincar.deploy.server.batching import Batching, Item
from twincar.deploy.server.counters import Counters
from twincar.deploy.server.descriptions import (
    FORGET_REFUSED,
    PREDICT_REFUSED,
    TEACH_REFUSED,
    described,
    predict_body,
    teach_body,
)
from twincar.deploy.server.limits import ByteBudget, Limits, Refusal, read_body
from twincar.deploy.server.middleware import Prefix, ServerErrors
from twincar.deploy.server.request_log import REQUEST_ID, RequestLog
from twincar.deploy.server.requests import Upload, is_photo, parse_body
from twincar.deploy.server.responses import http_error, predictions, state
from twincar.deploy.server.schema import (
    ForgetResponse,
    ModelDescription,
    PredictResponse,
    RequestOptions,
    State,
    TeachOptions,
    TeachResponse,
)
from twincar.deploy.server.served import ServedModel
from twincar.deploy.server.settings import HttpSettings
from twincar.deploy.server.teaching import Teaching, resume_taught, teach_response
from twincar.inference.classifier import Classifier
from twincar.inference.photo_options import PhotoOptions
from twincar.inference.results import Failure
from twincar.models.levels import LevelName


def create_app(
    classifier: Classifier, *, name: str, limits: Limits | None = None, settings: HttpSettings | None = None
) -> FastAPI:
    """The server as an ASGI application; its `state.service` is the `Service` behind it.

    Args:
        classifier: the model; if there is a file of what it was taught before, that is served.
        name: the name of the model for clients.
        limits: limits on requests; see `Limits` for the defaults.
        settings: access, CORS and teaching; see `HttpSettings`.

    Raises:
        UsageError: the model is to be taught, but is not an exported file with statistics of its classes, or the file
            of what it was taught is of another model.
        MissingExtraError: the same without onnx.
    """
    settings = settings or HttpSettings()
    service = Service(resume_taught(classifier, settings.taught), name, limits or Limits(), settings)
    app = FastAPI(
        title="TwinCar",
        version=__version__,
        summary="Tells look-alike cars apart: from a photo to make, model, body and year.",
        docs_url=None,  # FastAPI's own page loads its scripts from the internet
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
        openapi_url=None,  # FastAPI's own route would not require the key
        redirect_slashes=False,  # behind a proxy the address of such a redirect is not the one of the client
        servers=[{"url": settings.root_path}] if settings.root_path else None,
        lifespan=service.running,
    )
    app.state.service = service
    _add_middleware(app, service.counters, settings)
    app.add_exception_handler(Refusal, service.refused)
    app.add_exception_handler(HTTPException, http_error)
    app.include_router(_routes(service, settings.api_keys))
    unavailable = {
        "response_model": State,
        "responses": {503: {"description": "No; `status` says why.", "model": State}},
    }
    _get(app, "/healthz", service.healthz, summary="Whether the process works", **unavailable)
    _get(app, "/readyz", service.readyz, summary="Whether to send it requests", **unavailable)
    return app


def _add_middleware(app: FastAPI, counters: Counters, settings: HttpSettings) -> None:
    """Add the middleware, from the innermost to the outermost."""
    app.add_middleware(ServerErrors)
    if settings.allow_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allow_origins,
            allow_methods=["GET", "POST", "DELETE"] if settings.allow_teach else ["GET", "POST"],
            allow_headers=["Authorization", "X-API-Key", REQUEST_ID],
            expose_headers=["Retry-After", REQUEST_ID],
        )
    app.add_middleware(RequestLog, counters=counters, access_log=settings.access_log)
    if settings.root_path:
        app.add_middleware(Prefix, root_path=settings.root_path)


def _routes(service: Service, api_keys: Sequence[str]) -> APIRouter:
    """The routes that require the key, if there is one."""
    router = APIRouter(dependencies=[Depends(RequireKey(api_keys))] if api_keys else None)
    without_key = {401: "The API key is missing or wrong."} if api_keys else {}
    responses = described(without_key)
    router.post(
        "/v1/predict",
        summary="Name the cars in photos",
        response_model=PredictResponse,
        responses=described({**PREDICT_REFUSED, **without_key}),
        openapi_extra=predict_body(),
    )(service.predict)
    if service.teaching:
        router.post(
            "/v1/teach",
            summary="Teach the model a car",
            response_model=TeachResponse,
            responses=described({**TEACH_REFUSED, **without_key}),
            openapi_extra=teach_body(),
        )(service.teach)
        name = {"name": "name", "in": "query", "required": True, "schema": {"type": "string"}}
        router.delete(
            "/v1/teach",
            summary="Remove a car that the model was taught",
            response_model=ForgetResponse,
            responses=described({**FORGET_REFUSED, **without_key}),
            openapi_extra={"parameters": [name]},
        )(service.forget)
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


class Service:
    """One model and its counters; the public coroutines are the handlers of the routes."""

    def __init__(self, classifier: Classifier, name: str, limits: Limits, settings: HttpSettings) -> None:
        engine = classifier.engine.name
        self.served = ServedModel.of(classifier)
        self.teaching = Teaching(self.served, limits, settings.taught) if settings.allow_teach else None
        self.counters = Counters(lambda: self.batching.in_flight, model=name, engine=engine)
        self.draining = False
        """Whether the server is shutting down."""
        self.batching = Batching(limits, self.counters.batches.observe)
        self._name = name
        self._limits = limits
        self._needs_key = bool(settings.api_keys)
        self._held = ByteBudget(limits.held_bytes)

    @asynccontextmanager
    async def running(self, _: FastAPI) -> AsyncIterator[None]:
        """Run the batching while the server is up."""
        await self.batching.start()
        yield
        await self.batching.stop()
        if self.teaching:
            self.teaching.stop()

    def drain(self) -> None:
        """Report from now on that the server is not ready; requests are still processed."""
        self.draining = True

    async def predict(self, request: Request) -> Response:
        """One photo or several, as files of a form or as base64 in JSON, with the same options for all; or one photo as
        the body, with the options in the address.

        Each item of the response is the prediction for the main car of a photo, and `cars` lists all of them.
        The item of a photo that cannot be read has an `error` and its `code`; the others have their predictions, and
        the status is 200 if there is one. What is absent is null.
        """
        kind = _check_query(request, "top_k=3")
        self.batching.check_room()
        classifier = self.served.classifier
        with self._held.reserve() as reserve:
            body = await read_body(request, self._limits, reserve)
            items, cars = await self._in_time(classifier, kind, body, request.query_params)
        self.counters.count(items)
        return predictions(items, cars)

    async def teach(self, request: Request) -> Response:
        """Photos of one car that the model does not know, as files of a form or as base64 in JSON, and its name.

        Three to ten photos from several sides are best. It takes seconds, and nothing is trained. Requests that are
        under way are answered by the model as it was, and those that come after the response by the new one. If a photo
        has no car, if the photos show several, or if the name is there already, the model is not changed.
        """
        assert self.teaching
        kind = _check_query(request, "name='Seat Arona SUV 2018'")
        with self.teaching.turn(), self._held.reserve() as reserve:
            body, query = await read_body(request, self._limits, reserve), request.query_params
            uploads, options = await self.batching.in_thread(parse_body, kind, body, self._limits, TeachOptions, query)
            with self.batching.reserve(len(uploads)):
                self.served, taught = await self.teaching.teach(self.served, uploads, options)
        self.counters.taught.inc(taught.cars[0].added)
        return JSONResponse(teach_response(taught, self.served))

    async def forget(self, request: Request) -> Response:
        """The name of the car is in the address: `?name=Seat%20Arona%20SUV%202018`."""
        assert self.teaching
        with self.teaching.turn():
            self.served = await self.teaching.forget(self.served, request.query_params.get("name", ""))
        return JSONResponse({"classes": len(self.served.classifier.class_names), "sha256": self.served.sha256})

    async def refused(self, _: Request, refusal: Exception) -> Response:
        """The response to a refused request."""
        assert isinstance(refusal, Refusal)
        self.counters.rejected.labels(refusal.code).inc()
        return JSONResponse({"error": str(refusal), "code": refusal.code}, refusal.status, refusal.headers)

    async def model(self) -> Response:
        """Its classes with make, model, body and year, its input, its calibration and its provenance."""
        return JSONResponse(self.served.describe(self._name, self._limits))

    async def healthz(self) -> Response:
        """503 if the process must be restarted."""
        alive = self.batching.alive
        return state("ok" if alive else "the batching task has ended", alive)

    async def readyz(self) -> Response:
        """503 after SIGTERM. Not while the queue is full: all servers of a service would leave it at the same time."""
        if self.draining:
            return state("stopping", good=False)
        alive = self.batching.alive
        return state("ready" if alive else "the batching task has ended", alive)

    async def metrics(self) -> Response:
        """Build, requests by status, seconds, answers by status, failed photos, batches, photos in flight."""
        return Response(self.counters.to_text(), media_type=CONTENT_TYPE_LATEST)

    async def docs(self, request: Request) -> Response:
        """The documentation as a page."""
        page = pages.render(
            "serving.html.jinja",
            title=f"TwinCar: {self._name}",
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

    async def _in_time(
        self, classifier: Classifier, content_type: str, body: bytes, query: Mapping[str, str]
    ) -> tuple[Sequence[Item], Cars]:
        parsing = self.batching.in_thread(parse_body, content_type, body, self._limits, RequestOptions, query)
        try:
            async with asyncio.timeout(self._limits.response_seconds):
                uploads, found = await parsing
                with self.batching.reserve(len(uploads)):
                    items = await asyncio.gather(*(self._predict_one(classifier, upload, found) for upload in uploads))
        except TimeoutError:
            seconds = f"{self._limits.response_seconds:.0f} seconds"
            raise Refusal(504, "timeout", f"Expected a response within {seconds}, but there was none.") from None
        return items, found.cars

    async def _predict_one(self, classifier: Classifier, upload: Upload | Failure, asked: RequestOptions) -> Item:
        if isinstance(upload, Failure):
            return upload
        options = PhotoOptions(top_k=asked.top_k, level=asked.level, explain=asked.explain)
        return await self.batching.predict(classifier, upload.label, upload.data, options, asked.cars)


def _check_query(request: Request, example: str) -> str:
    """The type of a request's body; only if that is a photo may options be in the address.

    Raises:
        Refusal: there are, and it is not.
    """
    kind = request.headers.get("content-type", "")
    if request.query_params and not is_photo(kind):
        message = f"Expected the options in the form (-F {example}) or in the JSON, but found them in the address."
        raise Refusal(422, "invalid_option", message)
    return kind
