"""No verb calls out, unless that is what it was asked to do: not for a version, not for statistics, not for fonts.

Two watchers: a hook in every Python process (`started/network_watch.py`), and, where there may be one, a network
namespace whose only way out is a device that counts packets, so that libraries in C are watched too.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import STARTED, draw_car
from hub_server import HubServer
from network_watch import watched_command_line
from small_backbone import BACKBONE

from tests.robustness.forked import start

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "twincar-alone"
_SWITCHES = ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK", "GRADIO_ANALYTICS_ENABLED")


@pytest.fixture(scope="module")
def alone() -> Iterator[list[str]]:
    """Before a command it makes it run where packets to elsewhere are counted; nothing, where that is not allowed."""
    ip = f"ip -n {NAMESPACE}"
    commands = [f"ip netns add {NAMESPACE}", f"{ip} link set lo up", f"{ip} link add out type veth peer name beyond"]
    commands += [f"{ip} link set {end} addrgenmode none up" for end in ("out", "beyond")]
    commands += [f"{ip} addr add 198.51.100.2/24 dev out", f"{ip} route add default via 198.51.100.1"]
    commands += [f"{ip} neigh add 198.51.100.1 lladdr 02:00:00:00:00:01 dev out nud permanent"]  # so nobody asks for it
    try:
        done = shutil.which("ip") and all(
            subprocess.run(command.split(), capture_output=True, check=False).returncode == 0 for command in commands
        )
        yield ["ip", "netns", "exec", NAMESPACE] if done else []
    finally:
        if shutil.which("ip"):
            subprocess.run(["ip", "netns", "del", NAMESPACE], capture_output=True, check=False)


@dataclass
class Watched:
    """Starts commands that are watched, and tells what they tried."""

    before: list[str]
    folder: Path
    earlier: int = field(init=False)
    """Packets that had gone out before."""

    def __post_init__(self) -> None:
        self.earlier = self.packets()

    def start(self, *command: object, **environment: str) -> subprocess.Popen[str]:
        kept = {name: value for name, value in os.environ.items() if name not in _SWITCHES}
        path = os.pathsep.join([str(STARTED), str(ROOT)])
        kept |= {"PYTHONPATH": path, "NETWORK_LOG": str(self.log), "OMP_NUM_THREADS": "1", **environment}
        return subprocess.Popen(
            [*self.before, sys.executable, *map(str, command)],
            cwd=self.folder,
            env=kept,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: object, **environment: str) -> str:
        """`twincar ARGUMENTS`, which must not call out; gives what it wrote to standard output."""
        process = self.start("-m", "twincar", *arguments, **environment)
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert self.tried() == [], arguments
        return out

    def run_forked(self, *arguments: object, code: int = 0) -> None:
        """The same without a look at what is imported."""
        environment = {**os.environ, "NETWORK_LOG": str(self.log), "OMP_NUM_THREADS": "1"}
        namespace = NAMESPACE if self.before else ""
        process = start(watched_command_line, namespace, arguments, folder=self.folder, environment=environment)
        ended, told = process.finish()
        assert ended == code, told
        assert self.tried() == [], arguments

    @property
    def log(self) -> Path:
        return self.folder / "tried.log"

    def tried(self) -> list[str]:
        """What went out, or was to."""
        tried = self.log.read_text().splitlines() if self.log.exists() else []
        packets = self.packets() - self.earlier
        return [*tried, f"{packets} packets"] if packets else tried

    def packets(self) -> int:
        """That have gone out so far; 0 where they are not counted."""
        if not self.before:
            return 0
        counter = [*self.before, "cat", "/sys/class/net/out/statistics/tx_packets"]
        return int(subprocess.run(counter, capture_output=True, text=True, check=True).stdout)


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
    source = small_data.parent / "source"
    photo = watched.folder / "car.jpg"
    draw_car(0, 0).save(photo)
    watched.run_forked("prepare", source, "--out", "data")
    watched.run_forked("audit", "data", "--deep", "--out", "audit", code=1)
    small = ("--recipe", "toycars", "--backbone", BACKBONE, "--epochs", "1", "--limit", "2", "--workers", "2")
    watched.run("train", "data", "--runs", ".", "--name", "run", "--tensorboard", *small)
    for verb in ("evaluate", "explain", "compare", "report"):
        watched.run_forked(verb, "run")
    watched.run_forked("export", "run", "--out", "model.onnx")
    watched.run("export", "run", "--format", "openvino", "--precision", "int8", "--force", "--out", "model")
    for model in (("--model", "run"), ("--model", "model.onnx"), ("--model", "model"), ()):
        watched.run_forked("predict", photo, *model)
    watched.run_forked("predict", photo, "--out", "answers")
    watched.run_forked("push", "run", "me/cars", "--out", "published")
    watched.run_forked("demo", "model.onnx", "--space", "space")
    watched.run("info")


@pytest.mark.slow
def test_work_on_this_machines_cores_calls_nobody(watched: Watched) -> None:
    draw_car(0, 0).save(watched.folder / "car.jpg")
    watched.run("predict", "car.jpg", "--cluster", "--out", "answers")


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
