"""Work on a real Ray cluster of this machine: what dies is done again, and nothing is lost or repeated.

Ray may end the process in which it is started a second time, so each cluster has a process of its own.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.robustness.forked import start
from twincar.core.errors import ClusterError
from twincar.inference.cluster import LOCAL, map_on_cluster


def work_of_which_a_worker_dies(folder: Path) -> None:
    def work(item: int) -> dict[str, Any]:
        marker = folder / f"begun-{item}"
        if item == 3 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"item": item, "threads": os.environ["OMP_NUM_THREADS"]}

    print("rows:", json.dumps(list(map_on_cluster(work, range(6), LOCAL))))  # noqa: T201


def printed(begin: str, told: str) -> str:
    """The end of the line that begins so."""
    (line,) = [line for line in told.splitlines() if line.startswith(begin)]
    return line.removeprefix(begin).strip()


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    code, told = start(work_of_which_a_worker_dies, tmp_path).finish()
    assert code == 0, told
    rows = json.loads(printed("rows:", told))
    assert (tmp_path / "begun-3").exists()
    assert sorted(row["item"] for row in rows) == list(range(6))
    assert {row["threads"] for row in rows} == {"1"}  # one core each, which the engines keep to


def test_a_cluster_that_is_not_there_is_told() -> None:
    with pytest.raises(ClusterError, match=r"Expected a Ray cluster at '127\.0\.0\.1:1', but found none"):
        list(map_on_cluster(lambda _: {}, range(2), "127.0.0.1:1"))
