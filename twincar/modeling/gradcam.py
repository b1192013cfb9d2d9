"""Grad-CAM++ (Chattopadhyay et al., 2018, https://arxiv.org/abs/1710.11063) in closed form, torch-free.

After the last feature map A come only the mean over its cells and a small classifier, so the gradient of a class's
score Y is the same in every cell and follows from the classifier's weights: no backward pass is needed. With the score
passed through an exponential, its higher derivatives are powers of the first (section 3.2), and

    alpha_k = g_k² / (2 g_k² + g_k³ Σ_ab A_k,ab)     with g_k = ∂Y / ∂A_k,ij    (equation 19)
    w_k     = Σ_ij alpha_k relu(g_k)                                            (equation 5)
    map_ij  = relu(Σ_k w_k A_k,ij)                                              (equation 2 with these weights)

Shapes: N photos, C channels of an h×w feature map, K classes, D units of a hidden layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_EPSILON = 1e-6


@dataclass(frozen=True)
class HeadWeights:
    """The classifier behind the pooling: one linear layer, or two with a ReLU between them."""

    layers: tuple[tuple[Floats, Floats], ...]
    """Weight and bias of each: (K×C, K), or (D×C, D) and (K×D, K)."""

    @classmethod
    def from_arrays(cls, arrays: Sequence[Floats]) -> HeadWeights:
        """Of weight, bias, weight, bias, ... in the order of the layers."""
        return cls(tuple(zip(arrays[::2], arrays[1::2], strict=True)))

    def gradient(self, pooled: Floats, targets: NDArray[np.int64]) -> Floats:
        """Derivative of each photo's target logit by the pooled features: N×C, of features N×C and targets N."""
        last: Floats = self.layers[-1][0][targets]
        if len(self.layers) == 1:
            return last
        weight, bias = self.layers[0]
        active = pooled @ weight.T + bias > 0
        gradient: Floats = (last * active) @ weight
        return gradient


def grad_cam_plus_plus(features: Floats, head: HeadWeights, targets: NDArray[np.int64]) -> Floats:
    """Where the network looked for one class a photo: maps, N×h×w, each scaled to 0 to 1.

    Args:
        features: the feature map before pooling, N×C×h×w.
        head: the classifier behind it.
        targets: the class to explain for each photo, N.
    """
    cells = features.shape[2] * features.shape[3]
    gradient = head.gradient(features.mean(axis=(2, 3)), targets) / cells
    return scale_maps(weigh_features(features, gradient))


def weigh_features(features: Floats, gradient: Floats) -> Floats:
    """Equations 19, 5 and 2: maps, N×h×w, of features, N×C×h×w, and their gradient, N×C, the same in every cell."""
    squared = gradient**2
    denominator = 2 * squared + squared * gradient * features.sum(axis=(2, 3))
    alpha = np.where(gradient != 0, squared / (denominator + _EPSILON), 0)
    weights = features.shape[2] * features.shape[3] * alpha * np.maximum(gradient, 0)
    maps: Floats = np.maximum(np.einsum("nc,nchw->nhw", weights, features), 0)
    return maps


def scale_maps(maps: Floats) -> Floats:
    """Each map, N×h×w, shifted and scaled to reach from 0 to 1; a flat map becomes 0."""
    lowest = maps.min(axis=(1, 2), keepdims=True)
    span = maps.max(axis=(1, 2), keepdims=True) - lowest
    scaled: Floats = (maps - lowest) / np.where(span > 0, span, 1)
    return scaled
