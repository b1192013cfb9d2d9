"""An EfficientNetV2 of 80 thousand weights, in timm's registry: what the tests train in place of a b0 of 6 million.

It has a b0's kinds of blocks, one of each, and its strides, so that feature maps are as large as a b0's.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

BACKBONE = "test_efficientnetv2"
_BLOCKS = [
    ["cn_r1_k3_s1_e1_c8_skip"],
    ["er_r1_k3_s2_e4_c16"],
    ["er_r1_k3_s2_e4_c24"],
    ["ir_r1_k3_s2_e4_c32_se0.25"],
    ["ir_r2_k3_s1_e4_c40_se0.25"],
    ["ir_r1_k3_s2_e4_c48_se0.25"],
]
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_INPUT = {"input_size": (3, 192, 192), "mean": _MEAN, "std": _STD, "first_conv": "conv_stem"}
default_cfgs = {BACKBONE: {"url": "", "num_classes": 1000, "classifier": "classifier", **_INPUT}}
"""Where timm looks for it."""


class _WhenImported(MetaPathFinder):
    """Registers as soon as timm is there; many processes do without it, and are tested to."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "timm":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module
            spec.loader.exec_module = lambda module: (execute(module), _register())[0]  # type: ignore[method-assign]
        return spec


def register_with_timm() -> None:
    """Let timm know the backbone, now or when it is imported."""
    if "timm" in sys.modules:
        _register()
    elif not any(isinstance(finder, _WhenImported) for finder in sys.meta_path):
        sys.meta_path.insert(0, _WhenImported())


def _register() -> None:
    from timm.models import build_model_with_cfg, register_model
    from timm.models._efficientnet_builder import BN_EPS_TF_DEFAULT, decode_arch_def, resolve_bn_args
    from timm.models.efficientnet import EfficientNet
    from torch import nn

    def test_efficientnetv2(pretrained: bool = False, **values: Any) -> EfficientNet:
        values.setdefault("bn_eps", BN_EPS_TF_DEFAULT)
        norm = partial(nn.BatchNorm2d, **resolve_bn_args(values))
        sizes = {"stem_size": 8, "num_features": 160, "pad_type": "same", "act_layer": nn.SiLU, "norm_layer": norm}
        blocks = decode_arch_def(_BLOCKS)
        return build_model_with_cfg(EfficientNet, BACKBONE, pretrained, block_args=blocks, **sizes, **values)

    register_model(test_efficientnetv2)
