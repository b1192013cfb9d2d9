"""Class activation maps, occlusion and overlays. Torch-free."""
