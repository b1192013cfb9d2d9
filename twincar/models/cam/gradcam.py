"""Grad-CAM++ and the contrast of two classes in closed form, torch-free.

Grad-CAM++ is by Chattopadhyay et al., 2018, https://arxiv.org/abs/1710.11063; the contrast is Finer-CAM by Zhang et
al., 2025, https://arxiv.org/abs/2501.11309.

The last feature map A is followed only by the mean over its cells and a small head, so the gradient of a class's score
Y is the same in every cell and follows from the head's weights: no backward pass is needed. With the score
passed through an exponential, its higher derivatives are powers of the first (section 3.2), and

    alpha_k = g_k² / (2 g_k² + g_k³ Σ_ab A_k,ab)     with g_k = ∂Y / ∂A_k,ij    (equation 19)
    w_k     = Σ_ij alpha_k relu(g_k)                                            (equation 5)
    map_ij  = relu(Σ_k w_k A_k,ij)                                              (equation 2 with these weights)

Finer-CAM explains the difference of two scores, Y - Y', instead of one. With Grad-CAM's weights, g_k - g'_k, the map is
the exact contribution of each cell to that difference if the head is linear, and the map of the other class against
this one is its negative: one signed map shows both directions.

Shapes: N photos, C channels of an h×w feature map, K classes, D units of a hidden layer, H×W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]

_EPSILON = 1e-6


@dataclass(frozen=True)
class HeadWeights:
    """The weights of the classification head after pooling: one linear layer, or two with a ReLU between them."""

    layers: tuple[tuple[Floats, Floats], ...]
    """Weight and bias of each layer: (K×C, K), or (D×C, D) and (K×D, K)."""

    @classmethod
    def from_arrays(cls, arrays: Sequence[Floats]) -> HeadWeights:
        """From weight, bias, weight, bias, ... in the order of the layers.

        Raises:
            ValueError: they are not one or two layers that fit together.
        """
        layers = tuple(zip(arrays[::2], arrays[1::2], strict=True))
        units = [weight.shape[-1] for weight, _ in layers[1:]]
        fits = all(weight.ndim == 2 and bias.shape == weight.shape[:1] for weight, bias in layers)
        if len(layers) not in (1, 2) or not fits or units != [len(bias) for _, bias in layers[:-1]]:
            raise ValueError("the weights of the head do not fit together")
        return cls(layers)

    @property
    def features(self) -> int:
        """The number of features that the head gets, C."""
        return int(self.layers[0][0].shape[1])

    def penultimate(self, pooled: Floats) -> Floats:
        """The input of the last layer, N×D (N×C if it is the only one), from pooled features, N×C."""
        if len(self.layers) == 1:
            return pooled
        weight, bias = self.layers[0]
        hidden: Floats = np.maximum(pooled @ weight.T + bias, 0)
        return hidden

    def gradient(self, pooled: Floats, targets: NDArray[np.int64]) -> Floats:
        """Gradient of each photo's target logit by the pooled features, N×C, from features N×C and targets N."""
        last: Floats = self.layers[-1][0][targets]
        if len(self.layers) == 1:
            return last
        weight, bias = self.layers[0]
        active = pooled @ weight.T + bias > 0
        gradient: Floats = (last * active) @ weight
        return gradient


def grad_cam_plus_plus(features: Floats, head: HeadWeights, targets: NDArray[np.int64]) -> Floats:
    """Grad-CAM++ maps for one class per photo, N×h×w, each scaled to 0 to 1.

    Args:
        features: the feature map before pooling, N×C×h×w.
        head: the classification head.
        targets: the class to explain for each photo, N.
    """
    cells = features.shape[2] * features.shape[3]
    gradient = head.gradient(features.mean(axis=(2, 3)), targets) / cells
    return scale_maps(weigh_features(features, gradient))


def contrastive_cam(
    features: Floats, head: HeadWeights, targets: NDArray[np.int64], others: NDArray[np.int64]
) -> Floats:
    """Signed maps, N×h×w, in logits: evidence for one class per photo is above 0, for another class below 0.

    With a linear head, the cells of a map sum to the difference of the two logits, except that of the biases. The
    positive part is Finer-CAM's map with a comparison strength of 1.

    Args:
        features: the feature map before pooling, N×C×h×w.
        head: the classification head.
        targets: the one class for each photo, N.
        others: the class it is compared with, N.
    """
    cells = features.shape[2] * features.shape[3]
    pooled: Floats = features.mean(axis=(2, 3))
    gradient = (head.gradient(pooled, targets) - head.gradient(pooled, others)) / cells
    maps: Floats = np.einsum("nc,nchw->nhw", gradient, features)
    return maps


def weigh_features(features: Floats, gradient: Floats) -> Floats:
    """Equations 19, 5 and 2: maps, N×h×w, from features, N×C×h×w, and their gradient, N×C, equal in every cell."""
    squared = gradient**2
    denominator = 2 * squared + squared * gradient * features.sum(axis=(2, 3))
    alpha = np.where(gradient != 0, squared / (denominator + _EPSILON), 0)
    weights = features.shape[2] * features.shape[3] * alpha * np.maximum(gradient, 0)
    maps: Floats = np.maximum(np.einsum("nc,nchw->nhw", weights, features), 0)
    return maps


def scale_maps(maps: Floats) -> Floats:
    """Scale each map, N×h×w, to the range 0 to 1; a constant map becomes 0."""
    lowest = maps.min(axis=(1, 2), keepdims=True)
    span = maps.max(axis=(1, 2), keepdims=True) - lowest
    scaled: Floats = (maps - lowest) / np.where(span > 0, span, 1)
    return scaled


def resize_map(heat: Floats, height: int, width: int) -> Floats:
    """Resize a map, h×w, smoothly to H×W pixels; values stay between its minimum and maximum."""
    picture = Image.fromarray(heat.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    resized: Floats = np.asarray(picture, np.float32).clip(heat.min(), heat.max())
    return resized
