"""The progress of work that takes long."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with the number of items done, such as photos, and their total."""
