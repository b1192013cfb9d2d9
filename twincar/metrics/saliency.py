"""Faithfulness metrics of saliency maps, computed by running the network on changed photos.

A map shows where the evidence is. If that is removed, the probability must fall, and if only that is shown, it must
return: deletion and insertion (Petsiuk et al., 2018, https://arxiv.org/abs/1806.07421), and ROAD (Rong et al., 2022,
https://arxiv.org/abs/2202.00449), whose imputed pixels do not reveal the shape of what was removed. If the ground truth
is known, a map is compared with it: energy inside it (Wang et al., 2020, https://arxiv.org/abs/1910.01279) and the
pointing game (Zhang et al., 2016, https://arxiv.org/abs/1608.00507).

Shapes: H×W pixels of the network's input, which every map (`heatmap`) covers; K classes, S steps.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import sparse, stats
from scipy.sparse.linalg import spsolve

from twincar.metrics.classification import mean_interval
from twincar.models.calibration import softmax
from twincar.models.cam.gradcam import Floats
from twincar.models.cam.occlusion import Logits, blur, grid_of

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Better = Literal["higher", "lower"]

STEPS = 20
"""S, the steps of a deletion or insertion curve."""
ROAD_SHARES = (0.2, 0.4, 0.6, 0.8)
"""Shares of the pixels that ROAD removes."""
_NOISE = 2.55  # standard deviation of the noise that ROAD adds to imputed pixels: 0.01 of their range, as in the paper
_NEAR, _DIAGONAL = 1 / 6, 1 / 12  # weights of a pixel's neighbours, as in the paper
_NEIGHBOURS = {
    (y, x): _DIAGONAL if y and x else _NEAR for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)
}  # fmt: skip


@dataclass(frozen=True)
class Score:
    """One metric of one kind of map: the mean over photos, with its 95% interval."""

    score: str
    map: str
    value: float
    low: float
    high: float
    better: Better

    @classmethod
    def over_photos(cls, score: str, map_name: str, values: Iterable[float], better: Better) -> Score:
        """From one value per photo."""
        mean = mean_interval(np.array(list(values)))
        return cls(score, map_name, mean.value, mean.low, mean.high, better)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and CSV."""
        return asdict(self)


def deletion_curve(logits: Logits, photo: Pixels, heatmap: Floats, target: int) -> Floats:
    """Probability of the target, S + 1, while the highest pixels are replaced by the mean colour; lower is better."""
    plain = np.broadcast_to(photo.mean(axis=(0, 1)).round().astype(np.uint8), photo.shape)
    return _replace_pixels(logits, photo, plain, heatmap, target)


def insertion_curve(logits: Logits, photo: Pixels, heatmap: Floats, target: int) -> Floats:
    """Probability of the target, S + 1, while the highest pixels are restored in a blurred photo; higher is better."""
    return _replace_pixels(logits, blur(photo), photo, heatmap, target)


def area(curve: Floats) -> float:
    """Area under a curve with equal steps from 0 to 1, by the trapezoidal rule."""
    return float((curve[1:] + curve[:-1]).mean() / 2)


def road(logits: Logits, photo: Pixels, heatmap: Floats, target: int, rng: np.random.Generator) -> tuple[float, float]:
    """Mean probability of the target with 20 to 80% of the pixels imputed from their neighbours.

    Returns:
        With the most relevant pixels removed first (lower is better), and with the least relevant (higher is better).
    """
    order = _highest_first(heatmap)
    filled = []
    for ranked in (order, order[::-1]):
        for share in ROAD_SHARES:
            hidden = np.zeros(heatmap.shape, bool)
            hidden.flat[ranked[: round(share * heatmap.size)]] = True
            image = impute(photo, hidden)
            image[hidden] += rng.normal(0, _NOISE, (hidden.sum(), 3))
            filled.append(image.round().clip(0, 255).astype(np.uint8))
    most, least = _probability(logits, np.stack(filled), target).reshape(2, -1).mean(axis=1)
    return float(most), float(least)


def impute(photo: Pixels, hidden: Mask) -> NDArray[np.float64]:
    """The photo, H×W×3, with each hidden pixel the weighted mean of its neighbours, which may be hidden too.

    The equations of all hidden pixels are solved at once (Rong et al., 2022, section 4.2), without the noise.
    """
    height, width = hidden.shape
    number = np.full((height + 2, width + 2), -1)  # a border gives every pixel eight neighbours
    number[1:-1, 1:-1] = np.arange(height * width).reshape(height, width)
    unknown = np.flatnonzero(hidden)
    y, x = np.nonzero(hidden)
    rows, columns, weights = [], [], []
    for (down, right), weight in _NEIGHBOURS.items():
        neighbour = number[y + 1 + down, x + 1 + right]
        inside = np.flatnonzero(neighbour >= 0)
        rows.append(inside)
        columns.append(neighbour[inside])
        weights.append(np.full(len(inside), weight))
    shape = (len(unknown), height * width)
    nearby = sparse.coo_array(
        (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))), shape=shape
    ).tocsc()
    values = photo.reshape(-1, 3).astype(np.float64)
    known = np.flatnonzero(~hidden)
    system = sparse.diags_array(nearby.sum(axis=1)).tocsc() - nearby[:, unknown]
    values[unknown] = spsolve(system, nearby[:, known] @ values[known]).reshape(-1, 3)
    return values.reshape(photo.shape)


def energy_within(heatmap: Floats, mask: Mask) -> float:
    """Share of a map's positive values inside a mask, H×W; the mask's area if the map has none."""
    positive = np.maximum(heatmap, 0)
    total = float(positive.sum())
    return float(positive[mask].sum()) / total if total else float(mask.mean())


def peak_within(heatmap: Floats, mask: Mask) -> float:
    """The pointing game: 1 if the maximum of the map lies inside a mask, H×W, else 0."""
    return float(mask.flat[heatmap.argmax()])


def rank_correlation(first: Floats, second: Floats) -> float:
    """Spearman's rank correlation of two maps; 0 if either is constant."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(stats.spearmanr(first.ravel(), second.ravel()).statistic)


def random_map(height: int, width: int, rng: np.random.Generator) -> Floats:
    """Random blocks, H×W: a baseline for any map."""
    cells = Image.fromarray(rng.random(grid_of(height, width), np.float32))
    # Not smoothed: with many cells of almost equal height, that would move the maximum towards the border.
    return np.asarray(cells.resize((width, height), Image.Resampling.NEAREST))


def centred_map(height: int, width: int) -> Floats:
    """A Gaussian in the centre, H×W, where a photo's subject usually is; standard deviation: a quarter of each side."""
    down, across = (np.exp(-8 * np.linspace(-0.5, 0.5, side, dtype=np.float32) ** 2) for side in (height, width))
    return np.outer(down, across)


def _replace_pixels(logits: Logits, before: Pixels, after: Pixels, heatmap: Floats, target: int) -> Floats:
    """Probability of the target while pixels of one photo are replaced by those of another, highest first, S steps."""
    order = _highest_first(heatmap)
    images = [before.reshape(-1, 3).copy()]
    for part in np.array_split(order, STEPS):
        images.append(images[-1].copy())
        images[-1][part] = after.reshape(-1, 3)[part]
    return _probability(logits, np.stack(images).reshape(-1, *before.shape), target)


def _highest_first(heatmap: Floats) -> NDArray[np.int64]:
    return np.argsort(-heatmap, axis=None, kind="stable")


def _probability(logits: Logits, photos: Pixels, target: int) -> Floats:
    return softmax(logits(photos))[:, target]
