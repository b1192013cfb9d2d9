"""Grad-CAM++ (Chattopadhyay et al., 2018, https://arxiv.org/abs/1710.11063), with the gradient through the head only.

Everything after the last feature map A is cheap, so the gradient of a class's score Y is taken from there on. With the
score passed through an exponential, its higher derivatives are powers of the first (section 3.2), and

    alpha_k,ij = g² / (2 g² + g³ Σ_ab A_k,ab)        with g = ∂Y / ∂A_k,ij      (equation 19)
    w_k        = Σ_ij alpha_k,ij relu(g)                                        (equation 5)
    map_ij     = relu(Σ_k w_k A_k,ij)                                           (equation 2 with these weights)

Shapes: N photos, C channels of an h×w feature map.
"""

from __future__ import annotations

import torch
from torch import Tensor

from twincar.modeling.network import CarNet

_EPSILON = 1e-6


def grad_cam_plus_plus(network: CarNet, images: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Where the network looked for one class a photo.

    Args:
        network: in evaluation mode; nothing is left hanging on it, and no parameter gets a gradient.
        images: N×3×H×W, RGB from 0 to 255.
        targets: the class to explain for each photo, N; by default the likeliest.

    Returns:
        Maps, N×h×w, each scaled to 0 to 1, and logits, N×K.
    """
    with torch.no_grad():
        features = network.features(images).float()
    features.requires_grad_()
    with torch.enable_grad():
        logits = network.classify(features)
        chosen = logits.argmax(dim=1) if targets is None else targets
        (gradients,) = torch.autograd.grad(logits.gather(1, chosen[:, None]).sum(), features)
    return scale_maps(weigh_features(features.detach(), gradients)), logits.detach()


def weigh_features(features: Tensor, gradients: Tensor) -> Tensor:
    """Equations 19, 5 and 2: maps, N×h×w, of features and their gradients, both N×C×h×w."""
    squared = gradients**2
    denominator = 2 * squared + squared * gradients * features.sum(dim=(2, 3), keepdim=True)
    alpha = torch.where(gradients != 0, squared / (denominator + _EPSILON), 0)
    weights = (alpha * gradients.relu()).sum(dim=(2, 3), keepdim=True)
    return (weights * features).sum(dim=1).relu()


def scale_maps(maps: Tensor) -> Tensor:
    """Each map, N×h×w, shifted and scaled to reach from 0 to 1; a flat map becomes 0."""
    lowest = maps.amin(dim=(1, 2), keepdim=True)
    span = maps.amax(dim=(1, 2), keepdim=True) - lowest
    return (maps - lowest) / torch.where(span > 0, span, 1)
