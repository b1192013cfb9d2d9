"""The version of the package, apart from everything, so that every room can name it."""

__version__ = "0.1.0"
