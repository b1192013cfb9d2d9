"""Whether a data set is sound: damage, duplicates, leaks, outliers and doubtful labels."""
