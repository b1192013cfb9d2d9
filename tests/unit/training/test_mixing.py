from __future__ import annotations

import numpy as np
import pytest
import torch

from twincar.training.mixing import BatchMixer


def mixer(*, mixup: float = 0.4, cutmix: float = 1.0, probability: float = 1.0) -> BatchMixer:
    return BatchMixer(5, mixup=mixup, cutmix=cutmix, probability=probability, label_smoothing=0.1)


@pytest.mark.parametrize("length", [1, 2, 3, 8, 9])
@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 1.0), (0.4, 0.0), (0.0, 1.0), (0.0, 0.0)])
def test_targets_sum_to_one_for_batches_of_any_length(length: int, mixup: float, cutmix: float) -> None:
    images = torch.randint(0, 256, (length, 3, 16, 16), dtype=torch.uint8)
    mixed, targets = mixer(mixup=mixup, cutmix=cutmix)(images, torch.arange(length) % 5)
    assert mixed.shape == images.shape
    torch.testing.assert_close(targets.sum(1), torch.ones(length))


def test_the_target_share_is_the_pixel_share() -> None:
    """Photos of value 0 and 200: the mean of a mixed one tells how much of the other is in it."""
    images = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
    images[2:] = 200
    labels = torch.tensor([0, 0, 1, 1])
    for seed in range(20):
        np.random.seed(seed)  # noqa: NPY002  # the dice timm throws
        mixed, targets = mixer()(images, labels)
        share = mixed.mean(dim=(1, 2, 3)) / 200
        smoothed = 0.02 + share * 0.9  # smoothing 0.1 over 5 classes
        torch.testing.assert_close(targets[:, 1], smoothed.float(), atol=1e-3, rtol=0)


def test_the_odd_photo_is_left_as_it_is() -> None:
    images = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8)
    mixed, targets = mixer()(images, torch.tensor([0, 1, 2]))
    torch.testing.assert_close(mixed[2], images[2].float())
    torch.testing.assert_close(targets[2], torch.tensor([0.02, 0.02, 0.92, 0.02, 0.02]))


def test_off_is_plain_label_smoothing() -> None:
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    mixed, targets = mixer(probability=0.0)(images, torch.tensor([0, 1, 2, 3]))
    torch.testing.assert_close(mixed, images.float())
    torch.testing.assert_close(targets.amax(1), torch.full((4,), 0.92))


def test_an_epoch_without_mixing_sees_photos_as_they_are() -> None:
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    plain, targets = mixer()(images, torch.tensor([0, 1, 2, 3]), mix=False)
    torch.testing.assert_close(plain, images.float())
    torch.testing.assert_close(targets.amax(1), torch.full((4,), 0.92))
