"""A server on this computer only answers to no other name; wherever else it listens, to any."""

from __future__ import annotations

import doctest
import signal
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

import twincar.deploy.loopback
import twincar.deploy.server.server
from twincar.deploy.loopback import LoopbackHosts
from twincar.deploy.server.server import serve


def app(middleware: Sequence[Middleware] = ()) -> Starlette:
    return Starlette(routes=[Route("/", lambda _: PlainTextResponse("secret"))], middleware=middleware)


GUARDED = TestClient(app([Middleware(LoopbackHosts)]))


def test_doctests() -> None:
    result = doctest.testmod(twincar.deploy.loopback)
    assert (result.attempted > 0, result.failed) == (True, 0)


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "LOCALHOST", "[::1]:8000", "127.0.0.2"])
def test_names_of_this_computer_are_answered(host: str) -> None:
    assert GUARDED.get("/", headers={"Host": host}).text == "secret"


@pytest.mark.parametrize(
    "host", ["evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example", "0.0.0.0", "["]
)
def test_other_names_are_refused_with_what_to_do(host: str) -> None:
    refused = GUARDED.get("/", headers={"Host": host})
    assert refused.status_code == 421
    assert refused.json()["error"].startswith("Expected a request to 'localhost'")
    assert "--host" in refused.json()["error"]


@pytest.mark.parametrize(("host", "status"), [("127.0.0.1", 421), ("localhost", 421), ("0.0.0.0", 200)])
def test_the_server_is_guarded(host: str, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stub:
        handle_exit = signal.SIG_DFL

        def run(self, _: object) -> None:
            """Serve nothing."""

    served: list[Any] = []
    monkeypatch.setattr(twincar.deploy.server.server, "create_app", lambda *_, **__: app())
    monkeypatch.setattr(twincar.deploy.server.server, "server", lambda made, *_, **__: served.append(made) or Stub())
    serve(None, name="cars", host=host, port=0)  # type: ignore[arg-type]
    assert TestClient(served[0]).get("/", headers={"Host": "evil.example"}).status_code == status
