"""The options of the prediction for one photo, of which a batch may hold several."""

from __future__ import annotations

from dataclasses import dataclass

from twincar.models.levels import LevelName


@dataclass(frozen=True)
class PhotoOptions:
    """The options of the prediction for one photo."""

    top_k: int = 5
    """Number of candidates in the prediction."""
    level: LevelName | None = None
    """The level of the answer; by default the most specific one that is probable enough."""
    explain: bool = False
    """Whether to add a heatmap of what the model looked at."""
