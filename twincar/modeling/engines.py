"""Opens a model and runs it on batches of photos.

Shapes: N photos with V views each of H×W pixels, K classes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from twincar.files import RunFolder
from twincar.labels import ClassNames, stanford_cars
from twincar.modeling.checkpoint import ModelSpec, load_model, load_published_model
from twincar.modeling.network import CarNet

PUBLISHED_BACKBONE = "efficientnetv2_rw_s"
"""Of the weights published as `efficientnetv2_best_model.pth`."""


class TorchEngine:
    """A network on a device, from uint8 photos to logits."""

    def __init__(self, network: CarNet, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = network.to(self.device).eval()

    def tensor(self, images: NDArray[np.uint8]) -> torch.Tensor:
        """Photos N×H×W×3 as the network takes them: N×3×H×W, on its device."""
        return torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2).float()

    @torch.inference_mode()
    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits, N×V×K, of photos, N×V×H×W×3."""
        photos, views = images.shape[:2]
        flat = images.reshape(photos * views, *images.shape[2:])
        logits: NDArray[np.float32] = self.network(self.tensor(flat)).float().cpu().numpy()
        return logits.reshape(photos, views, -1)


def open_model(path: Path, *, classes: ClassNames | None = None, backbone: str = "") -> tuple[CarNet, ModelSpec]:
    """Load a model from a run folder, a `.safetensors` file of ours, or published weights (`.pth`).

    Published weights carry no names: `classes` are those of Stanford Cars in the devkit's order unless given, and
    `backbone` is that of the published model.

    Raises:
        UsageError: nothing is there.
        CheckpointError: it is damaged, not safe to open, or does not fit.
    """
    if path.is_dir():
        run = RunFolder.open(path)
        if not run.best.exists():
            run.read_history()  # says so if no epoch was finished
        return load_model(run.best)
    if path.suffix in (".pth", ".pt"):
        return load_published_model(path, classes or ClassNames(stanford_cars()), backbone or PUBLISHED_BACKBONE)
    return load_model(path)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities, N×K, of logits, N×K."""
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float32] = exponents / exponents.sum(axis=1, keepdims=True)
    return probabilities
