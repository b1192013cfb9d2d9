"""The callback by which long work reports its progress."""

from __future__ import annotations

from collections.abc import Callable

OnPhoto = Callable[[int, int], None]
"""Called with the number of photos done and their total."""
