"""Which shards a worker gets next: blocks that are as large as shards are quick, and shrink toward the end."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from workflows.run.shard import Shard

MOST_SHARDS = 256  # per block
QUICK_SECONDS, SLOW_SECONDS = 0.5, 1.0  # what a block should take
BLOCKS_LEFT = 4  # for each worker, at least, when a block is cut


class Queue:
    """The shards that no worker has.

    Args:
        workers: how many will share them, at most.
    """

    def __init__(self, shards: Iterable[Shard], count: int, workers: int) -> None:
        self._coming = iter(shards)
        self._returned: deque[Shard] = deque()
        self._left, self._workers = count, workers

    def __len__(self) -> int:
        return self._left

    def take(self, most: int) -> list[Shard]:
        """At most ``most`` shards, fewer if there would be too few blocks left for the other workers; [] at the end."""
        size = max(1, min(most, self._left // (BLOCKS_LEFT * self._workers)))
        block = [shard for _ in range(size) if (shard := self._next()) is not None]
        self._left = max(self._left - len(block), 0) if block else 0
        return block

    def give_back(self, shards: Iterable[Shard]) -> None:
        """Hand these out again, before all others."""
        returned = list(shards)
        self._returned.extendleft(reversed(returned))
        self._left += len(returned)

    def _next(self) -> Shard | None:
        return self._returned.popleft() if self._returned else next(self._coming, None)


def next_size(size: int, seconds: float) -> int:
    """The size of a worker's next block, after one of ``size`` shards that took ``seconds``."""
    if seconds < QUICK_SECONDS:
        return min(2 * size, MOST_SHARDS)
    return max(1, size // 2) if seconds > SLOW_SECONDS else size
