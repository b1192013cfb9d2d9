"""Counted in page faults of a process of its own: each is a page the system had to clear anew."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

CODE = """
import resource
from twincar.core.machine import tune_glibc_malloc
print(tune_glibc_malloc())
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(b"x") * (64 * 2**20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(switch: str) -> tuple[str, int]:
    """Whether the allocator was set up, and page faults of the second use of 64 MiB."""
    environment = {**os.environ, "TWINCAR_ALLOCATOR": switch}
    result = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
    done, count = result.stdout.split()
    return done, int(count)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_freed_memory_is_used_again_unless_switched_off() -> None:
    pages = 64 * 2**20 // 4096
    assert faults("") == ("True", pytest.approx(0, abs=pages // 100))
    set_up, count = faults("system")
    assert set_up == "False"
    assert count > pages // 2
