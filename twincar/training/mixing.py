"""Mixup (Zhang et al., 2018) and CutMix (Yun et al., 2019) of a batch, by timm, for batches of any length.

Shapes: N photos of H×W pixels, K classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.data.mixup import Mixup
from torch import Tensor


class BatchMixer:
    """Turns photos and labels into mixed photos and soft targets.

    timm mixes photo i with photo N-1-i and needs an even N; in an odd batch, such as a short last one, the last photo
    is not mixed. The random numbers are those of numpy's global generator.

    Args:
        num_classes: K.
        mixup: alpha of Mixup's Beta distribution; 0 switches it off.
        cutmix: the same for CutMix. With both, each batch is mixed by one of them, chosen at random.
        probability: share of the batches that are mixed.
        label_smoothing: share of each target that is spread evenly over all classes.
    """

    def __init__(
        self, num_classes: int, *, mixup: float, cutmix: float, probability: float, label_smoothing: float
    ) -> None:
        self.num_classes = num_classes
        self.smoothing = label_smoothing
        self.mixup = None
        if probability and (mixup or cutmix):
            self.mixup = Mixup(  # type: ignore[no-untyped-call]
                mixup_alpha=mixup,
                cutmix_alpha=cutmix,
                prob=probability,
                label_smoothing=label_smoothing,
                num_classes=num_classes,
            )

    def __call__(self, images: Tensor, labels: Tensor, *, mix: bool = True) -> tuple[Tensor, Tensor]:
        """Mix photos, N×3×H×W, with labels, N; returns float photos, N×3×H×W, and targets, N×K, whose rows sum to 1.

        Without `mix`, the photos are only converted to floats and the labels to smoothed targets.
        """
        images = images.float()
        even = len(images) - len(images) % 2
        if self.mixup is None or not mix or not even:
            return images, self._smoothed(labels)
        mixed, targets = self.mixup(images[:even], labels[:even])
        if even == len(images):
            return mixed, targets
        return torch.cat([mixed, images[even:]]), torch.cat([targets, self._smoothed(labels[even:])])

    def _smoothed(self, labels: Tensor) -> Tensor:
        one_hot = F.one_hot(labels, self.num_classes).float()
        return one_hot * (1 - self.smoothing) + self.smoothing / self.num_classes
