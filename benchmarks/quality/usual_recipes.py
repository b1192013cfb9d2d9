"""The usual fine-tuning recipes of timm and torchvision: their transforms, optimisers and schedules in a plain loop.

timm: the settings of the fine-tuning command in its documentation, page 'Scripts', section 'Training examples' (there
for photos with several labels): `--pretrained --batch-size 32 --epochs 30 --opt adamw --lr 1e-4 --weight-decay 0.01`.
All else are the defaults of its `train.py`: cosine schedule after a warm-up of 5 epochs, here 5/30 of the steps, random
crop of 8 to 100% of the area, flip, colour jitter 0.4, label smoothing 0.1.

torchvision: the defaults of its `references/classification/train.py`: SGD with a momentum of 0.9 and a weight decay of
1e-4, a tenth of the learning rate after each third of the steps (30 of 90 epochs), RandomResizedCrop(224), flip, and
evaluation at 224 of 256 pixels. Its learning rate of 0.1 is for 8 processes with 32 photos each; here are 32 photos, so
it is 0.1 / 8.

Both subtract the mean with which the initial weights were trained. Neither was tuned on cars.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import Any

import numpy as np
import timm
import torch
from lightning.pytorch import seed_everything
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from timm.loss.cross_entropy import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]
from timm.scheduler.scheduler_factory import create_scheduler_v2
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from benchmarks.quality.training_plan import Outcome, Plan, Start
from twincar.core.photos import read_photo
from twincar.data.dataset import PreparedData
from twincar.data.loading.loader import default_workers, labels_of
from twincar.metrics.classification import Predictions, classification_metrics

BATCH_SIZE = 32
"""Photos in a step of both recipes."""
_SIZE, _RESIZED = 224, 256  # torchvision's, pixels

Transform = Callable[[Any], Any]
"""From an RGB photo of Pillow to a tensor, 3×H×W."""


@dataclass(frozen=True, kw_only=True)
class UsualRecipe:
    """A recipe for one network and one number of steps."""

    train: Transform
    evaluation: Transform
    loss: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Callable[[int], object]
    """Sets the learning rate, given the number of steps that are done."""


def timm_recipe(network: nn.Module, plan: Plan) -> UsualRecipe:
    """The recipe of timm for a network."""
    data = resolve_data_config({}, model=network)
    optimizer = create_optimizer_v2(network, opt="adamw", lr=1e-4, weight_decay=0.01)
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched="cosine",
        num_epochs=plan.epochs,
        cooldown_epochs=0,
        warmup_epochs=plan.epochs * 5 / 30,  # type: ignore[arg-type]  # computed in steps
        warmup_lr=1e-5,
        min_lr=0,
        step_on_epochs=False,
        updates_per_epoch=plan.batches,
    )
    assert scheduler
    return UsualRecipe(
        train=create_transform(**{**data, "interpolation": "random"}, is_training=True, color_jitter=0.4),
        evaluation=create_transform(**data),
        loss=LabelSmoothingCrossEntropy(0.1),
        optimizer=optimizer,
        schedule=scheduler.step_update,
    )


def torchvision_recipe(network: nn.Module, plan: Plan) -> UsualRecipe:
    """The recipe of torchvision for a network."""
    data = resolve_data_config({}, model=network)
    end = [v2.PILToTensor(), v2.ToDtype(torch.float, scale=True), v2.Normalize(data["mean"], data["std"])]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1 / 8, momentum=0.9, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, max(1, plan.epochs * plan.batches // 3))
    return UsualRecipe(
        train=v2.Compose([v2.RandomResizedCrop(_SIZE), v2.RandomHorizontalFlip(), *end]),
        evaluation=v2.Compose([v2.Resize(_RESIZED), v2.CenterCrop(_SIZE), *end]),
        loss=nn.CrossEntropyLoss(),
        optimizer=optimizer,
        schedule=lambda _: scheduler.step(),
    )


def train_usually(make: Callable[[nn.Module, Plan], UsualRecipe], start: Start, plan: Plan) -> Outcome:
    """Train by a recipe, and score each epoch on the validation photos; the best one counts, as in TwinCar."""
    seed_everything(0, verbose=False)
    data = PreparedData.open(start.data)
    network = timm.create_model(
        start.backbone,
        pretrained=start.pretrained != "none",
        pretrained_cfg_overlay={"file": start.pretrained},
        num_classes=len(data.classes),
    )
    recipe = make(network, plan)
    training = _loader(data, "train", recipe.train)
    validation = _loader(data, "val", recipe.evaluation)
    seconds, steps, scores = 0.0, 0, []
    for _ in range(plan.epochs):
        begun = perf_counter()
        network.train()
        for images, labels in islice(training, plan.batches):
            loss = recipe.loss(network(images), labels)
            recipe.optimizer.zero_grad()
            loss.backward()
            recipe.optimizer.step()
            steps += 1
            recipe.schedule(steps)
        seconds += perf_counter() - begun
        scores.append(_score(network, validation))
    accuracy, macro_f1 = max(scores, key=lambda score: score[1])
    return Outcome(seconds, plan.epochs, accuracy, macro_f1)


class _Photos(Dataset[tuple[Tensor, int]]):
    def __init__(self, data: PreparedData, split: str, transform: Transform) -> None:
        annotations = data.split(split)
        self.photos = [data.photo(annotation) for annotation in annotations]
        self.labels = labels_of(annotations)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(read_photo(self.photos[index])), int(self.labels[index])


def _loader(data: PreparedData, split: str, transform: Transform) -> DataLoader[tuple[Tensor, int]]:
    return DataLoader(
        _Photos(data, split, transform),
        batch_size=BATCH_SIZE,
        shuffle=split == "train",
        num_workers=default_workers(),
        persistent_workers=True,
    )


@torch.inference_mode()
def _score(network: nn.Module, photos: DataLoader[tuple[Tensor, int]]) -> tuple[float, float]:
    """Accuracy and macro-F1."""
    network.eval()
    batches = [(labels.numpy(), network(images).softmax(1).numpy()) for images, labels in photos]
    labels, probabilities = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    metrics = classification_metrics(Predictions.from_probabilities(labels, probabilities))
    return metrics["acc"], metrics["f1_macro"]
