"""Evaluation of models: metrics on a split, robustness, open set, calibration, figures and the report."""
