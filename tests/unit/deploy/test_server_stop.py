"""How the server starts to listen, and how it stops."""

from __future__ import annotations

import http.client
import logging
import signal
import socket
from pathlib import Path

import pytest
from test_server import classifier, colour_classifier, exported, form, jpeg, process  # noqa: F401

from twincar.core.errors import UsageError
from twincar.deploy.server.server import serve

CUT_OFF = (http.client.RemoteDisconnected, ConnectionResetError)


def begun(address: tuple[str, int]) -> http.client.HTTPConnection:
    """A request whose headers have been read, and whose body is missing."""
    connection = http.client.HTTPConnection(*address, timeout=20)
    connection.putrequest("POST", "/v1/predict")
    for name, value in {**form(b"")[1], "Content-Length": str(len(form(jpeg())[0])), "Expect": "100-continue"}.items():
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.sock.recv(1000).startswith(b"HTTP/1.1 100")
    return connection


def test_ctrl_c_says_what_it_waits_for_and_finishes_it(exported: Path) -> None:  # noqa: F811
    with process(exported) as (started, address):
        connection = begun(address)
        started.send_signal(signal.SIGINT)
        assert started.stderr
        said = started.stderr.readline()
        assert said == (
            "Stopping; 1 request in progress will be finished first. Ctrl-C again ends the server at once.\n"
        )
        connection.send(form(jpeg())[0])
        assert connection.getresponse().status == 200
        line, last = started.communicate(timeout=30)[1].splitlines()
    assert "POST /v1/predict 200" in line
    assert last == "Stopped; every request in progress was finished."
    assert started.returncode == 130


def test_a_second_ctrl_c_ends_what_is_in_progress_in_one_line(exported: Path) -> None:  # noqa: F811
    with process(exported, "--no-access-log") as (started, address):
        connections = [begun(address), begun(address)]
        started.send_signal(signal.SIGINT)
        assert started.stderr
        assert "2 requests in progress" in started.stderr.readline()
        started.send_signal(signal.SIGINT)
        errors = started.communicate(timeout=30)[1]
        for connection in connections:
            with pytest.raises(CUT_OFF):
                connection.getresponse()
    assert errors == "Stopped; 2 requests in progress cut off.\n"
    assert started.returncode == 130


def test_ctrl_c_without_requests_is_one_line(exported: Path) -> None:  # noqa: F811
    with process(exported) as (started, _):
        started.send_signal(signal.SIGINT)
        errors = started.communicate(timeout=30)[1]
    assert (started.returncode, errors) == (130, "Stopped; every request in progress was finished.\n")


@pytest.mark.parametrize("host", ["no-such-name.invalid", "192.0.2.1"])
def test_an_address_that_is_not_ours_names_the_option_that_is_wrong(host: str) -> None:
    with pytest.raises(UsageError, match="another --host: an address of this computer") as raised:
        serve(colour_classifier(), name="cars", host=host, port=0)
    assert "--port" not in str(raised.value)


def test_a_port_that_is_taken_names_the_option_that_is_wrong() -> None:
    wrong = pytest.raises(UsageError, match=r"in use.* Choose another --port")
    with socket.create_server(("127.0.0.1", 0)) as taken, wrong as raised:
        serve(colour_classifier(), name="cars", port=taken.getsockname()[1])
    assert "--host" not in str(raised.value)


@pytest.mark.parametrize(("host", "shown"), [("0.0.0.0", "localhost"), ("127.0.0.1", "127.0.0.1")])
def test_the_address_it_prints_can_be_opened(
    host: str, shown: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ended(_: object) -> None: ...

    monkeypatch.setattr("twincar.deploy.server.server.DrainingServer.main_loop", ended)
    caplog.set_level(logging.INFO, "twincar.deploy.server.server")
    serve(colour_classifier(), name="cars", host=host, port=0)
    (line,) = [record.getMessage() for record in caplog.records if "Serving" in record.getMessage()]
    assert f" at http://{shown}:" in line
    assert ("every other address" in line) == (host == "0.0.0.0")
