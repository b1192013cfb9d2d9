"""Runs commands that may not call out, and counts what they tried.

Two watchers: a hook in every Python process (`started/network_watch.py`), and, where there may be one, a network
namespace whose only way out is a device that counts packets, so that libraries in C are watched too.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from conftest import STARTED

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "twincar-alone"
_ALL = """
import json, sys
from twincar.cli import main
_, commands, finds = sys.argv
for command in json.loads(commands):
    sys.argv = ["twincar", *command]
    try:
        main()
    except SystemExit as ended:
        assert (ended.code or 0) == (command == json.loads(finds)), (command, ended.code)
"""
_SWITCHES = ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK", "GRADIO_ANALYTICS_ENABLED")


@contextmanager
def lone_namespace() -> Iterator[list[str]]:
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

    def run_all(self, *commands: Sequence[object], finds: Sequence[object] = ()) -> None:
        """The same for many, one after the other in one process; the command `finds` ends with 1."""
        listed = [[*map(str, command)] for command in commands]
        process = self.start("-c", _ALL, json.dumps(listed), json.dumps([*map(str, finds)]))
        _, err = process.communicate()
        assert process.returncode == 0, err
        assert self.tried() == []

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
