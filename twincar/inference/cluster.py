"""Distribute work over a Ray cluster by Ray Data: each of many items goes to whichever worker is free.

An item whose worker or machine dies is given to another worker, so the work on an item must be idempotent.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from twincar.core.errors import ClusterError, reason
from twincar.core.quiet import quiet_loggers

_TIMEOUT = 10  # seconds for a connection to a cluster

LOCAL = "local"
"""Address of a cluster that is started on this machine for this work only."""

Work = Callable[[int], dict[str, Any]]
"""The work on one item; returns a few plain values. It is sent by pickle, with everything that it holds."""


def map_on_cluster(work: Work, items: Sequence[int], address: str) -> Iterator[dict[str, Any]]:
    """The results of `work` for each item, in the order in which they are finished; each item takes one core.

    Args:
        work: called with one item.
        items: small numbers, all of which are kept in memory.
        address: of a running cluster, `auto` for the one on this machine, or `LOCAL`.

    Raises:
        ClusterError: there is no such cluster, or the work on an item raised an error, whose message is kept.
        MissingExtraError: Ray is not installed.
    """

    def work_or_error(row: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"done": work(row["item"]), "error": ""}
        except Exception as error:  # Ray would print the error and wrap it three times
            return {"done": None, "error": str(error) or type(error).__name__}

    with _connected(address):
        import ray

        rows = ray.data.from_items([{"item": item} for item in items], override_num_blocks=len(items))
        try:
            for row in rows.map(work_or_error, num_cpus=1).iter_rows():
                if row["error"]:
                    raise ClusterError(row["error"])
                yield row["done"]
        except ray.exceptions.RayError as error:
            raise ClusterError(f"The work on the cluster ended early: {reason(error, last=True)}.") from None


@contextmanager
def _connected(address: str) -> Iterator[None]:
    """A connection without log output and usage reports."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    options: dict[str, Any] = {"address": address}
    if address == LOCAL:
        options["include_dashboard"] = False
    try:
        _check_reachable(address)
        with _without_dashboard():
            ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        raise ClusterError(
            f"Expected a Ray cluster at {address!r}, but found none: {reason(error, last=True)}. "
            "Start one (ray start --head), or give --cluster alone for this machine's cores."
        ) from None
    try:
        import ray.data

        ray.data.DataContext.get_current().enable_progress_bars = False
        with quiet_loggers("ray.data", level=logging.CRITICAL):
            yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Fail at once if nothing listens at the address; Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=_TIMEOUT).close()


@contextmanager
def _without_dashboard() -> Iterator[None]:
    """Do not start Ray's dashboard, which asks the network which cloud it is in even when it is switched off."""
    from ray._private.node import Node

    start = Node.start_api_server

    def start_none(node: Node, **_: object) -> None:
        node._webui_url = ""

    Node.start_api_server = start_none  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Node.start_api_server = start  # type: ignore[method-assign]
