from __future__ import annotations

import numpy as np
import pytest

from twincar.auditing.outliers import find_outliers, modified_z_scores
from twincar.auditing.signatures import BITS, THUMBNAIL, Signatures
from twincar.data.dataset import Annotation


def test_scores_worked_by_hand() -> None:
    # Median 3, absolute deviations 2 1 0 1 97, their median 1.
    assert modified_z_scores(np.array([1.0, 2, 3, 4, 100])) == pytest.approx([-1.349, -0.6745, 0, 0.6745, 65.4265])
    # More than half are equal: the mean absolute deviation, 2, is used.
    assert modified_z_scores(np.array([5.0, 5, 5, 5, 15])) == pytest.approx([0, 0, 0, 0, 10 * 0.7979 / 2])
    assert modified_z_scores(np.full(4, 7.0)).tolist() == [0] * 4
    assert modified_z_scores(np.zeros(0)).tolist() == []


def test_each_kind_of_odd_photo() -> None:
    rng = np.random.default_rng(0)
    sizes = [(int(200 * scale), int(150 * scale)) for scale in rng.uniform(0.9, 1.1, 40)]
    brightness, sharpness = rng.uniform(0.4, 0.6, 40), rng.uniform(200, 300, 40)
    sizes[3], sizes[5] = (20, 15), (380, 80)
    brightness[7], brightness[8] = 0.01, 0.99
    sharpness[9] = 0.5
    photos = [
        Annotation(file=f"{i}.jpg", label=0, split="train", width=w, height=h, box=None, sha256="")
        for i, (w, h) in enumerate(sizes)
    ]
    signatures = Signatures(
        np.zeros((40, 2, BITS // 8), np.uint8),
        np.zeros((40, THUMBNAIL, THUMBNAIL), np.uint8),
        brightness.astype(np.float32),
        sharpness.astype(np.float32),
    )
    found = {
        (outlier.photo, outlier.reason, outlier.detail.split(":")[0]) for outlier in find_outliers(photos, signatures)
    }
    assert found == {
        (3, "odd size", "small"),
        (5, "odd proportions", "wide"),
        (7, "odd brightness", "dark"),
        (8, "odd brightness", "bright"),
        (9, "odd sharpness", "blurred"),
    }
