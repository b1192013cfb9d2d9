"""Photos unlike the others in size, proportions, brightness or sharpness, by robust statistics.

Shapes: N photos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twincar.auditing.signatures import Signatures
from twincar.data.dataset import Annotation

CUTOFF = 5.0
"""Modified z-score from which a photo is an outlier. Iglewicz and Hoaglin take 3.5, for a normal distribution; what is
measured here has longer tails: of 7,329 box crops of Stanford Cars 3.5 names 530, 5 names 125."""
_NORMAL_MAD, _NORMAL_MEAN_DEVIATION = 0.6745, 0.7979  # of a standard normal distribution


@dataclass(frozen=True)
class Outlier:
    """One photo and the property in which it is an outlier."""

    photo: int
    """Index in the data set."""
    reason: str
    detail: str
    score: float
    """Modified z-score; its sign tells the direction."""


def find_outliers(annotations: Sequence[Annotation], signatures: Signatures) -> list[Outlier]:
    """The odd photos, the oddest first; a photo may be odd in more than one way.

    Args:
        annotations: N photos.
        signatures: theirs.
    """
    sizes = np.array([(photo.width, photo.height) for photo in annotations], np.float64).reshape(-1, 2)
    ratios, areas = sizes[:, 0] / sizes[:, 1], sizes.prod(axis=1)
    # Of areas, proportions and sharpness the ratio to the usual is what matters, so their logarithms are compared.
    measured = [
        ("size", np.log(areas), areas, "small", "large", "{:.0f} pixels in all"),
        ("proportions", np.log(ratios), ratios, "tall", "wide", "{:.2f} to 1"),
        ("brightness", signatures.brightness, signatures.brightness, "dark", "bright", "mean grey level {:.0%}"),
        ("sharpness", np.log1p(signatures.sharpness), signatures.sharpness, "blurred", "very sharp or noisy",
         "variance of the Laplacian {:.0f}"),
    ]  # fmt: skip
    found = []
    for what, compared, values, low, high, form in measured:
        scores = modified_z_scores(compared)
        for place in np.flatnonzero(np.abs(scores) > CUTOFF).tolist():
            detail = f"{low if scores[place] < 0 else high}: {form.format(values[place])}"
            found.append(Outlier(place, f"odd {what}", detail, float(scores[place])))
    return sorted(found, key=lambda outlier: (-abs(outlier.score), outlier.photo))


def modified_z_scores(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Distance from the median in robust standard deviations, N (Iglewicz and Hoaglin, 1993).

    Where more than half of the values are equal, the mean absolute deviation takes the place of the median one; where
    all are, every score is 0.
    """
    if not len(values):
        return np.zeros(0)
    deviations = np.asarray(values, np.float64) - np.median(values)
    spread = np.median(np.abs(deviations)) / _NORMAL_MAD or np.abs(deviations).mean() / _NORMAL_MEAN_DEVIATION
    return deviations / spread if spread else np.zeros(len(values))
