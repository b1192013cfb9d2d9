"""Speed: ratios of two implementations that run alternately."""
