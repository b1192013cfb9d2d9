"""Torch, on the GPU if there is one.

Shapes: N photos of H×W pixels, K classes, C channels of an h×w feature map.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from twincar.core.labels import ClassNames, stanford_cars
from twincar.core.options import EngineName
from twincar.core.runs import RunFolder
from twincar.models.cam.gradcam import HeadWeights
from twincar.models.checkpoint import load_model, load_published_model
from twincar.models.engines.base import Engine
from twincar.models.locate import PUBLISHED_BACKBONE
from twincar.models.network import CarNet
from twincar.models.spec import ModelSpec


class TorchEngine(Engine):
    """A `CarNet` in evaluation mode."""

    name: ClassVar[EngineName] = "torch"

    def __init__(self, network: CarNet, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = network.to(self.device).eval()

    @cached_property
    def head(self) -> HeadWeights:
        """The linear layers of the classification head."""
        layers = [layer for layer in self.network.head.modules() if isinstance(layer, nn.Linear)]
        return HeadWeights(tuple((_array(layer.weight.detach()), _array(layer.bias.detach())) for layer in layers))

    @torch.inference_mode()
    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits, N×K, of photos, N×H×W×3."""
        return _array(self.network(self._tensor(images)))

    @torch.inference_mode()
    def logits_and_features(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits, N×K, and the feature map before pooling, N×C×h×w, of photos, N×H×W×3."""
        features = self.network.features(self._tensor(images))
        return _array(self.network.classify(features)), _array(features)

    def _tensor(self, images: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(np.require(images, requirements=["C", "W"])).to(self.device).permute(0, 3, 1, 2).float()


def open_network(path: Path, *, classes: ClassNames | None = None, backbone: str = "") -> tuple[CarNet, ModelSpec]:
    """Load a network from a run folder, a `.safetensors` file of a run, or third-party weights (`.pth`).

    Raises:
        UsageError: there is no such model.
        CheckpointError: it is damaged, not safe to open, or does not fit.
    """
    if path.is_dir():
        run = RunFolder.open(path)
        if not run.best.exists():
            run.read_history()  # raises an error if no epoch is finished
        return load_model(run.best)
    if path.suffix in (".pth", ".pt"):
        return load_published_model(path, classes or ClassNames(stanford_cars()), backbone or PUBLISHED_BACKBONE)
    return load_model(path)


def _array(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.float().cpu().numpy()
    return array
