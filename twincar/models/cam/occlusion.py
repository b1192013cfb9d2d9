"""Occlusion contrast of two classes: a patch of the photo is blurred, and the two logits are computed again.

This is occlusion (Zeiler and Fergus, 2014, https://arxiv.org/abs/1311.2901) applied to the difference of two logits, as
in Finer-CAM (Zhang et al., 2025), instead of to one logit. It needs a forward pass for each patch, but its resolution
is that of the patches, while a class activation map has only the cells of the last feature map.

Shapes: N photos of H×W pixels, K classes, h×w cells of a map.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from twincar.models.cam.gradcam import Floats

Logits = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Computes logits, N×K, of photos, N×H×W×3, like `Engine.logits`."""

CELLS = 8
"""Cells of a map along the photo's shorter side; a patch covers 2×2 cells, and each cell lies in four patches."""
_BLUR = 0.1  # standard deviation as a share of the shorter side; it removes the details that distinguish twins
_BATCH = 32


def contrastive_occlusion(logits: Logits, photo: NDArray[np.uint8], target: int, other: int) -> Floats:
    """A signed map, h×w, in logits: evidence for one class is above 0, for another class below 0.

    The value of a cell is the drop of the difference of the two logits, averaged over the patches that hide the cell.

    Args:
        logits: the network; it is run on (h + 1)·(w + 1) + 1 photos.
        photo: preprocessed, H×W×3.
        target: the one class.
        other: the class it is compared with.
    """
    rows, columns = grid_of(*photo.shape[:2])
    patches = [(slice(max(y, 0), y + 2), slice(max(x, 0), x + 2)) for y in range(-1, rows) for x in range(-1, columns)]
    above, left = (
        np.linspace(0, photo.shape[axis], n + 1).round().astype(int) for axis, n in enumerate((rows, columns))
    )
    hidden, blurred = [photo], blur(photo)
    for y, x in patches:
        pixels = slice(above[y.start], above[min(y.stop, rows)]), slice(left[x.start], left[min(x.stop, columns)])
        hidden.append(photo.copy())
        hidden[-1][pixels] = blurred[pixels]
    outputs = np.concatenate([logits(np.stack(hidden[i : i + _BATCH])) for i in range(0, len(hidden), _BATCH)])
    contrast = outputs[:, target] - outputs[:, other]
    total = np.zeros((rows, columns), np.float32)
    for patch, drop in zip(patches, contrast[0] - contrast[1:], strict=True):
        total[patch] += drop / 4
    return total


def grid_of(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of a map over H×W pixels."""
    shorter = min(height, width)
    return round(CELLS * height / shorter), round(CELLS * width / shorter)


def blur(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A photo, H×W×3, without its details."""
    radius = _BLUR * min(photo.shape[:2])
    return np.asarray(Image.fromarray(photo).filter(ImageFilter.GaussianBlur(radius)))
