"""Grad-CAM++ in closed form against the grad-cam package, which takes gradients through the whole network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from grad_cam_package import Hookable, compare
from pytorch_grad_cam import FinerCAM
from pytorch_grad_cam.utils.model_targets import FinerWeightedTarget

from twincar.models.cam.gradcam import (
    HeadWeights,
    contrastive_cam,
    resize_map,
    scale_maps,
    weigh_features,
)
from twincar.models.engines.torch_engine import TorchEngine
from twincar.models.network import CarNet

FAMILIES = [
    "efficientnetv2_rw_t",
    "gc_efficientnetv2_rw_t",
    "tf_efficientnetv2_b0",
    "tf_efficientnetv2_s",
    "efficientnetv2_s",
    "tf_efficientnet_lite0",
    "efficientnet_b0",
    "resnet10t",
    "convnext_atto",
    "regnetx_002",
    "mobilenetv3_small_050",
]


@pytest.mark.parametrize("head", ["mlp", "linear"])
@pytest.mark.parametrize("backbone", FAMILIES)
def test_equals_the_grad_cam_package(backbone: str, head: str) -> None:
    compare(backbone, head)


@pytest.mark.parametrize("head", ["mlp", "linear"])
def test_the_contrast_equals_the_grad_cam_package(head: str) -> None:
    torch.manual_seed(0)
    network = CarNet("tf_efficientnetv2_b0", 7, head=head).eval()  # type: ignore[arg-type]
    photos = np.random.default_rng(0).integers(0, 256, (2, 96, 128, 3), np.uint8)
    engine = TorchEngine(network)
    _, features = engine.logits_and_features(photos)
    signed = contrastive_cam(features, engine.head, np.array([3, 5]), np.array([0, 6]))
    ours = torch.from_numpy(scale_maps(np.maximum(signed, 0)))[:, None]
    resized = torch.nn.functional.interpolate(ours, (96, 128), mode="bilinear", align_corners=False)[:, 0]
    model = Hookable(network)
    with FinerCAM(model, [model.layer]) as package:
        targets = [FinerWeightedTarget(3, [0], 1), FinerWeightedTarget(5, [6], 1)]
        theirs = package(torch.from_numpy(photos).permute(0, 3, 1, 2).float(), targets)
    assert theirs.max() > 0.5
    np.testing.assert_allclose(scale_maps(resized.numpy()), theirs, atol=1e-4)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_the_gradient_of_the_head_is_autograds(kind: str) -> None:
    torch.manual_seed(0)
    network = CarNet("tf_efficientnetv2_b0", 7, head=kind)  # type: ignore[arg-type]
    pooled = torch.randn(3, network.backbone.num_features, requires_grad=True)
    targets = np.array([0, 6, 2])
    scores = network.eval().head(pooled)[range(3), targets]
    (expected,) = torch.autograd.grad(scores.sum(), pooled)
    ours = TorchEngine(network).head.gradient(pooled.detach().numpy(), targets)
    np.testing.assert_allclose(ours, expected.numpy(), atol=1e-6)


def test_one_channel_by_hand() -> None:
    """A = [1, 2], g = [1, 1]: alpha = 1 / (2 + 3) each, w = 2/5, map = [0.4, 0.8]."""
    features, gradient = np.array([[[[1.0, 2.0]]]], np.float32), np.ones((1, 1), np.float32)
    np.testing.assert_allclose(weigh_features(features, gradient), [[[0.4, 0.8]]], atol=1e-5)


def test_a_hidden_unit_that_is_off_passes_no_gradient() -> None:
    """Two hidden units, of which the features [1, 0] switch on the first only."""
    first = (np.array([[2, 3], [-1, 5]], np.float32), np.zeros(2, np.float32))
    second = (np.array([[10, 100]], np.float32), np.zeros(1, np.float32))
    gradient = HeadWeights((first, second)).gradient(np.array([[1, 0]], np.float32), np.array([0]))
    np.testing.assert_allclose(gradient, [[20, 30]])


def test_a_flat_map_is_zero() -> None:
    assert abs(scale_maps(np.ones((1, 3, 3), np.float32))).max() == 0


def test_the_cells_of_a_contrast_add_up_to_the_difference_of_the_logits() -> None:
    """Channels [1 2] and [3 0], weights (2, 1) and (0, 1) against each other (2, 0): cells 2·1/2 and 2·2/2."""
    features = np.array([[[[1, 2]], [[3, 0]]]], np.float32)
    head = HeadWeights(((np.array([[2, 1], [0, 1]], np.float32), np.zeros(2, np.float32)),))
    one, other = np.array([0]), np.array([1])
    signed = contrastive_cam(features, head, one, other)
    np.testing.assert_allclose(signed, [[[1, 2]]])
    logits = head.layers[0][0] @ features.mean(axis=(2, 3))[0]
    assert signed.sum() == logits[0] - logits[1] == 3
    np.testing.assert_array_equal(contrastive_cam(features, head, other, one), -signed)


def test_an_enlarged_map_keeps_its_range() -> None:
    enlarged = resize_map(np.array([[0, 1], [-1, 0]], np.float32), 20, 30)
    assert enlarged.shape == (20, 30)
    assert (enlarged.min(), enlarged.max()) == (-1, 1)
    assert enlarged[0, -1] == 1
    assert enlarged[-1, 0] == -1
