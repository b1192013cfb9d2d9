"""Randomise the weights of a network from the classifier down, for the sanity check of its explanations.

A map that does not change when the weights are randomised depends on the photo only, not on the network (Adebayo et
al., 2018, https://arxiv.org/abs/1810.03292, section 3.1).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import torch

from twincar.models.checkpoint import build_network
from twincar.models.engines.torch_engine import TorchEngine, open_network
from twincar.models.network import CarNet, last_stage

_SEED = 0


def randomised_engines(path: Path) -> dict[str, TorchEngine]:
    """The network at `path` with random weights in its classifier, in classifier and last stage, and in all layers."""
    network, spec = open_network(path)
    with torch.random.fork_rng():
        torch.manual_seed(_SEED)
        fresh = build_network(spec)
    return {name: TorchEngine(randomised) for name, randomised in _cascade(network, fresh)}


def _cascade(network: CarNet, fresh: CarNet) -> Iterator[tuple[str, CarNet]]:
    last = tuple(f"backbone.{module}." for module in last_stage(network.backbone))
    stages = {"classifier": ("head.",), "classifier and last stage": ("head.", *last), "all weights": ("",)}
    for name, prefixes in stages.items():
        weights = {key: value for key, value in fresh.state_dict().items() if key.startswith(prefixes)}
        randomised = copy.deepcopy(network)
        randomised.load_state_dict(weights, strict=False)
        yield name, randomised
