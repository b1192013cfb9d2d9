"""A model of four cars whose probabilities a test chooses."""

from __future__ import annotations

import numpy as np

from twincar.core.labels import ClassNames
from twincar.core.preprocess import Preprocessing
from twincar.inference.classifier import Classifier
from twincar.models.calibration import Calibration
from twincar.models.cam.gradcam import HeadWeights
from twincar.models.engines.base import Engine
from twincar.models.spec import ModelSpec


class SayingEngine(Engine):
    """Gives the same logits for every photo."""

    name = "torch"

    def __init__(self, probabilities: list[float], scale: float) -> None:
        self.said = np.log(np.array([probabilities], np.float32)) + np.float32(scale)

    @property
    def head(self) -> HeadWeights:  # type: ignore[override]
        """Of one feature that is always 0: the biases are the logits."""
        return HeadWeights(((np.zeros((self.said.shape[1], 1), np.float32), self.said[0]),))

    def logits(self, images: np.ndarray) -> np.ndarray:
        return np.repeat(self.said, len(images), axis=0)

    def logits_and_features(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.logits(images), np.zeros((len(images), 1, 2, 2), np.float32)


BMWS = ("BMW 3 Series Sedan 2012", "BMW M3 Sedan 2012", "BMW X5 SUV 2007", "Audi S4 Sedan 2012")


def bmw_classifier(
    probabilities: list[float], *, scale: float = 10, temperature: float = 1, **options: float
) -> Classifier:
    """Among validation photos of this model, the lowest largest logit was 5, and one in twenty was below 6; none stood
    out as little as any photo here does."""
    shares = np.linspace(0, 1, 101)
    calibration = Calibration(
        temperature=temperature,
        max_logit_quantiles=tuple(np.interp(shares, [0, 0.05, 1], [5, 6, 20])),
        max_logit_zscore_quantiles=(-1.0, 0.0),
        min_quantile_quantiles=tuple(shares),
    )
    spec = ModelSpec(
        backbone="",
        head="linear",
        classes=ClassNames(BMWS),
        preprocessing=Preprocessing(height=32, width=32),
        calibration=calibration,
    )
    return Classifier(SayingEngine(probabilities, scale), spec, **options)
