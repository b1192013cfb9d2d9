"""Grad-CAM++ on the larger backbones of each family, which differ from those of the gate in width and depth only."""

from __future__ import annotations

import pytest
from grad_cam_package import compare

LARGER = ["efficientnetv2_rw_s", "tf_efficientnetv2_b3", "efficientnetv2_m", "tf_efficientnetv2_m"]


@pytest.mark.parametrize("backbone", LARGER)
def test_equals_the_grad_cam_package_on_larger_networks(backbone: str) -> None:
    compare(backbone, "mlp")
