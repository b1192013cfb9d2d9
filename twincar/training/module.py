"""The LightningModule for training: loss, optimiser, schedule and size of the photos.

Shapes: N photos of H×W pixels, K classes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, seed_everything
from numpy.typing import NDArray
from torch import Tensor

from twincar.core.config import TrainConfig
from twincar.core.labels import ClassNames
from twincar.core.runs import MONITOR
from twincar.models.network import CarNet, weight_groups
from twincar.training.cuda_graphs import Forward, record_steps
from twincar.training.distillation import Teachers, distillation_loss
from twincar.training.distributed import broadcast_buffers, gather_from_all
from twincar.training.mixing import BatchMixer

_STAGES = 4  # stages in which the size of the training photos grows
_PLATEAU_PATIENCE = 3  # epochs without a better macro-F1 after which the learning rate falls to a tenth


class TrainingModule(LightningModule):
    """Loss, optimiser and schedule around a network; validation only collects logits for `Recorder`."""

    def __init__(
        self,
        network: CarNet,
        config: TrainConfig,
        classes: ClassNames,
        steps_per_epoch: int,
        batch_size: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.mixer = BatchMixer(
            len(classes),
            mixup=config.mixup,
            cutmix=config.cutmix,
            probability=config.mix_probability,
            label_smoothing=config.label_smoothing,
        )
        self.teachers = Teachers(config.teachers, classes) if config.teachers else None
        self.steps_per_epoch = steps_per_epoch
        self.batch_size = batch_size
        self.compiled = torch.compile(network.forward) if config.compile else None
        self.recorded: dict[torch.Size, Forward] = {}
        self.validated: list[tuple[Tensor, Tensor]] = []

    def on_fit_start(self) -> None:
        """Record the network's steps as CUDA graphs on a single GPU; no loader has started yet."""
        if self.device.type == "cuda" and self.trainer.world_size == 1 and not self.compiled:
            sizes = {training_size(self.config, epoch) for epoch in range(self.config.epochs)}
            self.recorded = record_steps(
                self.network,
                sorted(sizes, reverse=True),  # the largest first, so that the others share its memory
                batch_size=self.batch_size,
                precision=self.config.precision,
            )

    def on_train_epoch_start(self) -> None:
        """Seed dropout, drop path and mixing for this epoch."""
        entropy = np.random.SeedSequence((self.config.seed, self.current_epoch)).generate_state(1)
        seed_everything(int(entropy[0]), verbose=False)  # mixing uses numpy's generator: the same in every process
        if self.global_rank:
            torch.manual_seed(int(entropy[0]) + self.global_rank)  # dropout and drop path differ between processes

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Loss of one batch; a mixed photo counts as right if the class of its larger share is predicted."""
        images, labels = batch
        images, targets = self.mixer(self.resized(images), labels, mix=self.mixing)
        logits = self._logits(images)
        loss = self._loss(logits, targets, images)
        right = (logits.argmax(1) == targets.argmax(1)).float().mean()
        self.log("step loss", loss, prog_bar=True, logger=False)  # the epoch's line has the mean of all
        scores = {"train_loss": loss, "train_acc": right}
        self.log_dict(scores, on_step=False, on_epoch=True, batch_size=len(images), sync_dist=True)
        return loss

    def _loss(self, logits: Tensor, targets: Tensor, images: Tensor) -> Tensor:
        """Cross-entropy with the targets, N×K, and, in distillation, with what the teachers predict of these photos."""
        loss = F.cross_entropy(logits, targets)
        if self.teachers is None:
            return loss
        share, temperature = self.config.distill_weight, self.config.distill_temperature
        taught = self.teachers.probabilities(images, temperature)
        return (1 - share) * loss + share * distillation_loss(logits, taught, temperature)

    def _logits(self, images: Tensor) -> Tensor:
        """Logits by the fastest available path; a short last batch is not compiled, because that takes minutes."""
        if self.compiled and len(images) == self.batch_size:
            return self.compiled(images)
        return self.recorded.get(images.shape, self.network)(images)

    @property
    def mixing(self) -> bool:
        """Whether this epoch's batches are mixed."""
        return self.current_epoch < round(self.config.mix_until * self.config.epochs)

    def resized(self, images: Tensor) -> Tensor:
        """The photos resized to this epoch's size, N×3×h×w."""
        size = training_size(self.config, self.current_epoch)
        if images.shape[2:] == size:
            return images
        return F.interpolate(images.float(), size, mode="bilinear", antialias=True)

    def on_validation_epoch_start(self) -> None:
        """Clear the results of the previous epoch."""
        self.validated = []
        broadcast_buffers(self.network)

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        """Collect labels and logits."""
        images, labels = batch
        self.validated.append((labels.cpu(), self.network(images.float()).float().cpu()))

    def validation_results(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Labels, N, and logits, N×K, of the whole validation split, gathered from all processes."""
        own = tuple(torch.cat(parts).numpy() for parts in zip(*self.validated, strict=True))
        labels, logits = (np.concatenate(parts) for parts in zip(*gather_from_all(own), strict=True))
        return labels, logits

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,  # noqa: ARG002
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,  # noqa: ARG002  # by norm
    ) -> None:
        """Clip by norm; the Trainer refuses that for a fused optimizer, although gradients in bf16 are not scaled."""
        if gradient_clip_val:
            torch.nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)

    def configure_optimizers(self) -> Any:
        """AdamW and the configured schedule."""
        config = self.config
        groups = weight_groups(
            self.network,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            layer_decay=config.layer_decay,
        )
        # The fused step unscales fp16 gradients itself, but clipping needs them unscaled before it.
        fused = self.trainer.precision != "16-mixed"
        optimizer = torch.optim.AdamW(groups, fused=fused)
        if config.schedule == "plateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", patience=_PLATEAU_PATIENCE)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": MONITOR}}
        total = config.epochs * self.steps_per_epoch
        warmup = round(config.warmup_epochs * self.steps_per_epoch)
        cosine = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_cosine(step, warmup, total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}


def warmup_cosine(step: int, warmup: int, total: int) -> float:
    """Factor on the peak learning rate: linear warm-up over `warmup` steps, then a half cosine to 0 at `total`."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def training_size(config: TrainConfig, epoch: int) -> tuple[int, int]:
    """Height and width of the photos in an epoch, from 0: they grow in stages (Tan and Le, 2021, section 4.2).

    Sizes below the full input are multiples of 32 pixels, the stride of the backbone.
    """
    stage = min(_STAGES - 1, _STAGES * epoch // config.epochs)
    share = config.initial_resolution + (1 - config.initial_resolution) * stage / (_STAGES - 1)
    height, width = (
        min(full, max(32, 32 * round(share * full / 32))) if share < 1 else full
        for full in (config.image_height, config.image_width)
    )
    return height, width
