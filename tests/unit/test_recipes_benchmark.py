"""The parts of `benchmarks.quality.recipes`: how long each training is, and the recipes of others."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch
from conftest import draw_car
from small_backbone import BACKBONE

import twincar
from benchmarks.quality.recipes import train_ours
from benchmarks.quality.training_plan import Photos, Plan, Start
from benchmarks.quality.usual_recipes import UsualRecipe, timm_recipe, torchvision_recipe, train_usually
from twincar.core.config import TrainConfig

PHOTOS = Photos(train=6528, val=745, batch=64)
"""102 steps in a pass, and 6 batches of validation photos."""


@pytest.mark.parametrize(("photos", "plan"), [
    (10 * 6528, Plan(10, 102)),
    (9.5 * 6528, Plan(10, 97)),
    (6528, Plan(4, 26)),
    (1000, Plan(4, 6)),
])  # fmt: skip
def test_a_training_is_divided_into_equal_parts(photos: float, plan: Plan) -> None:
    assert PHOTOS.plan(photos) == plan


def test_photos_are_counted_with_a_short_last_batch() -> None:
    assert PHOTOS.seen(Plan(10, 97), 3) == 3 * 97 * 64
    assert Photos(train=36, val=12, batch=32).seen(Plan(4, 2), 4) == 4 * 36


def test_a_recipe_is_compressed_with_its_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """`best` has 5 of 60 epochs of warm-up and no early stop, `published` a patience of 7 epochs."""
    asked: list[TrainConfig] = []
    result = SimpleNamespace(history=[0] * 3, best={"val_acc": 0.5, "val_f1_macro": 0.25})
    monkeypatch.setattr(twincar, "train", lambda config, run: (asked.append(config), result)[1])  # noqa: ARG005
    for recipe in ("best", "published"):
        config = TrainConfig.resolve(recipe=recipe, flags={"data": "cars", "backbone": "resnet18"})
        outcome = train_ours(config, Plan(12, 30))
        assert (outcome.epochs, outcome.accuracy, outcome.macro_f1) == (3, 0.5, 0.25)
    best, published = asked
    assert (best.epochs, best.limit_batches, best.warmup_epochs, best.patience) == (12, 30, 1.0, 12)
    assert (best.backbone, best.layer_decay, published.patience) == ("resnet18", 0.85, 7)


def rates_of(recipe: UsualRecipe, steps: int) -> list[float]:
    """The learning rate of each step."""
    rates = []
    for done in range(steps):
        rates.append(recipe.optimizer.param_groups[0]["lr"])
        recipe.optimizer.step()
        recipe.schedule(done + 1)
    return rates


def test_the_learning_rates_of_timm_and_torchvision() -> None:
    network = timm.create_model(BACKBONE, num_classes=4)
    usual = rates_of(timm_recipe(network, Plan(6, 10)), 60)
    assert usual[0] == pytest.approx(1e-5)
    assert usual[5] == pytest.approx((1e-5 + 1e-4) / 2), "half of the warm-up of 10 steps"
    assert usual[30] == pytest.approx(0.5e-4), "the cosine's half is that of all steps"
    assert max(usual) == usual[10] > 0.9e-4
    assert 0 < usual[-1] < 1e-6
    steps = rates_of(torchvision_recipe(network, Plan(6, 10)), 60)
    assert steps == pytest.approx([0.0125] * 20 + [0.00125] * 20 + [0.000125] * 20)


@pytest.mark.parametrize("make", [timm_recipe, torchvision_recipe])
def test_photos_are_evaluated_as_the_network_was_trained(make) -> None:  # type: ignore[no-untyped-def]
    """Of the middle of the photo, and with the network's mean and standard deviation; in training of all of it."""
    network = timm.create_model(BACKBONE, num_classes=4)
    recipe = make(network, Plan(4, 1))
    photo = draw_car(0, 0, (400, 300))
    side = 224 if make is torchvision_recipe else 192
    seen = recipe.evaluation(photo)
    assert seen.shape == (3, side, side)
    mean, std = (torch.tensor(network.pretrained_cfg[name])[:, None, None] for name in ("mean", "std"))
    pixels = seen * std + mean
    assert -0.01 < pixels.min() < pixels.max() < 1.01
    torch.manual_seed(0)
    assert not torch.equal(recipe.train(photo), recipe.train(photo))


def test_there_is_no_network_without_its_weights(small_data: Path, tmp_path: Path) -> None:
    """A file that is no weights is not passed over."""
    (tmp_path / "weights.safetensors").write_bytes(b"nothing")
    with pytest.raises(Exception, match=r"(?i)header|safetensors"):
        train_usually(timm_recipe, Start(small_data, BACKBONE, str(tmp_path / "weights.safetensors")), Plan(4, 1))
