"""Several processes that train one network together, one a device, by Lightning's DDP.

Who starts them is torchrun, SLURM, or, on one machine, the Trainer itself. What a process is among them comes from
their environment variables, as Lightning reads them.
"""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed
from lightning.pytorch.utilities import rank_zero_only
from torch import nn

from twincar.core.errors import UsageError
from twincar.data.loading.loader import Shard


def is_first_process() -> bool:
    """Whether this process is the one that writes and speaks for all."""
    return bool(rank_zero_only.rank == 0)  # type: ignore[attr-defined]


def shard_of_process(devices: int, nodes: int) -> Shard:
    """What this process takes of every batch, if `devices` of them train on each of so many `nodes`.

    Raises:
        UsageError: torchrun has started another number of processes.
    """
    started = os.environ.get("WORLD_SIZE") if "TORCHELASTIC_RUN_ID" in os.environ else None
    if started and int(started) != devices * nodes:
        raise UsageError(
            f"Expected --devices times --num-nodes to be the {started} processes that torchrun has started, but found "
            f"{devices} times {nodes}."
        )
    return Shard(int(rank_zero_only.rank), devices * nodes)  # type: ignore[attr-defined]


def devices_and_nodes(devices: int | None, nodes: int | None) -> tuple[int, int]:
    """What was not given is as torchrun has started the processes, else one."""
    return (
        devices or int(os.environ.get("LOCAL_WORLD_SIZE", 1)),
        nodes or int(os.environ.get("GROUP_WORLD_SIZE", 1)),
    )


def is_lost_connection(error: RuntimeError) -> bool:
    """Whether talking to another process failed, which is how its end is noticed."""
    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error).lower()


def gather_from_all(value: Any) -> list[Any]:
    """The value of every process, by rank."""
    if not torch.distributed.is_initialized():
        return [value]
    values: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values


def broadcast_buffers(network: nn.Module) -> None:
    """Give every process the first one's statistics of the batch norms, so that all of them validate one network."""
    if torch.distributed.is_initialized():
        for buffer in network.buffers():
            torch.distributed.broadcast(buffer, src=0)
