"""CUDA graphs: the thousands of short kernels of a training step are recorded once and launched together.

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
"""Computes logits, N×K, of photos, N×3×H×W; its backward pass is recorded too."""

_DTYPES: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


class _Recordable(nn.Module):
    """A wrapper that is recorded, so that the network itself stays unchanged for other batches and sizes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits


def record_steps(
    network: nn.Module, sizes: Iterable[tuple[int, int]], *, batch_size: int, precision: Precision
) -> dict[torch.Size, Forward]:
    """Record forward and backward passes of a network on a GPU for these sizes (height, width); keyed by batch shape.

    The network's weights, statistics and random state are unchanged. Nothing else may use the GPU meanwhile, such as a
    loader that pins memory. If recording fails, the reason is logged, and training continues without it.
    """
    device = next(network.parameters()).device
    statistics = [buffer.clone() for buffer in network.buffers()]
    pool = torch.cuda.graph_pool_handle()  # shared by all graphs, because only one of them runs at a time
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
