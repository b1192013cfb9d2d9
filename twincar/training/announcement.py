"""What a training logs before its first step: what is trained on which data, and what may disappoint."""

from __future__ import annotations

import logging

from lightning.pytorch import Trainer

from twincar.core.config import TrainConfig
from twincar.core.labels import shorten
from twincar.core.recipes import FROM_RANDOM
from twincar.core.wording import FEW_PHOTOS, counted
from twincar.data.dataset import PreparedData
from twincar.models.network import WITHOUT_HUB

log = logging.getLogger(__name__)


def announce(config: TrainConfig, data: PreparedData, trainer: Trainer) -> None:
    """Log what is trained on which data, and warn of few validation photos and of random weights."""
    where = f"{trainer.world_size} devices" if trainer.world_size > 1 else trainer.strategy.root_device
    log.info(
        "Training %s on %d photos of %d classes, %d×%d pixels (height×width), on %s in %s.",
        _describe_start(config), len(data.split("train")), len(data.classes), config.image_height, config.image_width,
        where, config.precision,
    )  # fmt: skip
    if (chosen_on := len(data.split("val"))) < FEW_PHOTOS:
        log.warning(
            "Only %s to choose the best epoch by and to calibrate on: its figures on them, and its probabilities, are "
            "uncertain.", counted(chosen_on, "validation photo"),
        )  # fmt: skip
    if config.pretrained == "none" and config.recipe not in FROM_RANDOM:
        log.warning(
            "The recipe %s is meant for pretrained weights; from random ones a network of this size is near chance for "
            "many epochs.\n%s", config.recipe, WITHOUT_HUB,
        )  # fmt: skip
    if without := data.classes_without("val"):
        log.warning(
            "%d of the %d classes have no validation photos (%s): the best epoch is chosen, and the calibration "
            "fitted, on the others.", len(without), len(data.classes), shorten(without),
        )  # fmt: skip


def _describe_start(config: TrainConfig) -> str:
    """The backbone, and the weights with which it begins."""
    if config.pretrained == "none":
        return f"{config.backbone.partition('.')[0]} from random weights"  # what follows the dot names pretrained ones
    return f"{config.backbone} from {'pretrained weights' if config.pretrained == 'hub' else config.pretrained}"
