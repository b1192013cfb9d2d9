"""What a report page is made of: files read back, figures for Plotly, photos with heat maps."""
