"""Grad-CAM++ against the grad-cam package, which takes the gradient through the whole network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pytorch_grad_cam import GradCAMPlusPlus
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from twincar.modeling.gradcam import grad_cam_plus_plus, scale_maps, weigh_features
from twincar.modeling.network import CarNet

FAMILIES = [
    "efficientnetv2_rw_t",
    "gc_efficientnetv2_rw_t",
    "tf_efficientnetv2_b0",
    "tf_efficientnetv2_s",
    "efficientnetv2_s",
]
# The larger ones of each family differ in width and depth only; all of them run with `-m slow`.
LARGER = ["efficientnetv2_rw_s", "tf_efficientnetv2_b3", "efficientnetv2_m", "tf_efficientnetv2_m"]


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
    images = torch.rand(2, 3, 96, 128) * 255
    ours, logits = grad_cam_plus_plus(network, images, torch.tensor([3, 5]))
    # The package enlarges its maps to the photo and then scales them once more.
    resized = torch.nn.functional.interpolate(ours[:, None], (96, 128), mode="bilinear", align_corners=False)[:, 0]
    resized = scale_maps(resized)
    model = Hookable(network)
    with GradCAMPlusPlus(model, [model.layer]) as package:
        theirs = package(images, [ClassifierOutputTarget(3), ClassifierOutputTarget(5)])
    assert theirs.max() > 0.5  # a flat map would agree with anything
    np.testing.assert_allclose(resized.numpy(), theirs, atol=1e-4)
    torch.testing.assert_close(logits, network(images).detach(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("head", ["mlp", "linear"])
@pytest.mark.parametrize("backbone", FAMILIES)
def test_equals_the_grad_cam_package(backbone: str, head: str) -> None:
    compare(backbone, head)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", LARGER)
def test_equals_the_grad_cam_package_on_larger_networks(backbone: str) -> None:
    compare(backbone, "mlp")


def test_explains_the_likeliest_class_unless_told() -> None:
    network = CarNet("tf_efficientnetv2_b0", 4).eval()
    images = torch.rand(2, 3, 64, 64) * 255
    maps, logits = grad_cam_plus_plus(network, images)
    same, _ = grad_cam_plus_plus(network, images, logits.argmax(1))
    torch.testing.assert_close(maps, same)


def test_leaves_nothing_on_the_network() -> None:
    network = CarNet("tf_efficientnetv2_b0", 4).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    grad_cam_plus_plus(network, torch.rand(1, 3, 64, 64) * 255)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
    assert not any(module._forward_hooks or module._backward_hooks for module in network.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_one_channel_by_hand() -> None:
    """A = [1, 2], g = [1, 1]: alpha = 1 / (2 + 3) each, w = 2/5, map = [0.4, 0.8]."""
    features, gradients = torch.tensor([[[[1.0, 2.0]]]]), torch.ones(1, 1, 1, 2)
    torch.testing.assert_close(weigh_features(features, gradients), torch.tensor([[[0.4, 0.8]]]), atol=1e-5, rtol=0)


def test_a_flat_map_is_zero() -> None:
    assert scale_maps(torch.ones(1, 3, 3)).abs().max() == 0
