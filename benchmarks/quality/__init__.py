"""Quality: accuracy of models, of label review and of duplicate detection."""
