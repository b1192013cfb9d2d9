"""The contrast of two classes by hiding: a patch of the photo is blurred away, and the two logits are asked again.

Occlusion (Zeiler and Fergus, 2014, https://arxiv.org/abs/1311.2901) with Finer-CAM's question (Zhang et al., 2025): not
how one logit drops, but how the difference of two does. It needs a pass through the network for each patch, and in
turn is as fine as the patches are, where a class activation map has only the cells of the last feature map.

Shapes: N photos of H×W pixels, K classes, h×w cells of a map.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from twincar.models.cam.gradcam import Floats

Logits = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Photos, N×H×W×3, to logits, N×K, as `Engine.logits`."""

CELLS = 8
"""Of a map along the photo's shorter side; a patch is two cells wide and high, and each cell lies under four."""
_BLUR = 0.1  # standard deviation as a share of the shorter side: what is small enough to tell twins apart is gone
_BATCH = 32


def contrastive_occlusion(logits: Logits, photo: NDArray[np.uint8], target: int, other: int) -> Floats:
    """What speaks for one class (above 0) and for another (below 0): a signed map, h×w, in logits.

    A cell is the mean over the patches that hide it of how much less the difference of the two logits is than with the
    whole photo in view.

    Args:
        logits: the network; it is asked about (h + 1)·(w + 1) + 1 photos.
        photo: as the network takes it, H×W×3.
        target: the one class.
        other: the class it is told from.
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
    answers = np.concatenate([logits(np.stack(hidden[i : i + _BATCH])) for i in range(0, len(hidden), _BATCH)])
    contrast = answers[:, target] - answers[:, other]
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
