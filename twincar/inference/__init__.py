"""Prediction: for single photos, in batches and on a cluster. Torch-free."""
