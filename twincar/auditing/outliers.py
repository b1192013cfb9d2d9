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
"""Absolute modified z-score above which a photo is an outlier. Iglewicz and Hoaglin recommend 3.5 for a normal
distribution; these properties have longer tails: of 7,329 box crops of Stanford Cars, 530 are above 3.5 and 125 above
5."""
_NORMAL_MAD, _NORMAL_MEAN_DEVIATION = 0.6745, 0.7979  # of a standard normal distribution


@dataclass(frozen=True)
class Outlier:
    """One photo and the property in which it is an outlier."""

    photo: int
    """Index in the data set."""
    reason: str
    detail: str
    score: float
    """Modified z-score; negative if the value is below the median."""


def find_outliers(annotations: Sequence[Annotation], signatures: Signatures) -> list[Outlier]:
    """The outliers, by descending absolute score; a photo may be an outlier in several properties.

    Args:
        annotations: of N photos.
        signatures: of the same photos.
    """
    sizes = np.array([(photo.width, photo.height) for photo in annotations], np.float64).reshape(-1, 2)
    ratios, areas = sizes[:, 0] / sizes[:, 1], sizes.prod(axis=1)
    # Areas, proportions and sharpness are compared by their ratios, hence the logarithms.
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
        for index in np.flatnonzero(np.abs(scores) > CUTOFF).tolist():
            detail = f"{low if scores[index] < 0 else high}: {form.format(values[index])}"
            found.append(Outlier(index, f"odd {what}", detail, float(scores[index])))
    return sorted(found, key=lambda outlier: (-abs(outlier.score), outlier.photo))


def modified_z_scores(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Distances from the median in robust standard deviations, N (Iglewicz and Hoaglin, 1993).

    If more than half of the values are equal, the mean absolute deviation replaces the median one; if all are, every
    score is 0.
    """
    if not len(values):
        return np.zeros(0)
    deviations = np.asarray(values, np.float64) - np.median(values)
    spread = np.median(np.abs(deviations)) / _NORMAL_MAD or np.abs(deviations).mean() / _NORMAL_MEAN_DEVIATION
    return deviations / spread if spread else np.zeros(len(values))
