"""How several training processes share the photos of an epoch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shard:
    """The part of every batch that one of several training processes takes."""

    rank: int = 0
    """Index of the process, from 0."""
    count: int = 1
    """Number of processes."""

    def positions(self, total: int, batch_size: int) -> list[int]:
        """The indices in an epoch that this process takes, batch by batch.

        A shard has as many photos from the front of the batch as from its back, mirrored, so that photos i and N-1-i,
        which may be mixed with each other, are in the same shard. In a short last batch, as many photos are left out
        as makes all shards equally large.

        Args:
            total: number of photos in the epoch.
            batch_size: photos in a batch, of all processes together.
        """
        if self.count == 1:
            return list(range(total))
        positions = []
        for first in range(0, total, batch_size):
            half = min(batch_size, total - first) // (2 * self.count)  # of a shard
            front, end = first + self.rank * half, first + 2 * half * self.count - self.rank * half
            positions += [*range(front, front + half), *range(end - half, end)]
        return positions
