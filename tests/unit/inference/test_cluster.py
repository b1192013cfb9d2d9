"""Work on a real Ray cluster of this machine: what dies is done again, and nothing is lost or repeated."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from colour_model import BLUE, GREEN, RED, YELLOW, paint, write_model

from twincar.core.errors import ClusterError
from twincar.inference import result_store as result_folder
from twincar.inference.batch import predict_many, read_rows
from twincar.inference.cluster import LOCAL, map_on_cluster

COLOURS = (RED, GREEN, BLUE, YELLOW)


@pytest.fixture
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of two nodes of one core each; this process is on the first."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # of its workers
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


@pytest.mark.slow
def test_a_node_that_dies_loses_and_repeats_nothing(
    two_nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_folder, "PART", 5)
    model = write_model(tmp_path / "colours.onnx")
    photos = tmp_path / "photos"
    photos.mkdir()
    originals = [paint(tmp_path / f"{number}.png", colour) for number, colour in enumerate(COLOURS)]
    for number in range(400):
        os.link(originals[number % 4], photos / f"{number:04d}.png")
    (photos / "0123.png").unlink()
    (photos / "0123.png").write_bytes(b"no photo")
    doomed = two_nodes.list_all_nodes()[1]
    done_at: list[int] = []

    def kill_once(done: int, _: int) -> None:
        done_at.append(done)
        if len(done_at) == 8:
            two_nodes.remove_node(doomed, allow_graceful=False)

    done = predict_many(
        [str(photos)], str(tmp_path / "there"), model=model, cluster=two_nodes.address, on_photo=kill_once
    )
    assert (done.photos, done.failed) == (400, 1)
    assert done_at == list(range(5, 401, 5))
    predict_many([str(photos)], str(tmp_path / "here"), model=model)
    rows = list(read_rows(str(tmp_path / "there")))
    assert [row["photo"] for row in rows] == sorted(str(photo) for photo in photos.iterdir())
    assert rows == list(read_rows(str(tmp_path / "here")))


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    def work(item: int) -> dict[str, Any]:
        marker = tmp_path / f"begun-{item}"
        if item == 3 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"item": item, "threads": os.environ["OMP_NUM_THREADS"]}

    rows = list(map_on_cluster(work, range(6), LOCAL))
    assert (tmp_path / "begun-3").exists()
    assert sorted(row["item"] for row in rows) == list(range(6))
    assert {row["threads"] for row in rows} == {"1"}  # one core each, which the engines keep to


def fail(item: int) -> dict[str, Any]:
    raise RuntimeError(f"no room for {item}")


def test_a_cluster_that_is_not_there_is_told() -> None:
    with pytest.raises(ClusterError, match=r"Expected a Ray cluster at '127\.0\.0\.1:1', but found none"):
        list(map_on_cluster(fail, range(2), "127.0.0.1:1"))


@pytest.mark.slow  # a second Ray in one process has ended the whole process once, which no gate can live with
def test_work_that_fails_is_told() -> None:
    with pytest.raises(ClusterError, match=r"^no room for [01]$"):
        list(map_on_cluster(fail, range(2), LOCAL))
