"""Training: from a prepared data set to a run folder."""
