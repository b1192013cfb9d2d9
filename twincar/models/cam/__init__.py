"""Class activation maps and how they are drawn. Torch-free."""
