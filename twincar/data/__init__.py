"""From a source of photos to checked annotations, and from those to batches."""
