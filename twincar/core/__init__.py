"""The common basis: errors, labels, configuration, files, runs and photos. Imports no other folder of the package."""
