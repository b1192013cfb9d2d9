"""Choose the fastest precision for training on this machine.

Whether a CPU gains from bf16 does not follow from its instruction sets: of two with AVX-512 bf16, one trained nearly
twice as fast with it, the other slower than in fp32. So it is measured on the network that is to be trained.
"""

from __future__ import annotations

import copy
import logging
import statistics
import time

import torch
import torch.nn.functional as F

from twincar.core.errors import UsageError
from twincar.core.options import Precision
from twincar.models.network import CarNet

log = logging.getLogger(__name__)

_WORTH_IT = 1.1  # least speed-up; smaller ones may be chance, and full precision is safer
_BATCH = 8
_STEPS = 3


def choose_precision(wanted: Precision, network: CarNet, height: int, width: int) -> Precision:
    """The precision to train in: the configured one, or for 'auto' the fastest.

    That is bf16 on GPUs that support it, fp16 on older ones, and on CPUs bf16 or fp32 by measurement, which is logged.

    Args:
        wanted: the configured precision.
        network: the network to train; it is not changed, and neither is the random state.
        height: height of its input, pixels.
        width: width of its input, pixels.

    Raises:
        UsageError: fp16 is configured on a CPU.
    """
    if torch.cuda.is_available():
        return wanted if wanted != "auto" else "bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp16"
    if wanted == "fp16":
        raise UsageError("Expected a GPU for --precision fp16, but found none; use bf16 or fp32.")
    if wanted != "auto":
        return wanted
    if not cpu_computes_bf16():
        return "fp32"
    gain = bf16_gain(network, height, width)
    chosen: Precision = "bf16" if gain >= _WORTH_IT else "fp32"
    log.info("A step in bf16 is %.2f times as fast as in fp32 on this CPU: training in %s.", gain, chosen)
    return chosen


def cpu_computes_bf16() -> bool:
    """Whether this CPU has instructions for bf16; without them it is emulated, and slow."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) and "AVX512" in torch.backends.cpu.get_cpu_capability()


def bf16_gain(network: CarNet, height: int, width: int) -> float:
    """Speed-up of a small training step in bf16 over fp32 on the CPU, both measured in turn."""
    with torch.random.fork_rng(devices=[]):
        tried = copy.deepcopy(network).train()  # a copy, because a step changes the batch-norm statistics
        images = torch.randint(0, 256, (_BATCH, 3, height, width)).float()
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(_STEPS):
            for bf16, times in seconds.items():
                start = time.perf_counter()
                with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                    loss = F.cross_entropy(tried(images), torch.zeros(_BATCH, dtype=torch.long))
                loss.backward()  # type: ignore[no-untyped-call]
                times.append(time.perf_counter() - start)
    # The first step of each includes one-time preparations.
    return statistics.median(seconds[False][1:]) / statistics.median(seconds[True][1:])
