"""Loading batches of prepared photos: decoding, augmentation and the cache."""
