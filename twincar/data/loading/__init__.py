"""Prepared photos to batches: decoding, augmentation and the cache."""
