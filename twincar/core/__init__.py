"""What every part stands on: errors, labels, configuration, files, runs and photos. Imports nothing above it."""
