from __future__ import annotations

import pytest
import torch

from twincar.core.errors import UsageError
from twincar.models.network import CarNet
from twincar.training import precision
from twincar.training.precision import bf16_gain, choose_precision


@pytest.fixture(scope="module")
def network() -> CarNet:
    return CarNet("tf_efficientnetv2_b0", 3, drop_path=0.1)


def test_a_gpu_takes_bf16_where_it_computes_it(monkeypatch: pytest.MonkeyPatch, network: CarNet) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    assert choose_precision("auto", network, 32, 32) == "fp16"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    assert choose_precision("auto", network, 32, 32) == "bf16"
    assert choose_precision("fp32", network, 32, 32) == "fp32"


@pytest.mark.parametrize(
    ("supported", "gain", "expected"), [(False, 9.0, "fp32"), (True, 1.05, "fp32"), (True, 1.2, "bf16")]
)
def test_a_cpu_takes_bf16_where_it_gains(
    monkeypatch: pytest.MonkeyPatch, network: CarNet, supported: bool, gain: float, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(precision, "cpu_computes_bf16", lambda: supported)
    monkeypatch.setattr(precision, "bf16_gain", lambda *_: gain)
    assert choose_precision("auto", network, 32, 32) == expected
    assert choose_precision("bf16", network, 32, 32) == "bf16"
    with pytest.raises(UsageError, match="GPU"):
        choose_precision("fp16", network, 32, 32)


def test_measuring_changes_neither_the_network_nor_the_dice(network: CarNet) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    assert bf16_gain(network, 32, 64) > 0
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
