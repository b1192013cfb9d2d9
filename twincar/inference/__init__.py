"""From photos to predictions, one at a time, in batches and on a cluster. Torch-free."""
