"""The report page: results read back, figures for Plotly, photos with heat maps."""
