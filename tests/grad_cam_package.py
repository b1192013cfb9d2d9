"""Our maps against those of the grad-cam package."""

from __future__ import annotations

import numpy as np
import torch
from pytorch_grad_cam import GradCAMPlusPlus
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from twincar.models.cam.gradcam import grad_cam_plus_plus, scale_maps
from twincar.models.engines.torch_engine import TorchEngine
from twincar.models.network import CarNet


class Identity(torch.nn.Module):
    """Stands where the feature map passes, for the package's hooks."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.clone()


class Hookable(torch.nn.Module):
    def __init__(self, network: CarNet) -> None:
        super().__init__()
        self.network = network
        self.layer = Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network.classify(self.layer(self.network.features(x)))


def compare(backbone: str, head: str) -> None:
    torch.manual_seed(0)
    network = CarNet(backbone, 7, head=head).eval()  # type: ignore[arg-type]
    photos = np.random.default_rng(0).integers(0, 256, (2, 96, 128, 3), np.uint8)
    images = torch.from_numpy(photos).permute(0, 3, 1, 2).float()
    engine = TorchEngine(network)
    logits, features = engine.logits_and_features(photos)
    ours = torch.from_numpy(grad_cam_plus_plus(features, engine.head, np.array([3, 5])))
    # The package enlarges its maps to the photo and then scales them once more.
    resized = torch.nn.functional.interpolate(ours[:, None], (96, 128), mode="bilinear", align_corners=False)[:, 0]
    resized = scale_maps(resized.numpy())
    model = Hookable(network)
    with GradCAMPlusPlus(model, [model.layer]) as package:
        theirs = package(images, [ClassifierOutputTarget(3), ClassifierOutputTarget(5)])
    assert theirs.max() > 0.5  # a flat map would agree with anything
    np.testing.assert_allclose(resized, theirs, atol=1e-4)
    np.testing.assert_allclose(logits, network(images).detach().numpy(), atol=1e-4, rtol=1e-4)
