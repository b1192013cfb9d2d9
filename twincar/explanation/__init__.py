"""Explanation of predictions: heat maps, contrast maps of confused classes, and their faithfulness."""
