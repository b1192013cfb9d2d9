"""How fast: ratios of two things run in turn."""
