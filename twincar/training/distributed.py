"""Distributed training: several processes, one per device, train one network by Lightning's DDP.

They are started by torchrun, by SLURM, or, on one machine, by the Trainer itself. The rank of a process comes from the
environment variables that Lightning reads.
"""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from typing import Any

import torch.distributed
from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from lightning.pytorch.strategies.launchers import subprocess_script
from lightning.pytorch.utilities import rank_zero_only
from torch import nn

from twincar.core.errors import UsageError
from twincar.data.loading.shard import Shard

_GRACE = 30  # seconds in which a process can report that it has lost another


def is_first_process() -> bool:
    """Whether this process has rank 0, which writes files and log messages."""
    return bool(rank_zero_only.rank == 0)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Processes:
    """How many processes train: one per device."""

    devices: int = 1
    """Processes on each host."""
    nodes: int = 1
    """Number of hosts."""

    @classmethod
    def started(cls, devices: int | None, nodes: int | None) -> Processes:
        """The given numbers; in place of a missing one that of torchrun, or one."""
        return cls(
            devices or int(os.environ.get("LOCAL_WORLD_SIZE", 1)),
            nodes or int(os.environ.get("GROUP_WORLD_SIZE", 1)),
        )

    @property
    def count(self) -> int:
        """Number of all processes."""
        return self.devices * self.nodes

    def shard(self) -> Shard:
        """The shard of every batch that this process takes.

        Raises:
            UsageError: torchrun has started another number of processes.
        """
        started = os.environ.get("WORLD_SIZE") if "TORCHELASTIC_RUN_ID" in os.environ else None
        if started and int(started) != self.count:
            raise UsageError(
                f"Expected --devices times --num-nodes to be the {started} processes that torchrun has started, but "
                f"found {self.devices} times {self.nodes}."
            )
        return Shard(int(rank_zero_only.rank), self.count)  # type: ignore[attr-defined]


def is_lost_connection(error: RuntimeError) -> bool:
    """Whether the communication with another process failed, which usually means that it has ended."""
    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error).lower()


class _PatientObserver(_ChildProcessObserver):
    """Kills what is left of a training only some time after one of its processes has died."""

    def _terminate_all(self) -> None:
        time.sleep(_GRACE)
        super()._terminate_all()


def observe_patiently() -> None:
    """Give the Trainer's processes time to report that one of them has died.

    Every five seconds the Trainer checks whether one has, and kills the others at once, before or in the middle of
    their message. It need kill only those that hang in a collective; the others end by themselves.
    """

    def launch(processes: list[subprocess.Popen[bytes]]) -> None:
        _PatientObserver(main_pid=os.getpid(), child_processes=processes).start()

    subprocess_script._launch_process_observer = launch  # type: ignore[attr-defined, assignment]


def gather_from_all(value: Any) -> list[Any]:
    """The value of every process, by rank."""
    if not torch.distributed.is_initialized():
        return [value]
    values: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values


def broadcast_buffers(network: nn.Module) -> None:
    """Copy the batch-norm statistics of rank 0 to every process, so that all of them validate the same network."""
    if torch.distributed.is_initialized():
        for buffer in network.buffers():
            torch.distributed.broadcast(buffer, src=0)
