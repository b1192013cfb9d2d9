"""A Ray cluster that loses a node or whose work fails, and whom a local one calls."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from colour_model import BLUE, GREEN, RED, YELLOW, paint, write_model
from conftest import draw_car

from tests.robustness.forked import start
from tests.robustness.watched import Watched, lone_namespace
from twincar.core.errors import ClusterError
from twincar.inference import result_store as result_folder
from twincar.inference.batch import predict_many, read_rows
from twincar.inference.cluster import LOCAL, map_on_cluster

COLOURS = (RED, GREEN, BLUE, YELLOW)


def work_that_fails() -> None:
    def fail(item: int) -> dict[str, Any]:
        raise RuntimeError(f"no room for {item}")

    try:
        list(map_on_cluster(fail, range(2), LOCAL))
    except ClusterError as error:
        print("error:", error)  # noqa: T201


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


def test_work_on_this_machines_cores_calls_nobody(tmp_path: Path) -> None:
    with lone_namespace() as before:
        watched = Watched(before, tmp_path)
        draw_car(0, 0).save(tmp_path / "car.jpg")
        watched.run("predict", "car.jpg", "--cluster", "--out", "answers")


def test_work_that_fails_is_told() -> None:
    code, told = start(work_that_fails).finish()
    assert code == 0, told
    assert re.search(r"^error: no room for [01]$", told, re.MULTILINE)
