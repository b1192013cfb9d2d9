"""No verb calls out, unless that is what it was asked to do: not for a version, not for statistics, not for fonts."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import draw_car
from hub_server import HubServer
from small_backbone import BACKBONE

from tests.robustness.watched import Watched, lone_namespace

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def alone() -> Iterator[list[str]]:
    with lone_namespace() as before:
        yield before


@pytest.fixture
def watched(alone: list[str], tmp_path: Path) -> Watched:
    return Watched(alone, tmp_path)


TRIES = {
    "a look-up": "import socket; socket.getaddrinfo('example.org', 443)",
    "a connection": "import socket; socket.create_connection(('192.0.2.1', 443), 1)",
    "a packet": "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
    "a child": "import subprocess, sys; subprocess.run([sys.executable, '-c', "
    "'import urllib.request; urllib.request.urlopen(\"http://192.0.2.1/\")'], check=True)",
}


@pytest.mark.parametrize("what", TRIES)
def test_a_process_that_calls_out_is_noticed(what: str, tmp_path: Path) -> None:
    watched = Watched([], tmp_path)
    process = watched.start("-c", TRIES[what])
    assert "no network in this test" in process.communicate()[1]
    assert process.returncode == 1
    assert len(watched.tried()) == 1


def test_what_stays_here_is_let_through(tmp_path: Path) -> None:
    watched = Watched([], tmp_path)
    code = (
        "import socket; server = socket.create_server(('127.0.0.1', 0)); "
        "socket.create_connection(('localhost', server.getsockname()[1])); "
        "asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); asking.connect(('8.8.8.8', 80))"
    )
    process = watched.start("-c", code)
    assert (process.communicate()[1].count("no network"), watched.tried()) == (0, [])


def test_a_packet_that_leaves_is_counted(alone: list[str], tmp_path: Path) -> None:
    if not alone:
        pytest.skip("network namespaces need root and iproute2")
    watched = Watched(alone, tmp_path)
    assert watched.tried() == []
    code = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))"
    subprocess.run([*alone, sys.executable, "-c", code], check=True)
    assert watched.tried() == ["1 packets"]


def test_no_verb_calls_out(watched: Watched, small_data: Path) -> None:
    photo = watched.folder / "car.jpg"
    draw_car(0, 0).save(photo)
    small = ("--recipe", "toycars", "--backbone", BACKBONE, "--epochs", "1", "--limit", "2", "--workers", "2")
    audit = ("audit", "data", "--deep", "--out", "audit")
    watched.run_all(
        ("prepare", small_data.parent / "source", "--out", "data"),
        audit,
        ("train", "data", "--runs", ".", "--name", "run", "--tensorboard", *small),
        *((verb, "run") for verb in ("evaluate", "explain", "compare", "report")),
        ("export", "run", "--out", "model.onnx"),
        ("export", "run", "--format", "openvino", "--precision", "int8", "--force", "--out", "model"),
        *(("predict", photo, "--model", model) for model in ("run", "model.onnx", "model")),
        ("predict", photo),
        ("predict", photo, "--out", "answers"),
        ("push", "run", "me/cars", "--out", "published"),
        ("demo", "model.onnx", "--space", "space"),
        ("info",),
        finds=audit,
    )


@pytest.mark.parametrize(("verb", "path"), [(("serve", "--port", "0"), "/v1/model"), (("demo",), "/")])
def test_what_is_served_is_served_here_only(verb: tuple[str, ...], path: str, watched: Watched) -> None:
    process = watched.start("-m", "twincar", *verb)
    assert process.stdout
    assert process.stderr
    told = iter((process.stderr if verb[0] == "serve" else process.stdout).readline, "")
    port = next(found[1] for line in told if (found := re.search(r"http://127\.0\.0\.1:(\d+)", line)))
    asks = (
        "import http.client, sys; connection = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1])); "
        "connection.request('GET', sys.argv[2]); print(connection.getresponse().status)"
    )
    assert watched.start("-c", asks, port, path).communicate()[0] == "200\n"
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert watched.tried() == []


def test_the_hub_that_was_named_is_the_only_one_asked(tmp_path: Path) -> None:
    model = (ROOT / "twincar" / "models" / "bundled" / "cars196.onnx").read_bytes()
    watched = Watched([], tmp_path)
    with HubServer({"model.onnx": model}, kind="models") as hub:
        home = {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url}
        assert "196 classes" in watched.run("pull", "someone/cars", **home)
