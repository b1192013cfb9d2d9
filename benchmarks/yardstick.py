"""The yardstick: what a usual PyTorch training does, in this project's own words.

The published recipe as one writes it with torchvision and nothing else. Nothing here is used by the package.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import transforms

from twincar.config import AugmentConfig

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's photos, RGB from 0 to 1."""


def training_transforms(strengths: AugmentConfig, *, height: int, width: int) -> transforms.Compose:
    """The published chain on Pillow images; what leaves it is normalised float32, 3×H×W."""
    return transforms.Compose(
        [
            transforms.RandomResizedCrop((height, width), strengths.crop_scale, strengths.crop_ratio),
            transforms.RandomHorizontalFlip(strengths.flip),
            transforms.RandomRotation(strengths.rotation),
            transforms.ColorJitter(strengths.brightness, strengths.contrast, strengths.saturation, strengths.hue),
            transforms.RandomApply([transforms.GaussianBlur(3)], strengths.blur),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )


class PillowPhotos(Dataset[tuple[Tensor, int]]):
    """Files decoded whole by Pillow and varied by torchvision, one at a time."""

    def __init__(self, paths: Sequence[Path], labels: Sequence[int], transform: transforms.Compose) -> None:
        self.paths = paths
        self.labels = labels
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self.paths[index]) as image:
            return self.transform(image.convert("RGB")), self.labels[index]
