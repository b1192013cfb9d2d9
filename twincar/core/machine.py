"""The processor, the cores that this process may use, and settings of its memory allocator.

A training step allocates and frees the same gigabytes again and again. By default, glibc returns such large blocks to
the system, which must then clear every page again; that can cost a fifth of the time of a step. Three settings of
glibc (`man 3 mallopt`) keep the memory in the process, without a start-up variable or another allocator.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

SWITCH = "TWINCAR_ALLOCATOR"
"""Environment variable; the value 'system' leaves the C library's allocator as it is."""

# Constants of malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_NEVER_TRIM = 2**31 - 1
_TOP_PAD = 256 * 2**20  # bytes by which the heap grows at least

_SPEEDUPS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16", "i8mm")


@dataclass(frozen=True)
class Cpu:
    """The processor."""

    model: str
    cores: int
    """Number of cores that this process may use."""
    speedups: list[str]
    """Instruction sets that make networks faster, as far as the system reports them."""

    def __str__(self) -> str:
        return f"{self.cores} {'core' if self.cores == 1 else 'cores'} of {self.model}"


def describe_cpu() -> Cpu:
    """The processor of this machine, as far as the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    entries = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = (entries.get("flags") or entries.get("Features") or "").split()
    model = entries.get("model name") or platform.processor() or platform.machine()
    return Cpu(model, available_cores(), [flag for flag in _SPEEDUPS if flag in flags])


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def compute_threads() -> int:
    """Threads for onnxruntime: OMP_NUM_THREADS, which torch honours too, or one for each core."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(int(asked), available_cores()) if asked.isdecimal() and int(asked) else available_cores()


def tune_glibc_malloc() -> bool:
    """Set up the allocator of this process; returns whether that succeeded, which needs Linux with glibc."""
    if os.environ.get(SWITCH) == "system" or not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _NEVER_TRIM, _M_TOP_PAD: _TOP_PAD}
    return all([mallopt(name, value) == 1 for name, value in settings.items()])
