"""CUDA graphs: the thousands of short kernels of a training step, recorded once and launched as one.

An EfficientNet's kernels are so short that a CPU takes longer to launch them than a GPU to run them.

Shapes: N photos of H×W pixels, K classes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import cast

import torch
from torch import Tensor, nn

from twincar.core.options import Precision

log = logging.getLogger(__name__)

Forward = Callable[[Tensor], Tensor]
"""From photos, N×3×H×W, to logits, N×K; its backward is recorded with it."""

_DTYPES: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


class _Recordable(nn.Module):
    """What is recorded in the network's stead, which stays as it is for batches and sizes of other kinds."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits


def record_steps(
    network: nn.Module, sizes: Iterable[tuple[int, int]], *, batch_size: int, precision: Precision
) -> dict[torch.Size, Forward]:
    """Record forward and backward of a network on a GPU for batches of these sizes, height and width; by their shape.

    The network's weights, statistics and dice are as before. Nothing else may use the GPU meanwhile, such as a loader
    that pins memory. Where recording fails, nothing is recorded, and the log tells why: training goes on without.
    """
    device = next(network.parameters()).device
    statistics = [buffer.clone() for buffer in network.buffers()]
    pool = torch.cuda.graph_pool_handle()  # one for all: only one of them runs at a time
    recorded: dict[torch.Size, Forward] = {}
    autocast = torch.autocast("cuda", _DTYPES.get(precision), enabled=precision in _DTYPES, cache_enabled=False)
    try:
        with torch.random.fork_rng([device]), autocast:
            for height, width in sizes:
                photos = torch.zeros(batch_size, height, width, 3, device=device).permute(0, 3, 1, 2)
                steps = torch.cuda.make_graphed_callables(_Recordable(network).train(), (photos,), pool=pool)
                recorded[photos.shape] = cast(Forward, steps)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        log.warning("Steps are launched one by one: they cannot be recorded as CUDA graphs: %s", error)
        recorded = {}
    for buffer, before in zip(network.buffers(), statistics, strict=True):
        buffer.copy_(before)
    return recorded
