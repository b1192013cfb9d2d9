from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from twincar.errors import CheckpointError, PretrainedWeightsError, UsageError
from twincar.modeling.network import CarNet, load_pretrained, weight_groups

B0 = "tf_efficientnetv2_b0"


def test_the_published_head_has_its_layers() -> None:
    head = CarNet(B0, 196).head
    shapes = [tuple(parameter.shape) for parameter in head.parameters()]
    assert shapes == [(512, 1280), (512,), (196, 512), (196,)]
    assert [type(layer).__name__ for layer in head.children()] == ["Linear", "ReLU", "Dropout", "Linear"]
    assert head[2].p == 0.2  # type: ignore[index]


def test_equals_timm_on_normalised_photos() -> None:
    torch.manual_seed(0)
    network = CarNet(B0, 5, head="linear").eval()
    model = timm.create_model(B0, num_classes=5).eval()
    model.load_state_dict(network.backbone.state_dict(), strict=False)
    model.classifier.load_state_dict(network.head.state_dict())
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    config = model.pretrained_cfg
    mean, std = (torch.tensor(config[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        expected = model((images / 255 - mean) / std)
        torch.testing.assert_close(network(images), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("backbone", "mean"), [("efficientnetv2_rw_s", 0.485), ("tf_efficientnetv2_s.in21k", 0.5)])
def test_statistics_are_the_backbones_own(backbone: str, mean: float) -> None:
    assert float(CarNet(backbone, 2).mean[0, 0]) == pytest.approx(mean * 255)


@pytest.mark.parametrize("name", ["resnet50", "efficientnetv2", "", "tf_efficientnetv2_x"])
def test_another_architecture_is_refused_with_names_that_are_near(name: str) -> None:
    with pytest.raises(UsageError, match="efficientnetv2_"):
        CarNet(name, 2)


def test_weights_that_cannot_be_had_name_the_three_ways_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    network = CarNet(B0, 2)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(PretrainedWeightsError, match=r"HF_ENDPOINT.*--pretrained FILE.*--pretrained none"):
        load_pretrained(network, "hub", B0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_pretrained_weights_from_a_file(tmp_path: Path, suffix: str) -> None:
    model = timm.create_model(B0)  # with its old classifier of 1,000 classes
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(model.state_dict(), path)
    else:
        save_file(model.state_dict(), path)
    network = CarNet(B0, 2)
    load_pretrained(network, str(path), B0)
    for name, tensor in network.backbone.state_dict().items():
        torch.testing.assert_close(tensor, model.state_dict()[name])


def test_pretrained_weights_of_another_backbone_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(timm.create_model("tf_efficientnetv2_b1").state_dict(), path)
    with pytest.raises(CheckpointError, match="another architecture"):
        load_pretrained(CarNet(B0, 2), str(path), B0)


def test_norms_and_biases_are_not_decayed() -> None:
    network = CarNet(B0, 2)
    decayed, plain = weight_groups(network, learning_rate=0.01, weight_decay=0.1)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    assert (decayed["lr"], plain["lr"]) == (0.01, 0.01)
    ids = {id(parameter) for parameter in plain["params"]}
    names = {name for name, parameter in network.named_parameters() if id(parameter) in ids}
    assert all(name.endswith("bias") or ".bn" in name for name in names)
    assert len(decayed["params"]) + len(plain["params"]) == len(list(network.parameters()))


def test_rates_fall_from_stage_to_stage() -> None:
    """A b0 has a stem, six stages of blocks and the last convolution, which timm counts to the last of these."""
    network = CarNet(B0, 2)
    groups = weight_groups(network, learning_rate=1.0, weight_decay=0.1, layer_decay=0.5)
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    assert len(rates) == len(list(network.parameters()))
    named = {name: rates[id(parameter)] for name, parameter in network.named_parameters()}
    assert named["head.0.weight"] == named["head.3.bias"] == 1
    assert named["backbone.conv_head.weight"] == named["backbone.blocks.5.0.conv_pw.weight"] == 1
    for stage in range(6):
        own = {rate for name, rate in named.items() if name.startswith(f"backbone.blocks.{stage}.")}
        assert own == {0.5 ** (5 - stage)}
    assert named["backbone.conv_stem.weight"] == named["backbone.bn1.bias"] == 0.5**6
