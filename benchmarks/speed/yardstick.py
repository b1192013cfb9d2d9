"""The baseline: a usual PyTorch training, written for this project.

The published recipe as it is usually written with torch, torchvision, timm and the grad-cam package: all in fp32, in
torch's default memory layout, sequentially. The package uses nothing of it.

Run as a program it is the process whose cold start is measured:
`python -m benchmarks.speed.yardstick BACKBONE WEIGHTS PHOTO`.

Shapes: N photos of H×W pixels, K classes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from timm.data.mixup import Mixup
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision import transforms

from twincar.core.augmentation import AugmentConfig

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's photos, RGB from 0 to 1."""

CLASSES = 196


def build_network(backbone: str) -> nn.Module:
    """A timm model with the published classifier in place of its own."""
    network: Any = timm.create_model(backbone, num_classes=0)
    layers = nn.Linear(network.num_features, 512), nn.ReLU(), nn.Dropout(0.2), nn.Linear(512, CLASSES)
    return nn.Sequential(network, nn.Sequential(*layers))


class TrainingStep:
    """One step of the published recipe after another, on photos that are in memory already."""

    def __init__(self, backbone: str) -> None:
        self.network = build_network(backbone).train()
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=3e-4, weight_decay=1e-5)
        self.mixup = Mixup(mixup_alpha=0.4, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=CLASSES)

    def __call__(self, images: Tensor, labels: Tensor) -> float:
        """The loss of normalised photos, N×3×H×W, with labels N."""
        mixed, targets = self.mixup(images, labels)
        loss = nn.functional.cross_entropy(self.network(mixed), targets)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        return loss.item()


def answer(network: nn.Module, photos: Sequence[Path], size: int) -> list[list[int]]:
    """The five most likely classes of each photo, all in one batch."""
    with torch.no_grad():
        probabilities = network(torch.stack([_evaluation_input(photo, size) for photo in photos])).softmax(dim=1)
    best: list[list[int]] = probabilities.topk(5).indices.tolist()
    return best


def explain(network: nn.Module, photo: Path, size: int) -> object:
    """Grad-CAM++ of the most likely class by the grad-cam package, H×W."""
    from pytorch_grad_cam import GradCAMPlusPlus

    with GradCAMPlusPlus(network, [network[0].bn2]) as cam:  # type: ignore[index]
        return cam(_evaluation_input(photo, size)[None], targets=None)[0]


def _evaluation_input(photo: Path, size: int) -> Tensor:
    chain = transforms.Compose([
        transforms.Resize(round(size / 0.875)), transforms.CenterCrop(size), transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ])  # fmt: skip
    with Image.open(photo) as image:
        tensor: Tensor = chain(image.convert("RGB"))
    return tensor


def training_transforms(strengths: AugmentConfig, *, height: int, width: int) -> transforms.Compose:
    """The published chain on Pillow images; its output is normalised float32, 3×H×W."""
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
    """Files decoded at full size by Pillow and augmented by torchvision, one at a time."""

    def __init__(self, paths: Sequence[Path], labels: Sequence[int], transform: transforms.Compose) -> None:
        self.paths = paths
        self.labels = labels
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self.paths[index]) as image:
            return self.transform(image.convert("RGB")), self.labels[index]


if __name__ == "__main__":
    backbone, weights, photo = sys.argv[1:]
    cold = build_network(backbone).eval()
    cold.load_state_dict(torch.load(weights, weights_only=True))
    print(answer(cold, [Path(photo)], 224))
