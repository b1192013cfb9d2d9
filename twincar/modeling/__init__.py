"""The network, what is mixed into its input, and how it is saved, loaded and run."""
