"""Data sets: reading sources, preparing and checking them, and loading batches."""
