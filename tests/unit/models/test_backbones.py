"""Any timm network with a feature map is a backbone; what has none is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from conftest import small_config
from safetensors.torch import save_file

from twincar import load
from twincar.core.errors import UsageError
from twincar.core.labels import ClassNames, stanford_cars
from twincar.core.runs import RunFolder
from twincar.data.dataset import PreparedData
from twincar.deploy.export import export
from twincar.explanation.randomised import randomised_engines
from twincar.models.checkpoint import load_published_model
from twincar.models.network import CarNet, classifies_as_timm, load_pretrained, timm_weights
from twincar.training.train import train

# One of each family; their larger members differ in width and depth.
FAMILIES = ["test_efficientnet", "test_resnet", "test_convnext", "regnetx_002", "mobilenetv3_small_050"]


@pytest.mark.parametrize("backbone", FAMILIES)
def test_a_network_of_each_family_starts_from_timms_weights(backbone: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = timm.create_model(backbone, num_classes=5).eval()
    save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    network = CarNet(backbone, 7).eval()
    load_pretrained(network, str(tmp_path / "theirs.safetensors"), backbone)
    images = torch.rand(2, 3, 96, 128)
    normalised = (images * 255 - network.mean) / network.std
    unpooled = timm.create_model(backbone, num_classes=0, global_pool="").eval()
    unpooled.load_state_dict(network.backbone.state_dict())
    with torch.inference_mode():
        features = network.features(images * 255)
        assert torch.allclose(features, unpooled(normalised), atol=1e-5)
        assert features.shape[1] == network.head[0].in_features


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_resnet", "regnetx_002"])
def test_timms_own_logits_are_those_of_the_same_weights(backbone: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = timm.create_model(backbone, num_classes=196).eval()
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    network, _ = load_published_model(tmp_path / "theirs.pth", ClassNames(stanford_cars()), backbone)
    images = torch.rand(2, 3, 96, 128)
    with torch.inference_mode():
        expected = theirs((images * 255 - network.mean) / network.std)
        assert torch.allclose(network(images * 255), expected, atol=1e-4)
    assert timm_weights(network).keys() == theirs.state_dict().keys()


@pytest.mark.parametrize("backbone", ["test_convnext", "mobilenetv3_small_050"])
def test_weights_that_timm_would_use_in_another_way_are_refused(backbone: str, tmp_path: Path) -> None:
    theirs = timm.create_model(backbone, num_classes=196)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    with pytest.raises(UsageError, match="before the pooling"):
        load_published_model(tmp_path / "theirs.pth", ClassNames(stanford_cars()), backbone)
    assert not classifies_as_timm(CarNet(backbone, 3))


@pytest.mark.parametrize(
    "backbone",
    [
        pytest.param("test_convnext"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES if name != "test_convnext"),
    ],
)
def test_a_network_of_each_family_trains_exports_and_predicts(backbone: str, small_data: Path, tmp_path: Path) -> None:
    config = small_config(small_data, backbone=backbone, epochs=1, limit_batches=1, drop_path=0.1, layer_decay=0.9)
    result = train(config, tmp_path / "run")
    assert len(result.history) == 1
    export(result.run.path, out=tmp_path / "model.onnx")
    data = PreparedData.open(small_data)
    photo = data.path(data.split("val")[0])
    exported, trained = (load(path).predict(photo) for path in (tmp_path / "model.onnx", result.run.path))
    assert exported.top1.probability == pytest.approx(trained.top1.probability, abs=1e-3)
    engines = randomised_engines(RunFolder(result.run.path).best)
    photos = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    maps = [engine.logits_and_features(photos)[1] for engine in engines.values()]
    assert not np.allclose(maps[0], maps[1])  # its last stage is random
    assert not np.allclose(maps[1], maps[2])  # and more than its last stage


@pytest.mark.parametrize(
    ("backbone", "why"),
    [
        ("test_vit", "has the shape"),
        ("resnet18_", "Expected the name of a timm network"),
        ("hf-hub:someone/resnet18", "Expected the name of a timm network"),
        ("efficientnet_b99", "similar names are efficientnet_b"),
        ("swin_tiny_patch4_window7_224", "has none"),
    ],
)
def test_what_has_no_feature_map_is_refused_with_the_families_that_have_one(backbone: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        CarNet(backbone, 3)
    if "name of" not in str(caught.value):
        assert "ConvNeXt" in str(caught.value)
