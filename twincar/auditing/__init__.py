"""Checks of a data set: duplicates, leaks between splits, outliers, faulty classes and suspect labels."""
