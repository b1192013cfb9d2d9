"""Is an explanation true? Arrays and a network in, numbers out: what a map says, tested on the network itself.

A map claims where the evidence lies. Take that away and the answer must fall, show only that and it must come back:
deletion and insertion (Petsiuk et al., 2018, https://arxiv.org/abs/1806.07421), and ROAD (Rong et al., 2022,
https://arxiv.org/abs/2202.00449), whose filled-in pixels do not tell by their shape what was taken. Where the truth is
known, a map is compared with it: energy inside it (Wang et al., 2020, https://arxiv.org/abs/1910.01279) and the
pointing game (Zhang et al., 2016, https://arxiv.org/abs/1608.00507).

Shapes: H×W pixels of the network's input, over which every map (`heat`) lies; K classes, S steps.
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
"""S, of a deletion or insertion curve."""
ROAD_SHARES = (0.2, 0.4, 0.6, 0.8)
"""Of the pixels that ROAD takes away."""
_NOISE = 2.55  # standard deviation of what ROAD adds to filled-in pixels: 0.01 of their range, as the paper has it
_NEAR, _DIAGONAL = 1 / 6, 1 / 12  # weights of a pixel's neighbours, as the paper has them
_NEIGHBOURS = {
    (y, x): _DIAGONAL if y and x else _NEAR for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)
}  # fmt: skip


@dataclass(frozen=True)
class Score:
    """One figure of one kind of map: the mean over photos, with its 95% interval."""

    score: str
    map: str
    value: float
    low: float
    high: float
    better: Better

    @classmethod
    def over_photos(cls, score: str, map_name: str, values: Iterable[float], better: Better) -> Score:
        """Of one value a photo."""
        mean = mean_interval(np.array(list(values)))
        return cls(score, map_name, mean.value, mean.low, mean.high, better)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and CSV."""
        return asdict(self)


def deletion_curve(logits: Logits, photo: Pixels, heat: Floats, target: int) -> Floats:
    """Probability of the target, S + 1, while the photo's hottest pixels become its mean colour; lower is better."""
    plain = np.broadcast_to(photo.mean(axis=(0, 1)).round().astype(np.uint8), photo.shape)
    return _exchange(logits, photo, plain, heat, target)


def insertion_curve(logits: Logits, photo: Pixels, heat: Floats, target: int) -> Floats:
    """Probability of the target, S + 1, while the hottest pixels come back into a blurred photo; higher is better."""
    return _exchange(logits, blur(photo), photo, heat, target)


def area(curve: Floats) -> float:
    """Area under a curve whose steps are equally wide, from 0 to 1, by the trapezoidal rule."""
    return float((curve[1:] + curve[:-1]).mean() / 2)


def road(logits: Logits, photo: Pixels, heat: Floats, target: int, rng: np.random.Generator) -> tuple[float, float]:
    """Mean probability of the target with 20 to 80% of the pixels filled in from their neighbours.

    Returns:
        With the most relevant removed first (lower is better), and with the least relevant (higher is better).
    """
    order = _hottest_first(heat)
    filled = []
    for ranked in (order, order[::-1]):
        for share in ROAD_SHARES:
            hidden = np.zeros(heat.shape, bool)
            hidden.flat[ranked[: round(share * heat.size)]] = True
            picture = impute(photo, hidden)
            picture[hidden] += rng.normal(0, _NOISE, (hidden.sum(), 3))
            filled.append(picture.round().clip(0, 255).astype(np.uint8))
    most, least = _probability(logits, np.stack(filled), target).reshape(2, -1).mean(axis=1)
    return float(most), float(least)


def impute(photo: Pixels, hidden: Mask) -> NDArray[np.float64]:
    """The photo, H×W×3, with each hidden pixel the weighted mean of its neighbours, hidden ones among them.

    The equations of all hidden pixels are solved at once (Rong et al., 2022, section 4.2), without the noise.
    """
    height, width = hidden.shape
    number = np.full((height + 2, width + 2), -1)  # with a border, so that every pixel has eight neighbours
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


def energy_within(heat: Floats, mask: Mask) -> float:
    """Share of what a map has above 0 that lies inside a mask, H×W; of a map with nothing above 0, the mask's area."""
    positive = np.maximum(heat, 0)
    total = float(positive.sum())
    return float(positive[mask].sum()) / total if total else float(mask.mean())


def peak_within(heat: Floats, mask: Mask) -> float:
    """The pointing game: 1 where the hottest pixel lies inside a mask, H×W, else 0."""
    return float(mask.flat[heat.argmax()])


def rank_correlation(first: Floats, second: Floats) -> float:
    """Spearman's, of two maps' cells; 0 where either is flat and so ranks nothing."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(stats.spearmanr(first.ravel(), second.ravel()).statistic)


def random_map(height: int, width: int, rng: np.random.Generator) -> Floats:
    """Random blocks, H×W: what any map must beat."""
    cells = Image.fromarray(rng.random(grid_of(height, width), np.float32))
    # Not smoothed: that would move the peak, among so many cells that are almost as high, towards the border.
    return np.asarray(cells.resize((width, height), Image.Resampling.NEAREST))


def centred_map(height: int, width: int) -> Floats:
    """A blob in the middle, H×W, where a photo's subject is anyway; standard deviation: a quarter of each side."""
    down, across = (np.exp(-8 * np.linspace(-0.5, 0.5, side, dtype=np.float32) ** 2) for side in (height, width))
    return np.outer(down, across)


def _exchange(logits: Logits, before: Pixels, after: Pixels, heat: Floats, target: int) -> Floats:
    """Probability of the target while one photo's pixels take the place of another's, the hottest first, in S steps."""
    order = _hottest_first(heat)
    pictures = [before.reshape(-1, 3).copy()]
    for part in np.array_split(order, STEPS):
        pictures.append(pictures[-1].copy())
        pictures[-1][part] = after.reshape(-1, 3)[part]
    return _probability(logits, np.stack(pictures).reshape(-1, *before.shape), target)


def _hottest_first(heat: Floats) -> NDArray[np.int64]:
    return np.argsort(-heat, axis=None, kind="stable")


def _probability(logits: Logits, photos: Pixels, target: int) -> Floats:
    return softmax(logits(photos))[:, target]
