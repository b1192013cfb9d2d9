"""The settings of the augmentation, a part of the configuration of a training run."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

STRICT = ConfigDict(extra="forbid")
"""A name that is not a setting is an error."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AugmentConfig:
    """Augmentation of the training photos; the defaults are those of the published recipe."""

    box_jitter: tuple[Annotated[float, Field(ge=0, le=0.4)], Annotated[float, Field(ge=0, le=1)]] = (0.0, 0.0)
    """How far each edge of the car's box (of the photo, if it has none) may move before the random crop, inwards and
    outwards, as shares of the box's side; the boxes of detectors and people are as loose. (0, 0) is off."""
    crop_scale: tuple[Positive, Positive] = (0.7, 1.0)
    """Area of the random crop, as a share of the area of the box, or of the photo; lowest and highest."""
    crop_ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    """Aspect ratio (width by height) of the random crop before it is resized to the network's input."""
    flip: Probability = 0.5
    """Probability of a horizontal flip."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 15.0
    """Rotation is drawn from plus or minus this, degrees."""
    brightness: Probability = 0.4
    """Brightness factor is drawn from 1 plus or minus this."""
    contrast: Probability = 0.4
    """Contrast factor is drawn from 1 plus or minus this."""
    saturation: Probability = 0.4
    """Saturation factor is drawn from 1 plus or minus this."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.2
    """Hue shift is drawn from plus or minus this, as a share of the colour circle."""
    blur: Probability = 0.15
    """Probability of a Gaussian blur over 3 pixels."""
    low_quality: Probability = 0.0
    """Probability that a photo loses resolution, down to 40% of the network's input, and is compressed as JPEG at a
    quality of 20 to 95: like a small picture of a web page that was saved more than once."""
    trivial_augment: bool = False
    """Apply TrivialAugment (Müller and Hutter, 2021) after the others: one of 14 operations at a random strength."""

    def __post_init__(self) -> None:
        if not self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError("crop_scale must be two numbers in rising order, at most 1")
        if self.crop_ratio[0] > self.crop_ratio[1]:
            raise ValueError("crop_ratio must be two numbers in rising order")
