"""How good a model is, and on what: metrics, robustness, open set, figures and the report."""
